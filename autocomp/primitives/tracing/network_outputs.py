"""A network's outputs: the batch axis of each tensor, so that batches are joined along it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autocomp.search_spaces import NetworkGraph

from .batch_axis import growing_axes
from .platform import forward_named

Arrays = tuple[np.ndarray, ...]
SAME = 1e-2  # relative, of a sample alone and in a batch


@dataclass(frozen=True)
class NetworkOutput:
    """One tensor that the network returns.

    name: for people. axis: that of the batch; None for a tensor without one.
    each: how many places along the axis one sample takes; more than one where the axis is joined with another.
    constant: whether it is the same for all inputs.
    """

    name: str
    axis: int | None = 0
    each: int = 1
    constant: bool = False

    def joined(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """One array from those of consecutive batches; without a batch axis the first."""
        return parts[0] if self.axis is None else np.concatenate(parts, self.axis)

    def rows(self, array: np.ndarray, samples: np.ndarray) -> np.ndarray:
        """The part of the output that belongs to these samples, (n,) int, along the axis."""
        if self.axis is None:
            return array
        places = (np.asarray(samples)[:, None] * self.each + np.arange(self.each)).reshape(-1)
        return np.take(array, places, self.axis)

    def samples_first(self, array: np.ndarray) -> np.ndarray:
        return array if self.axis is None else np.moveaxis(array, self.axis, 0)


def describe_outputs(net: Any, graph: NetworkGraph, inputs: Arrays) -> tuple[NetworkOutput, ...]:
    """Describe each output from forward passes of the network at a batch of one and of two.

    inputs: arrays (n, ...), n at least 1. ValueError for an output whose batch cannot be told; it is named.
    """
    pair = tuple(np.resize(array[:2], (2, *array.shape[1:])) for array in inputs)
    one, other = (_run(net, tuple(array[i : i + 1] for array in pair)) for i in (0, 1))
    try:
        both = _run(net, pair)
    except Exception:  # the network's own code, which may take a batch of one alone
        return _as_traced(graph, one)
    made = [graph.fed[node] for node in graph.outputs]
    fed = made if len(made) == len(one) else [True] * len(one)
    names = output_names(one)
    found = zip(names, fed, one, other, both, strict=True)
    return tuple(_seen(name, f, a[1], b[1], ab[1]) for name, f, a, b, ab in found)


def output_names(outputs: Sequence[tuple[str, Any]]) -> list[str]:
    """``output 1 ('aux')``, where a dict has that key; counted from 0."""
    if len(outputs) == 1 and not outputs[0][0]:
        return ["the output"]
    return [f"output {i}" + (f" ({key!r})" if key else "") for i, (key, _) in enumerate(outputs)]


def _run(net: Any, inputs: Arrays) -> list[tuple[str, np.ndarray]]:
    try:
        return forward_named(net, inputs, graph=False)
    except Exception:  # a network that only GRAPH mode takes
        return forward_named(net, inputs)


def _as_traced(graph: NetworkGraph, one: Sequence[tuple[str, np.ndarray]]) -> tuple[NetworkOutput, ...]:
    axes = growing_axes(graph)
    known = [axes[node] for node in graph.outputs] if len(graph.outputs) == len(one) else [0] * len(one)
    names = output_names(one)
    return tuple(
        NetworkOutput(name, (0 if axis is None else axis) if array.ndim else None)
        for name, axis, (_, array) in zip(names, known, one, strict=True)
    )


def _seen(name: str, fed: bool, one: np.ndarray, other: np.ndarray, both: np.ndarray) -> NetworkOutput:
    if one.shape == other.shape == both.shape:
        return NetworkOutput(name, None, constant=not fed or (_equal(one, other) and _equal(one, both)))
    grown = [axis for axis in range(both.ndim) if one.ndim == both.ndim and one.shape[axis] != both.shape[axis]]
    if len(grown) != 1 or both.shape[grown[0]] != 2 * one.shape[grown[0]]:
        raise ValueError(
            f"{name} must have one axis that counts the samples, to be joined along in batches, but it has the shape "
            f"{one.shape} for one sample and {both.shape} for two: return it otherwise, or leave it out"
        )
    (axis,) = grown
    if one.shape[axis] > 1 and not _close(np.concatenate([one, other], axis), both):
        raise ValueError(
            f"{name} must have an axis of its own that counts the samples, or samples one after the other, but axis "
            f"{axis} of its shape {both.shape} for two samples mixes them: return it reshaped"
        )
    return NetworkOutput(name, axis, one.shape[axis])


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return np.array_equal(a, b)


def _close(found: np.ndarray, expected: np.ndarray) -> bool:
    if expected.dtype.kind != "f":
        return bool(np.mean(found == expected) > 1 - SAME)
    scale = max(float(np.abs(expected).max(initial=0)), 1e-12)
    return float(np.abs(found.astype(np.float64) - expected).max(initial=0)) <= SAME * scale
