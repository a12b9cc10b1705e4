"""One training with several quantizers: each layer is rounded by the one that its plan names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from autocomp.primitives.cells.fake_quant import InputFakeQuant, WeightFakeQuant
from autocomp.primitives.cells.trained_layers import TrainedLayer
from autocomp.primitives.cells.training_callbacks import CalibrateBatchNorm, CalibrateFirst
from autocomp.search_spaces import NetworkGraph

from .trained_quantization import TrainedQuantization


class MixedTraining(TrainedQuantization):
    """Layers are rounded by the quantizers of ``algorithms``, all others by ``others``; one network, one training.

    algorithms: layer -> a quantizer; layers may share one. The schedules of all of them run: each acts on the cells of
        its own layers.
    """

    name = "mixed-training"

    def __init__(self, algorithms: Mapping[str, TrainedQuantization], others: TrainedQuantization) -> None:
        super().__init__(others.weight_bits, others.activation_bits, others.first_last_bits, others.calibration)
        self.algorithms, self.others = dict(algorithms), others
        self.adapts = any(one.adapts for one in self._every)

    def of(self, path: str) -> TrainedQuantization:
        """The quantizer of a layer."""
        return self.algorithms.get(path, self.others)

    @property
    def _every(self) -> tuple[TrainedQuantization, ...]:
        return tuple({id(one): one for one in (*self.algorithms.values(), self.others)}.values())

    def weight_quantizer(self, weight: np.ndarray, norm: Any, bits: int) -> WeightFakeQuant:
        return self.others.weight_quantizer(weight, norm, bits)

    def input_quantizer(self, positive: bool) -> InputFakeQuant:
        return self.others.input_quantizer(positive)

    def _layer(self, layer: Any, graph: NetworkGraph, path: str, norm: Any) -> TrainedLayer:
        own = self.of(path)
        own.signed_inputs = self.signed_inputs
        return own._layer(layer, graph, path, norm)

    def _adapts(self, path: str) -> bool:
        return self.of(path).adapts

    def callbacks(self) -> list[Any]:
        """The calibration once, and once the schedules of each kind of quantizer, which find their cells themselves."""
        *found, calibrate = super().callbacks()
        for one in {type(one): one for one in self._every}.values():
            one._last = self._last
            found += [own for own in one.callbacks() if not _common(own)]
        return [*found, calibrate]


def _common(callback: Any) -> bool:
    """Whether it is the same for every quantizer, and not its own."""
    plain = isinstance(callback, CalibrateBatchNorm) and not callback.sharpened
    return plain or isinstance(callback, CalibrateFirst)
