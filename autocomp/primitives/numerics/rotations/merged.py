"""Parameters of a network whose tensors are multiplied by orthogonal matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .matrices import rotated, rotation_matrix
from .rotated_axes import Gain, RotatedAxes


@dataclass(frozen=True)
class TurnedGain:
    """Behind a norm without gains: x -> x matrix + shift. matrix: R diag(scale) R^T, (channels, channels); shift:
    (channels,) or None."""

    matrix: np.ndarray
    shift: np.ndarray | None


@dataclass(frozen=True)
class Merged:
    """parameters: those that change, by name, float32. gains: path of a norm -> what stands behind it, where readers
    cannot take in its gains."""

    parameters: dict[str, np.ndarray]
    gains: dict[str, TurnedGain]


def merged_rotations(parameters: Mapping[str, np.ndarray], found: Sequence[RotatedAxes], seed: int) -> Merged:
    """The sums are computed in float64."""
    values, turned, rng = _Values(parameters), {}, np.random.default_rng(seed)
    matrices = [rotation_matrix(axes.block, rng, axes.keeps_mean) for axes in found]
    for axes, matrix in zip(found, matrices, strict=True):
        for gain in axes.gains:
            scale = values[gain.scale].reshape(-1)
            shift = None if gain.shift is None else values[gain.shift].reshape(-1)
            if np.ptp(scale) == 0 and (shift is None or not shift.any()):
                continue  # a multiple of the identity commutes
            if gain.moves:
                _into_readers(values, gain, scale, shift)
            else:
                turned[gain.cell] = _turned(scale, shift, matrix)
            values[gain.scale] = np.ones_like(values[gain.scale])
            if gain.shift is not None:
                values[gain.shift] = np.zeros_like(values[gain.shift])
    for axes, matrix in zip(found, matrices, strict=True):
        for name, axis in sorted(axes.places):
            values[name] = rotated(values[name], matrix, axis)
    return Merged({name: value.astype(np.float32) for name, value in values.changed.items()}, turned)


class _Values:
    """Parameters in float64; those that were set."""

    def __init__(self, parameters: Mapping[str, np.ndarray]) -> None:
        self.parameters, self.changed = parameters, dict[str, np.ndarray]()

    def __getitem__(self, name: str) -> np.ndarray:
        return self.changed.get(name, np.asarray(self.parameters[name], np.float64))

    def __setitem__(self, name: str, value: np.ndarray) -> None:
        self.changed[name] = value


def _into_readers(values: _Values, gain: Gain, scale: np.ndarray, shift: np.ndarray | None) -> None:
    """W (scale x + shift) + b = (W diag(scale)) x + (b + W shift)."""
    for reader in gain.readers:
        weight = np.moveaxis(values[reader.weight], reader.axis, -1)
        times = weight.shape[-1] // len(scale)
        if shift is not None and reader.bias is not None:
            values[reader.bias] = values[reader.bias] + weight @ np.tile(shift, times)
        values[reader.weight] = np.moveaxis(weight * np.tile(scale, times), -1, reader.axis)


def _turned(scale: np.ndarray, shift: np.ndarray | None, matrix: np.ndarray) -> TurnedGain:
    turned = rotated(rotated(np.diag(scale), matrix, 0), matrix, 1)
    bias = None if shift is None else rotated(shift, matrix, 0).astype(np.float32)
    return TurnedGain(turned.astype(np.float32), bias)
