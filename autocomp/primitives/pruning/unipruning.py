"""UniPruning: channels in groups of the hardware's width, set to zero during training, and removed in the end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from mindspore.train import Callback

from autocomp.primitives.arguments import RULES
from autocomp.primitives.cells.compression_state import state_of
from autocomp.primitives.cells.fake_quant import assign
from autocomp.primitives.numerics.plan_compressor import kept_channels, parameters_of
from autocomp.primitives.tracing.exclusion import Patterns
from autocomp.primitives.tracing.weight_layout import to_out_first_layout, weight_of
from autocomp.rules import checked
from autocomp.search_spaces import NetworkGraph

from .channel_pruning import keep_step
from .importance import norms
from .selection import Share, select
from .trained_pruning import Batch, Batches, TrainedPruning


class UniPruning(TrainedPruning):
    """As MindSpore Golden Stick describes it (``mindspore_gs/pruner/uni_pruning``; no paper is named there).

    >>> algorithm = UniPruning(parameters=0.5, channel_divisor=16)
    >>> net_p = algorithm.apply(net)
    >>> ms.Model(net_p, loss, optimizer).train(20, train_set, callbacks=algorithm.callbacks())
    >>> smaller = algorithm.convert(net_p)

    A channel's importance is the L2 norm of its filter times the magnitude of BatchNorm's factor. The channels of a
    layer are sorted by it and divided into channel blocks of the hardware's width. The importance of a channel block is
    its median, relative to the highest median of the layer; the channel blocks with the lowest importance in the whole
    network are cut until the share is met.

    Every few epochs the channels are chosen again and the weights that read them are set to zero. This is not final:
    the weights continue to train, so that a channel that the network needs becomes nonzero again. In the last part of
    the training the choice is final: the channels stay zero, and the rest is fine-tuned as it will be converted. Golden
    Stick sets them to zero once more at the very end instead; then nothing compensates for the weights that became
    nonzero meanwhile.

    Args:
        keep_ratio, flops, parameters: exactly one of them, the share of the units, multiply-accumulates or parameters
            that stays.
        channel_divisor: width of a channel block; a group of fewer than two of them is cut in eighths of its units.
        min_keep_ratio, per_cost: see :class:`autocomp.primitives.pruning.selection.Share`.
        every: epochs between two choices; may be a fraction. soft: share of the steps before the final choice, in [0,
            1).
        reconstruct, exclude: see :class:`TrainedPruning`; at the final choice.
    """

    name = "unipruning"

    @checked(RULES["UniPruning"])
    def __init__(
        self,
        *,
        keep_ratio: float | None = None,
        flops: float | None = None,
        parameters: float | None = None,
        channel_divisor: int = 16,
        min_keep_ratio: float = 0.1,
        per_cost: bool = False,
        every: float = 1,
        soft: float = 0.5,
        reconstruct: bool = True,
        exclude: Patterns = (),
    ) -> None:
        if not every > 0:
            raise ValueError(f"every must be above 0, but got every={every}")
        if not 0 <= soft < 1:
            raise ValueError(f"soft must be in [0, 1), but got soft={soft}")
        share = Share(keep_ratio, flops, parameters, False, channel_divisor, min_keep_ratio, per_cost)
        super().__init__(share, reconstruct, exclude)
        self.every, self.soft = every, soft

    @staticmethod
    def price(importance: np.ndarray) -> float:
        """The importance of a channel block is its median."""
        return float(np.median(importance))

    def importance(self, net_p: Any, batches: Iterable[Batch] = (), loss: Any = None) -> np.ndarray:
        graph = state_of(net_p).graph
        return relative_to_the_best(graph, norms(graph, parameters_of(net_p)), self.share.channel_divisor)

    def zero(self, net_p: Any) -> np.ndarray:
        """Set the weights that read the least important channels to zero; they continue to train.

        Returns (units,) bool, the other units.
        """
        graph, trained = state_of(net_p).graph, parameters_of(net_p)
        kept = select(graph, trained, self.importance(net_p), self.share, self.price)
        parameters = {p.name: p for p in net_p.get_parameters()}
        for path in state_of(net_p).layers:
            node = graph.nodes[graph.layers[path]]
            weight = np.array(weight_of(node, trained))
            weight[:, ~kept_channels(graph.input_units(node), kept).reshape(node.groups, -1)[0]] = 0
            name = node.weight
            assign(parameters[name], to_out_first_layout(weight, node.groups) if node.transposed else weight)
        return kept

    def callbacks(self) -> list[Any]:
        *_, calibrate = super().callbacks()
        return [ZeroEvery(self, self._last), calibrate]


class ZeroEvery(Callback):
    """Sets weights to zero every few epochs, or steps, and prunes when the part of the training before the final choice
    is over."""

    def __init__(self, algorithm: UniPruning, net_p: Any) -> None:
        super().__init__()
        self.algorithm, self.net_p = algorithm, net_p
        self.final, self.due = False, 0  # the step at which it chooses next

    def on_train_begin(self, run_context: Any) -> None:
        self.final, self.due = self.algorithm.is_pruned(self.net_p), 0

    def on_train_step_begin(self, run_context: Any) -> None:
        arguments, algorithm = run_context.original_args(), self.algorithm
        done = arguments.cur_step_num - 1
        if self.final:
            return
        if done >= algorithm.soft * arguments.epoch_num * arguments.batch_num:
            algorithm.prune(self.net_p, Batches(arguments.train_dataset))
            self.final = True
        elif done >= self.due:
            algorithm.zero(self.net_p)
            self.due = done + max(round(algorithm.every * arguments.batch_num), 1)

    def on_train_end(self, run_context: Any) -> None:
        if not self.algorithm.is_pruned(self.net_p):
            self.algorithm.prune(self.net_p, Batches(run_context.original_args().train_dataset))


def relative_to_the_best(graph: NetworkGraph, importance: np.ndarray, channel_divisor: int) -> np.ndarray:
    """The importance divided by the highest median of a channel block in the channel group."""
    relative = np.array(importance)
    for group in graph.channel_groups:
        part = slice(group.start, group.stop)
        best = np.sort(importance[part])[-keep_step(group, channel_divisor) :]
        relative[part] /= max(float(np.median(best)), 1e-12)
    return relative
