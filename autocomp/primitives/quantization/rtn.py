"""Rounding to nearest (RTN): fewer bits for a layer's weights and inputs, without training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from autocomp.primitives.arguments import RULES
from autocomp.primitives.numerics.reconstruction import Moments
from autocomp.rules import checked
from autocomp.search_spaces import FLOAT_BITS, Format, Knob, NetworkGraph, Plan

from .format_knobs import format_knobs, table_knobs
from .rounding_settings import Clip, RoundingSettings

if TYPE_CHECKING:
    from autocomp.primitives.numerics.calibrators import Calibration

    from .round_to_nearest import RoundToNearest


class RTN:
    """In a search: a knob for each conv and dense layer, with the formats that the device offers, and one for each
    embedding, whose rows are stored in 8 or 4 bits with a scale each.

    Weights are rounded per output channel, symmetric; inputs per tensor, asymmetric, with calibrated ranges
    (:mod:`autocomp.primitives.numerics.quantizers`). Used alone, it has the same interface as the quantizers that
    train:

    >>> rtn = RTN(weight_bits=8, activation_bits=8)
    >>> deploy = rtn.convert(rtn.apply(net, calibrate=images))

    Args:
        weight_bits, activation_bits: 2 to 8, or 32 for none. first_last_bits: least number of bits in the first and
            last layer.
        calibration: of inputs' ranges: "mse" (least squared error), "minmax", "percentile" or "kl".
        per_channel: a scale for each output channel of a weight, otherwise one scale; then a BatchNorm after the layer
            is folded first.
        symmetric: ranges of inputs symmetric around zero. clip: of weights, "mse" or "max".
        symmetric_weights: ranges of weights symmetric around zero; otherwise they have a zero point, too.
        group_size: so many inputs of an output channel share a scale (and zero point), or, where a layer's inputs are
            not a multiple of it, the largest divisor; None: all of them.
    """

    name = "rtn"

    @checked(RULES["RTN"])
    def __init__(
        self,
        weight_bits: int = 8,
        activation_bits: int = 8,
        first_last_bits: int | None = None,
        calibration: Calibration = "mse",
        per_channel: bool = True,
        symmetric: bool = False,
        clip: Clip = "mse",
        symmetric_weights: bool = True,
        group_size: int | None = None,
    ) -> None:
        self._settings = RoundingSettings(
            weight_bits=weight_bits,
            activation_bits=activation_bits,
            first_last_bits=first_last_bits,
            calibration=calibration,
            per_channel=per_channel,
            symmetric=symmetric,
            clip=clip,
            symmetric_weights=symmetric_weights,
            group_size=group_size,
        )
        self._needs_inputs = activation_bits != FLOAT_BITS
        self.signed_inputs = False  # as in the quantizers that train
        self._made: RoundToNearest | None = None

    @property
    def _algorithm(self) -> RoundToNearest:
        if self._made is None:
            from .round_to_nearest import RoundToNearest  # loads MindSpore, which a search's workers do not need

            self._made = RoundToNearest(self._settings)
        self._made.signed_inputs = self.signed_inputs
        return self._made

    @checked(RULES["apply"])
    def apply(
        self, net: Any, inputs: Any = None, calibrate: Any = None, plan: Plan | Mapping[str, Any] | None = None
    ) -> Any:
        """A new Cell that rounds; arguments as for :meth:`TrainedQuantization.apply`.

        ValueError where inputs are rounded and there are no samples to calibrate on.
        """
        if calibrate is None and self._needs_inputs:
            raise ValueError("rtn needs samples for the ranges of inputs: apply(net, calibrate=images)")
        return self._algorithm.apply(net, inputs, calibrate, plan)

    @checked(RULES["set_plan"])
    def set_plan(self, net_q: Any, plan: Plan | Mapping[str, Any] | None = None) -> None:
        self._algorithm.set_plan(net_q, plan)

    def callbacks(self) -> list[Any]:
        """There are none, since there is no training."""
        return []

    def convert(self, net_q: Any) -> Any:
        """A new Cell for deployment: BatchNorm folded, weights stored as integers, inputs rounded."""
        return self._algorithm.convert(net_q)

    def knobs(
        self,
        graph: NetworkGraph,
        parameters: Mapping[str, np.ndarray],
        formats: Sequence[Format],
        channel_divisor: int,
        moments: Mapping[str, Moments],
    ) -> tuple[Knob, ...]:
        tables = table_knobs(self.name, graph, formats)
        if tables and not graph.layers:
            return tables
        return (*tables, *format_knobs(self.name, tuple(graph.layers), formats))
