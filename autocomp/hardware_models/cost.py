"""The costs that a hardware model predicts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

Number = Any  # a float, or an (n,) float64 array


@dataclass(frozen=True, eq=False)
class Cost:
    """Costs of one plan (floats) or of n plans ((n,) float64 arrays). MB are 1e6 bytes.

    latency_ms: of the whole batch.
    memory_mb: weights and the peak of live activations on the device.
    size_mb: of the exported file.
    energy_mj: of the whole batch; an estimate from published energies of operations and bytes.
    macs: multiply-accumulates of the whole batch, without padding.
    params: elements of all parameters.
    bops: bit operations of the whole batch: multiply-accumulates times the bits of both factors; floats count 32.
    weight_bytes: of the layers' weights at their exact bits, and of embeddings and the like at 32; without scales,
        biases, normalisations and the file around them. As papers state it, whatever a runtime stores or executes.
    tpot_ms: of a language model at a context, the time of one further token for the whole batch; 0 without a context.
    cache_mb: of its keys and values at that context, for the whole batch; part of ``memory_mb``. 0 without a context.
    """

    latency_ms: Number
    memory_mb: Number
    size_mb: Number
    energy_mj: Number
    macs: Number
    params: Number
    bops: Number = 0.0
    weight_bytes: Number = 0.0
    tpot_ms: Number = 0.0
    cache_mb: Number = 0.0

    @classmethod
    def metrics(cls) -> tuple[str, ...]:
        return tuple(f.name for f in fields(cls))

    def __len__(self) -> int:
        if np.ndim(self.latency_ms) == 0:
            raise TypeError("the cost of one plan has no length; costs of several plans have")
        return len(self.latency_ms)

    def __getitem__(self, i: int) -> Cost:
        values = (np.broadcast_to(getattr(self, name), (len(self),)) for name in self.metrics())
        return Cost(*(float(value[i]) for value in values))

    def __iter__(self) -> Iterator[Cost]:
        return (self[i] for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Cost):
            return NotImplemented
        return all(np.array_equal(getattr(self, name), getattr(other, name)) for name in self.metrics())

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True)
class OperatorCost:
    """One operator as the device runs it: a layer with the operators fused into it.

    bound: the largest part of its time: ``compute``, ``memory`` or ``launch``.
    share: of the inference's latency.
    """

    name: str
    kind: str
    fused: tuple[str, ...]
    latency_ms: float
    bound: str
    share: float
    bytes: float
    macs: float
