"""All buffers of onnxruntime in addition to tensors and stored weights, as functions of few knobs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from autocomp.hardware_models.lookup import Lookup
from autocomp.hardware_models.lowered import LoweredNetwork
from autocomp.hardware_models.runtimes.base import Buffers
from autocomp.search_spaces import Workload

from .transient import transient_bytes, transient_knobs


@dataclass(frozen=True)
class OnnxruntimeBuffers(Buffers):
    """Memory that operators need while they run. transients: position of an operator -> bytes while it runs."""

    transients: Mapping[int, Lookup]

    @classmethod
    def of(cls, lowered: LoweredNetwork) -> OnnxruntimeBuffers:
        return cls({
            position: Lookup(transient_knobs(lowered, operator), _at(lowered, position))
            for position, operator in enumerate(lowered.program.operators)
        })  # fmt: skip

    def tabulated(self, tabulate: Callable[[Lookup], Lookup]) -> OnnxruntimeBuffers:
        return OnnxruntimeBuffers({position: tabulate(lookup) for position, lookup in self.transients.items()})

    def bytes_of(self, workload: Workload, operators: int) -> np.ndarray:
        if not self.transients:
            return np.zeros((operators, 1))
        return np.stack([self.transients[position](workload) for position in range(operators)])

    def at(self, position: int) -> Lookup | None:
        return self.transients.get(position)


def _at(lowered: LoweredNetwork, position: int) -> Callable[[Workload], np.ndarray]:
    device, program = lowered.device, lowered.program
    return lambda some: transient_bytes(LoweredNetwork(device, program, some), position)
