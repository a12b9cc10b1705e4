"""Orthogonal matrices that spread a channel over all others, and parameters multiplied by them.

* A Hadamard matrix of a power of two (Sylvester's construction) has entries of one magnitude, 1 / sqrt(n). Random signs
  of its columns make outliers of several channels cancel (QuIP#, Tseng et al. 2024; QuaRot, Ashkboos et al. 2024,
  arXiv:2404.00456).
* Other sizes are 2^k m with m odd: the Kronecker product of a Hadamard matrix and a discrete Hartley transform, whose
  entries are at most sqrt(2 / m).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

MOST = 64  # rows of a factor of a matrix that multiplies while a network runs


def hadamard(size: int) -> np.ndarray:
    """(size, size) float64, orthogonal and symmetric, of a power of two."""
    matrix = np.ones((1, 1))
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix / math.sqrt(size)


def hartley(size: int) -> np.ndarray:
    """(size, size) float64, orthogonal and symmetric: (cos + sin)(2 pi i j / size) / sqrt(size)."""
    angles = 2 * np.pi * (np.outer(np.arange(size), np.arange(size)) % size) / size
    return np.asarray((np.cos(angles) + np.sin(angles)) / math.sqrt(size))


def rotation_matrix(size: int, rng: np.random.Generator, keeps_mean: bool = False) -> np.ndarray:
    """(size, size) float64, orthogonal.

    keeps_mean: whether it maps the vector of ones to itself, so that the mean and the variance over the channels stay
    the same, which a LayerNorm computes.
    """
    if not keeps_mean or size < 3:
        power = size & -size
        matrix = np.kron(hadamard(power), hartley(size // power))
        return np.eye(size) if keeps_mean else matrix * rng.choice([-1.0, 1.0], size)
    inner = np.eye(size)
    inner[1:, 1:] = rotation_matrix(size - 1, rng) * rng.choice([-1.0, 1.0], (size - 1, 1))
    mirror = _mirror(size)
    return np.asarray(mirror @ inner @ mirror)


def _mirror(size: int) -> np.ndarray:
    """The reflection that swaps the first axis and the direction of the ones."""
    normal = np.full(size, -1 / math.sqrt(size))
    normal[0] += 1
    return np.eye(size) - 2 * np.outer(normal, normal) / (normal @ normal)


def rotated(values: np.ndarray, matrix: np.ndarray, axis: int) -> np.ndarray:
    """The values, whose ``axis`` has whole blocks of as many channels as the matrix, each block multiplied by it."""
    moved = np.moveaxis(values.astype(np.float64), axis, -1)
    blocks = moved.reshape(*moved.shape[:-1], -1, len(matrix)) @ matrix.T
    return np.moveaxis(blocks.reshape(moved.shape), -1, axis)


def rotation_factors(size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Orthogonal matrices whose Kronecker product rotates ``size`` channels: one after the other multiplies in few
    operations. Powers of two are Hadamard matrices with random signs, of at most 64 rows each."""
    power, sizes = size & -size, []
    while power > 1:
        sizes.append(min(power, MOST))
        power //= sizes[-1]
    sizes += [size // (size & -size)] if size & (size - 1) else []
    return [rotation_matrix(one, rng) for one in sizes] or [np.eye(size)]


def rotated_by_factors(values: np.ndarray, factors: Sequence[np.ndarray]) -> np.ndarray:
    """The values, (..., channels), multiplied along the last axis by the Kronecker product of the factors."""
    whole = values.astype(np.float64)
    parts = whole.reshape(-1, *(len(factor) for factor in factors))
    for axis, factor in enumerate(factors, 1):
        parts = np.moveaxis(np.tensordot(parts, factor, axes=(axis, 1)), -1, axis)
    return parts.reshape(whole.shape)
