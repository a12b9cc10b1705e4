"""The constants of a chip, and the time of an operator with them. These constants are fitted to measurements."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from typing import Any

import numpy as np

FLOAT, INT8, INT4 = range(3)
PRECISIONS = ("float", "int8", "int4")


@dataclass(frozen=True)
class RuntimeWork:
    """The work of a runtime at an operator in addition to the arithmetic, each (n,): none, unless a subclass adds
    some."""


@dataclass(frozen=True)
class RuntimeRates:
    """The constants for a runtime's own work: none, unless a subclass adds some."""

    def serial(self, vector: np.ndarray, grouped: np.ndarray, work: RuntimeWork) -> np.ndarray:
        """(n,) seconds before or after the matrix unit runs, including the runtime's own work.

        vector, grouped: seconds of elementwise operations, and of grouped convolutions outside the matrix unit.
        """
        return vector + grouped


@dataclass(frozen=True)
class Demand:
    """The work of an operator, each (n,); it contains no constant of a chip's speed.

    matrix: precision -> multiply-accumulates of the matrix unit, including padding and idle cores.
    grouped: multiply-accumulates of grouped convolutions that run outside the matrix unit.
    traffic, weights: bytes of activations and of weights that are moved; float_traffic, float_weights: the same where a
        layer that is set to integers runs in floats.
    other_live_activations: bytes of other live activations, which occupy the cache.
    vector: elementwise operations. transcendental: elements of transcendental functions. softmax_layernorm: elements of
        softmaxes and layer norms.
    transposed: bytes that a transpose reads and writes where it moves less than a block at once.
    in_place: whether the operator only joins tensors that are contiguous in memory.
    misaligned: how many times as long it takes in floats because of channels between those that kernels read at once.
    precision: index of the arithmetic that the layer is set to.
    windowed: whether a kernel of more than one position is multiplied.
    runtime: the runtime's own work.
    idle: the time of a matrix product or a softmax, relative to the time with all cores busy.
    sparse: whether two of every four weights are zero.
    before: operators that run before it, which divide its input by scales; a part of one where several layers share it.
    """

    matrix: Mapping[str, np.ndarray]
    grouped: np.ndarray
    traffic: np.ndarray
    weights: np.ndarray
    float_traffic: np.ndarray
    float_weights: np.ndarray
    other_live_activations: np.ndarray
    vector: np.ndarray
    transcendental: np.ndarray
    softmax_layernorm: np.ndarray
    transposed: np.ndarray
    in_place: np.ndarray
    misaligned: np.ndarray
    precision: np.ndarray
    windowed: np.ndarray
    runtime: RuntimeWork
    idle: np.ndarray
    sparse: np.ndarray
    before: np.ndarray


@dataclass(frozen=True)
class Seconds:
    compute: np.ndarray
    memory: np.ndarray
    launch: np.ndarray
    total: np.ndarray


@dataclass(frozen=True)
class Rates:
    """A chip's speed.

    macs_per_s: precision -> rate of the matrix unit; a missing precision is not executed. Weights
        that are only stored in integers are converted to floats once, before any inference.
    window_share: the share of that rate that kernels of more than one position reach.
    grouped_macs_per_s: of depthwise convolutions outside the matrix unit; ``grouped_share``: precision -> factor to it.
    cache_bytes, cache_bytes_per_s, dram_bytes_per_s: an operator's bytes pass the cache as far as they fit into it.
    vector_per_s: elementwise operations; a transcendental function counts as ``transcendental_operations`` of them, an
        element of a softmax or layer norm as ``softmax_layernorm_operations``.
    transposed_bytes_per_s: of transposes that move less than a block at once.
    operator_s: precision -> fixed time of an operator. inference_s: fixed time of an inference.
    overlapped: whether activations are moved while the arithmetic runs.
    runtime: constants of the runtime's own work; in files and fits they are among the others.
    sparse_share: precision -> the share of the arithmetic's time that 2:4 sparse weights take; sparse_operator_s: the
        fixed time that they add to an operator. A precision that is missing gains nothing from them.
    """

    macs_per_s: Mapping[str, float]
    grouped_macs_per_s: float
    cache_bytes: float
    cache_bytes_per_s: float
    dram_bytes_per_s: float
    vector_per_s: float
    transcendental_operations: float
    softmax_layernorm_operations: float
    operator_s: Mapping[str, float]
    inference_s: float
    overlapped: bool
    grouped_share: Mapping[str, float] = field(default_factory=dict)
    runtime: RuntimeRates = RuntimeRates()
    window_share: float = 1.0
    sparse_share: Mapping[str, float] = field(default_factory=dict)
    sparse_operator_s: float = 0.0
    transposed_bytes_per_s: float = float("inf")

    @classmethod
    def parse(cls, data: Mapping[str, Any], runtime: type[RuntimeRates] = RuntimeRates) -> Rates:
        """data: the table [rates] of a device file. runtime: the constants of the device's runtime."""
        own = [f for f in fields(cls) if f.name != "runtime"]
        optional = {f.name for f in own if f.default is not MISSING or f.default_factory is not MISSING}
        values = {f.name: data[f.name] for f in own if f.name in data or f.name not in optional}
        return cls(**values, runtime=runtime(**{f.name: data[f.name] for f in fields(runtime) if f.name in data}))

    def constants(self) -> dict[str, Any]:
        """All constants by name, including the runtime's, as in a file."""
        every = {**vars(self), **vars(self.runtime)}
        return {name: every[name] for name in constant_fields(type(self.runtime))}

    def with_constants(self, values: Mapping[str, Any]) -> Rates:
        """The same rates with other values for these constants."""
        theirs = {name: value for name, value in values.items() if name in vars(self.runtime)}
        own = {name: value for name, value in values.items() if name not in theirs}
        return replace(self, runtime=replace(self.runtime, **theirs), **own)

    def spilled(self, traffic: np.ndarray, other_live_activations: np.ndarray) -> np.ndarray:
        """(n,) bytes of activations that do not fit into the cache beside the others."""
        return np.maximum(traffic - np.maximum(self.cache_bytes - other_live_activations, 0), 0)

    def seconds(self, demand: Demand) -> Seconds:
        """A layer set to integers runs in floats where that is faster."""
        moved = self._moved(demand, demand.traffic, demand.weights)
        in_floats = self._moved(demand, demand.float_traffic, demand.float_weights)
        slow = (
            demand.transcendental * self.transcendental_operations
            + demand.softmax_layernorm * demand.idle * self.softmax_layernorm_operations
        )
        vector = (demand.vector + slow) / self.vector_per_s
        serial = self.runtime.serial(vector, self._grouped(demand), demand.runtime)
        serial = serial + demand.transposed / self.transposed_bytes_per_s + demand.before * self.operator_s["float"]
        launch = np.where(demand.in_place, 0, self.operator_s["float"])
        slowed = demand.idle * np.where(demand.windowed, 1 / self.window_share, 1.0)
        best = self._quickest(demand, "float", slowed, in_floats, launch)
        best = (best[0] + (demand.misaligned - 1) * best[3], best[1], best[2], best[3] * demand.misaligned)
        for code, name in enumerate(PRECISIONS):
            if code and name in self.macs_per_s:
                time = self._quickest(demand, name, slowed, moved, self.operator_s[name])
                quicker = (demand.precision >= code) & (time[3] < best[3])
                best = tuple(np.where(quicker, new, old) for new, old in zip(time, best, strict=True))
        return Seconds(best[0] + serial, best[1], best[2], best[3] + serial)

    def _quickest(
        self, demand: Demand, name: str, slowed: np.ndarray, moved: tuple[np.ndarray, np.ndarray], launch: Any
    ) -> tuple[np.ndarray, ...]:
        """The times in one precision. Sparse weights are multiplied as if they were dense where that is faster."""
        compute = demand.matrix[name] * slowed / self.macs_per_s[name]
        dense = self._together(compute, *moved, launch)
        if name not in self.sparse_share or not demand.sparse.any():
            return dense
        sparse = self._together(compute * self.sparse_share[name], *moved, launch + self.sparse_operator_s)
        quicker = demand.sparse & (sparse[3] < dense[3])
        return tuple(np.where(quicker, new, old) for new, old in zip(sparse, dense, strict=True))

    def _moved(self, demand: Demand, traffic: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Seconds to move weights and activations. With idle cores the cache is slower, but never slower than the
        memory."""
        spilled = self.spilled(traffic, demand.other_live_activations)
        cached = np.where(demand.in_place, 0, traffic - spilled)
        least = min(self.cache_bytes_per_s, self.dram_bytes_per_s)
        cache = np.maximum(self.cache_bytes_per_s / demand.idle, least)
        return weights / self.dram_bytes_per_s, cached / cache + spilled / self.dram_bytes_per_s

    def _grouped(self, demand: Demand) -> np.ndarray:
        shares = np.array([self.grouped_share.get(name, 1.0) for name in PRECISIONS])
        return demand.grouped / (self.grouped_macs_per_s * shares[demand.precision])

    def _together(
        self, compute: np.ndarray, weights: np.ndarray, activations: np.ndarray, launch: Any
    ) -> tuple[np.ndarray, ...]:
        """Weights are always fetched ahead of the arithmetic."""
        memory = weights + activations
        body = np.maximum(compute, memory if self.overlapped else weights)
        return compute, memory, launch, body + launch + (0 if self.overlapped else activations)


def constant_fields(runtime: type[RuntimeRates]) -> dict[str, Field[Any]]:
    """Name -> field of all constants of a device with this runtime, in the order of its file."""
    found: dict[str, Field[Any]] = {}
    for one in fields(Rates):
        found |= {f.name: f for f in fields(runtime)} if one.name == "runtime" else {one.name: one}
    return found
