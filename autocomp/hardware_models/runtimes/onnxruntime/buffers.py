"""All buffers of onnxruntime in addition to tensors and stored weights, as functions of few knobs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from autocomp.hardware_models.lookup import Lookup
from autocomp.hardware_models.lowered import LoweredNetwork
from autocomp.hardware_models.runtimes.base import Buffers
from autocomp.search_spaces import Workload

from .buffer_reuse import repeated, reusable_bytes, unpacked_weight
from .transient import transient_bytes, transient_knobs


@dataclass(frozen=True)
class OnnxruntimeBuffers(Buffers):
    """Memory that operators need while they run, and floats of weights that are kept for a later layer.

    transients: position of an operator -> bytes while it runs.
    weights: position -> the floats of its weight, for operators of the groups ``repeated``.
    """

    transients: Mapping[int, Lookup]
    weights: Mapping[int, Lookup]
    repeated: list[tuple[int, ...]]

    @classmethod
    def of(cls, lowered: LoweredNetwork) -> OnnxruntimeBuffers:
        operators, groups = lowered.program.operators, repeated(lowered)
        transients = {
            position: Lookup(transient_knobs(lowered, operator), _at(transient_bytes, lowered, position))
            for position, operator in enumerate(operators)
        }
        weights = {
            position: Lookup(lowered.knobs(operators[position]), _at(unpacked_weight, lowered, position))
            for positions in groups
            for position in positions
        }
        return cls(transients, weights, groups)

    def tabulated(self, tabulate: Callable[[Lookup], Lookup]) -> OnnxruntimeBuffers:
        transients, weights = (
            {position: tabulate(lookup) for position, lookup in lookups.items()}
            for lookups in (self.transients, self.weights)
        )
        return OnnxruntimeBuffers(transients, weights, self.repeated)

    def bytes_of(self, workload: Workload, operators: int) -> np.ndarray:
        if not self.transients:
            return np.zeros((operators, 1))
        room = np.stack([self.transients[position](workload) for position in range(operators)])
        if self.weights:
            weights = {position: lookup(workload) for position, lookup in self.weights.items()}
            room += reusable_bytes(weights, self.repeated, operators)
        return room


def _at(
    function: Callable[[LoweredNetwork, int], np.ndarray], lowered: LoweredNetwork, position: int
) -> Callable[[Workload], np.ndarray]:
    device, program = lowered.device, lowered.program
    return lambda some: function(LoweredNetwork(device, program, some), position)
