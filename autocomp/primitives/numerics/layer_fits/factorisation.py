"""A layer's weight as a product of two, so that the layer's output loses least: W = U (U^T W).

U has the leading eigenvectors of the covariance of the layer's outputs, which is the best basis of so many directions
(Zhang et al., "Accelerating Very Deep Convolutional Networks", TPAMI 2016, section 3.1; without samples it is the
truncated SVD of the weight). Kernels stay in the first factor; the second one multiplies each pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RIDGE = 1e-3  # of the variance: a share as if all inputs had the same variance, so that few samples suffice


@dataclass(frozen=True, eq=False)
class LayerFactors:
    """first: (rank, in, ...), last: (out, rank, 1, 1) or (out, rank). shift: (out,), to be added to the bias.

    first is None where one layer stands in the place of one; last is its weight.
    inner: (n, rank) what the first gives for sampled inputs; None without samples.
    """

    first: np.ndarray | None
    last: np.ndarray
    shift: np.ndarray
    inner: np.ndarray | None


@dataclass(frozen=True, eq=False)
class OutputBasis:
    """Directions of a layer's output: vectors (out, directions) in columns, the largest first, and their sizes.

    mean: (out,) the mean output, where a bias makes up for a shift of it; else zeros.
    """

    vectors: np.ndarray
    sizes: np.ndarray
    mean: np.ndarray

    @classmethod
    def of(cls, weight: np.ndarray, samples: np.ndarray | None, centred: bool) -> OutputBasis:
        """weight: (out, in, ...). samples: (n, in * kh * kw), inputs that it is multiplied with. centred: whether a
        bias can make up for a shift of the output's mean."""
        matrix = weight.reshape(len(weight), -1).astype(np.float64)
        if len(matrix) > matrix.shape[1]:  # all outputs lie in a space of as many directions as there are inputs
            inside, smaller = np.linalg.qr(matrix)
            found = cls.of(smaller, samples, centred)
            return cls(inside @ found.vectors, found.sizes, inside @ found.mean)
        moment, mean = matrix @ matrix.T, np.zeros(len(matrix))
        if samples is not None:
            outputs = samples @ matrix.T
            seen = outputs.T @ outputs / len(outputs)
            if centred:
                mean = outputs.mean(0)
                seen -= np.outer(mean, mean)
            moment = seen + RIDGE * moment * max(float(np.trace(seen)), 1e-30) / max(float(np.trace(moment)), 1e-30)
        sizes, basis = np.linalg.eigh(moment)
        sizes, basis = sizes[::-1], basis[:, ::-1]
        signs = np.sign(basis[np.abs(basis).argmax(0), np.arange(len(basis))])
        return cls(basis * signs, np.maximum(sizes, 1e-8 * max(float(sizes[0]), 1e-30)), mean)


def factorised(weight: np.ndarray, rank: int, samples: np.ndarray | None, found: OutputBasis) -> LayerFactors:
    """weight, samples: as of the basis."""
    matrix = weight.reshape(len(weight), -1).astype(np.float64)
    basis, mean = found.vectors[:, :rank], found.mean
    scale = np.sqrt(np.sqrt(found.sizes[:rank]))  # both factors have a part of each direction's size
    first = ((basis / scale).T @ matrix).reshape(rank, *weight.shape[1:]).astype(np.float32)
    last = (basis * scale).reshape(len(weight), rank, *[1] * (weight.ndim - 2)).astype(np.float32)
    shift = mean - basis @ (basis.T @ mean)
    inner = None if samples is None else samples @ first.reshape(rank, -1).T
    return LayerFactors(first, last, shift.astype(np.float32), inner)
