"""Prunes channels by a measure of their importance, before fine-tuning."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from autocomp.primitives.arguments import RULES
from autocomp.primitives.cells.compression_state import state_of
from autocomp.primitives.numerics.plan_compressor import parameters_of
from autocomp.primitives.tracing.exclusion import Patterns
from autocomp.rules import checked

from .importance import OF_THE_LOSS, OF_WEIGHTS
from .selection import Share, select
from .trained_pruning import Batch, GateGradients, TrainedPruning

IMPORTANCES = (*OF_WEIGHTS, *OF_THE_LOSS)


class ChannelPruner(TrainedPruning):
    """Prunes by one measure of importance; the least important units are pruned before fine-tuning.

    >>> algorithm = ChannelPruner("taylor", flops=0.5)
    >>> net_p = algorithm.apply(net)
    >>> ms.Model(net_p, loss, optimizer).train(5, train_set, callbacks=algorithm.callbacks())
    >>> smaller = algorithm.convert(net_p)

    Args:
        importance: "taylor", "fisher", "magnitude", "batchnorm_scale" or "geometric_median": see
            :mod:`autocomp.primitives.pruning.importance`.
        keep_ratio, flops, parameters: exactly one of them, the share of the units, multiply-accumulates or parameters
            that stays.
        per_layer, channel_divisor, min_keep_ratio, per_cost: see :class:`autocomp.primitives.pruning.selection.Share`.
        reconstruct, exclude: see :class:`TrainedPruning`.
        batches: batches of the training set for gradients ("taylor"). samples: samples of it, one at a time ("fisher").
        rounds: "taylor" and "fisher" estimate the loss of closing one gate alone. With several rounds, each keeps the
            same share of the units of the round before, and the remaining units are rated again in the network without
            the others.
    """

    name = "channel-pruner"

    @checked(RULES["ChannelPruner"])
    def __init__(
        self,
        importance: str = "taylor",
        *,
        keep_ratio: float | None = None,
        flops: float | None = None,
        parameters: float | None = None,
        per_layer: bool = False,
        channel_divisor: int = 1,
        min_keep_ratio: float = 0.1,
        per_cost: bool = False,
        reconstruct: bool = True,
        batches: int = 16,
        samples: int = 256,
        rounds: int = 4,
        exclude: Patterns = (),
    ) -> None:
        if importance not in IMPORTANCES:
            raise ValueError(f"importance must be one of {', '.join(IMPORTANCES)}, but got importance={importance!r}")
        for argument, value in (("batches", batches), ("samples", samples), ("rounds", rounds)):
            if value < 1:
                raise ValueError(f"{argument} must be 1 or more, but got {argument}={value}")
        share = Share(keep_ratio, flops, parameters, per_layer, channel_divisor, min_keep_ratio, per_cost)
        super().__init__(share, reconstruct, exclude)
        self.measure, self.batches, self.samples, self.rounds = importance, batches, samples, rounds

    def prune(self, net_p: Any, batches: Iterable[Batch] = (), loss: Any = None) -> None:
        if self.measure in OF_WEIGHTS:
            return super().prune(net_p, batches, loss)
        graph, gradients = state_of(net_p).graph, GateGradients(net_p, loss)
        for share in self.share.in_rounds(self.rounds):
            importance = self._of_the_loss(gradients, batches)
            self.keep(net_p, select(graph, parameters_of(net_p), importance, share, self.price), batches)

    def importance(self, net_p: Any, batches: Iterable[Batch], loss: Any) -> np.ndarray:
        if self.measure in OF_WEIGHTS:
            return OF_WEIGHTS[self.measure](state_of(net_p).graph, parameters_of(net_p))
        return self._of_the_loss(GateGradients(net_p, loss), batches)

    def _of_the_loss(self, gradients: GateGradients, batches: Iterable[Batch]) -> np.ndarray:
        size, most = (1, self.samples) if self.measure == "fisher" else (None, self.batches)
        return OF_THE_LOSS[self.measure](gradients(batches, size, most))
