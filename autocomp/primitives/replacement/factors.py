"""A layer's weight as a product of smaller ones, in NumPy: truncated SVD, and Tucker-2 for kernels.

With the covariance C of the layer's input, the product is the nearest in the layer's output instead of in its weight:
the error is ||(W - W') C^(1/2)||. So W C^(1/2) is factorised, and the first factor is multiplied by C^(-1/2). All taps
of a kernel are assumed to read the same covariance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RIDGE = 1e-4  # of the mean variance, so that directions without input also have a cost
SWEEPS = 4


@dataclass(frozen=True)
class Factors:
    """``last (out, r2) @ core (r2, r1, kh, kw) @ first (r1, in)``; for a matrix core is None and r1 = r2."""

    first: np.ndarray
    core: np.ndarray | None
    last: np.ndarray

    @property
    def ranks(self) -> tuple[int, ...]:
        return (len(self.first),) if self.core is None else (len(self.first), self.last.shape[1])

    def weight(self) -> np.ndarray:
        """The product: (out, in), or (out, in, kh, kw)."""
        if self.core is None:
            return np.asarray(self.last @ self.first)
        return np.asarray(np.einsum("or,rshw,si->oihw", self.last, self.core, self.first, optimize=True))


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The singular values of a weight that is weighted by its input's covariance.

    They are those of its unfoldings, of the input mode first; a matrix has one.
    weighted: (out, in) or (out, in, kh, kw). inverse: (in, in), C^(-1/2); None for the identity.
    """

    weighted: np.ndarray
    values: tuple[np.ndarray, ...]
    inverse: np.ndarray | None

    @classmethod
    def of(cls, weight: np.ndarray, covariance: np.ndarray | None = None) -> Spectrum:
        """weight: (out, in), or (out, in, kh, kw). covariance: (in, in) of its input."""
        weighted, inverse = weight.astype(np.float64), None
        if covariance is not None:
            root, inverse = _roots(covariance)
            weighted = np.einsum("oi...,ij->oj...", weighted, root)
        modes = (0,) if weight.ndim == 2 else (1, 0)
        values = tuple(np.linalg.svd(_unfolded(weighted, mode), compute_uv=False) for mode in modes)
        return cls(weighted, values, inverse)

    def lost(self, ranks: Sequence[int]) -> float:
        """The share of the energy that these ranks leave out; for two modes the sum of both, which is an upper
        bound."""
        shares = [float((v[r:] ** 2).sum() / max((v**2).sum(), 1e-30)) for v, r in zip(self.values, ranks, strict=True)]
        return sum(shares)

    def ranks_for(self, energy: float) -> tuple[int, ...]:
        """The smallest ranks that keep this share of each mode's energy."""
        found = []
        for values in self.values:
            cumulated = np.cumsum(values**2) / max(float((values**2).sum()), 1e-30)
            found.append(min(int(np.searchsorted(cumulated, energy - 1e-12)) + 1, len(values)))
        return tuple(found)

    def factors(self, ranks: Sequence[int]) -> Factors:
        """The best product: for a matrix by Eckart and Young, for a kernel Tucker-2.

        Tucker-2 uses alternating SVDs that start from those of the unfoldings (Kim et al., ICLR 2016, section 3; De
        Lathauwer et al. 2000).
        """
        if self.weighted.ndim == 2:
            u, values, v = np.linalg.svd(self.weighted, full_matrices=False)
            (rank,) = ranks
            balance = np.sqrt(values[:rank])
            return Factors(self._taken_back(balance[:, None] * v[:rank]), None, u[:, :rank] * balance)
        r1, r2 = ranks
        first = _leading(_unfolded(self.weighted, 1), r1)
        for _ in range(SWEEPS):
            last = _leading(_unfolded(np.einsum("oihw,ir->orhw", self.weighted, first), 0), r2)
            first = _leading(_unfolded(np.einsum("oihw,os->sihw", self.weighted, last), 1), r1)
        core = np.einsum("oihw,os,ir->srhw", self.weighted, last, first, optimize=True)
        return Factors(self._taken_back(first.T), core, last)

    def _taken_back(self, first: np.ndarray) -> np.ndarray:
        return first if self.inverse is None else np.asarray(first @ self.inverse)


def _roots(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, vectors = np.linalg.eigh(covariance.astype(np.float64))
    values = np.maximum(values, 0) + RIDGE * max(float(values.mean()), 1e-12)
    return (vectors * np.sqrt(values)) @ vectors.T, (vectors / np.sqrt(values)) @ vectors.T


def _unfolded(weight: np.ndarray, mode: int) -> np.ndarray:
    return np.moveaxis(weight, mode, 0).reshape(weight.shape[mode], -1)


def _leading(matrix: np.ndarray, rank: int) -> np.ndarray:
    """(rows, rank): the leading left singular vectors of the matrix."""
    return np.asarray(np.linalg.svd(matrix, full_matrices=False)[0][:, :rank])


def is_matrix(weight: np.ndarray) -> bool:
    """Whether the weight is that of a dense layer or a 1x1 convolution."""
    return math.prod(weight.shape[2:]) == 1
