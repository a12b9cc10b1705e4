"""Single fp32 matmuls and 3x3 convolutions on NVIDIA's CUDA cores: blocks in waves over the cores, and the algorithms.

Constants are fractions of a chip's specification, so that a fit on some chips says something of another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

BLOCKS = ((128, 128), (256, 128), (128, 256), (128, 64), (64, 128), (64, 64), (128, 32), (32, 128), (32, 32))
WINOGRAD_BLOCKS = ((32, 32), (32, 64), (32, 128))
FILL = 40  # steps of depth before and after which a block computes nothing
SPLIT = 32  # steps of depth that adding up the parts of a split depth costs


@dataclass(frozen=True)
class Chip:
    cores: int
    macs_per_s: float
    bytes_per_s: float
    watts: float

    def throttled(self, time: np.ndarray, arithmetic: float, macs_per_joule: float, after: float) -> np.ndarray:
        """Runs that are long beside ``after`` seconds are slowed to what the board's power allows."""
        slowdown = max(self.macs_per_s * arithmetic / (self.watts * macs_per_joule) - 1, 0.0)
        return time * (1 + slowdown * time / (time + after))


def waves(
    rows: np.ndarray,
    width: np.ndarray,
    depth: np.ndarray,
    count: int,
    cores: int,
    blocks: Sequence[tuple[int, int]],
    split: int,
) -> np.ndarray:
    """(n,) multiply-accumulates of all cores, for the best of the block shapes; idle cores count."""
    part = np.ceil(depth / split / 8) * 8 + FILL + (SPLIT if split > 1 else 0)
    best = np.full(rows.shape, np.inf)
    for height, breadth in blocks:
        number = count * np.ceil(rows / height) * np.ceil(width / breadth) * split
        best = np.minimum(best, np.ceil(number / cores) * cores * height * breadth * part)
    return best


def gemm(rows: np.ndarray, width: np.ndarray, depth: np.ndarray, cores: int) -> np.ndarray:
    return np.minimum.reduce([waves(rows, width, depth, 1, cores, BLOCKS, split) for split in (1, 2, 4, 8, 16)])


@dataclass(frozen=True)
class Matmuls:
    """Rows of a table, on one chip."""

    chip: Chip
    macs: np.ndarray
    bytes: np.ndarray
    seconds: np.ndarray
    shape: np.ndarray

    #        arithmetic, memory, launch, MACs a joule, slowed after seconds, overlap
    START = (0.85, 0.7, 4e-5, 2.2e10, 1e-3, 2.0)
    MOST = (1.05, 1.0, 5e-4, 1e11, 2e-2, 20.0)
    LEAST = (0.1, 0.1, 5e-6, 1e10, 5e-5, 0.2)

    @classmethod
    def of(cls, chip: Chip, table: dict[str, np.ndarray]) -> Matmuls:
        m, n, k = table["B"] * table["M"], table["N"], table["K"]
        moved = 4 * (m * k + n * k + m * n)
        return cls(chip, gemm(m, n, k, chip.cores), moved, table["latency_ms"] * 1e-3, np.stack([m, n, k]))

    def predicted(self, constants: np.ndarray) -> np.ndarray:
        arithmetic, memory, launch, macs_per_joule, after, overlap = constants
        compute = self.macs / (self.chip.macs_per_s * arithmetic)
        moving = self.bytes / (self.chip.bytes_per_s * memory)
        power = overlap + 1
        time = (compute**power + moving**power) ** (1 / power)
        return launch + self.chip.throttled(time, arithmetic, macs_per_joule, after)


@dataclass(frozen=True)
class Convolutions:
    """3x3, stride 1: the quickest of implicit GEMM, fused Winograd of 2x2 and Winograd of 4x4 in separate kernels."""

    chip: Chip
    implicit: np.ndarray
    small: np.ndarray
    large: np.ndarray
    activations: np.ndarray  # bytes
    weights: np.ndarray
    transformed: np.ndarray
    transformed_weights: np.ndarray
    seconds: np.ndarray
    shape: np.ndarray

    #        three arithmetics, memory, three launches, MACs a joule, after, sharpness of choice, transforms, weights
    START = (0.7, 0.7, 0.7, 0.7, 5e-5, 1e-5, 1e-5, 2.2e10, 1e-3, 3.0, 0.7, 0.7, 1.0)
    MOST = (2.2, 2.2, 2.2, 1.2, 5e-4, 1e-4, 1e-4, 1e11, 2e-2, 20.0, 3.0, 3.0, 10.0)
    LEAST = (0.2, 0.2, 0.2, 0.2, 5e-6, 1e-7, 1e-7, 1e10, 2e-5, 1.0, 0.05, 0.05, 0.05)

    @classmethod
    def of(cls, chip: Chip, table: dict[str, np.ndarray]) -> Convolutions:
        batch, wide, out, pixels = (table[name] for name in ("B", "cin", "cout", "h_in"))
        two, four = batch * np.ceil(pixels / 2) ** 2, batch * np.ceil(pixels / 4) ** 2
        return cls(
            chip,
            implicit=gemm(batch * pixels**2, out, 9 * wide, chip.cores),
            small=waves(two, out, wide, 1, chip.cores, WINOGRAD_BLOCKS, 1) * 16,
            large=waves(four, out, wide, 36, chip.cores, BLOCKS, 1),
            activations=4 * batch * pixels**2 * (wide + out),
            weights=4 * 9 * wide * out,
            transformed=4 * 36 * 2 * four * (wide + out),
            transformed_weights=4 * 36 * 2 * wide * out,
            seconds=table["latency_ms"] * 1e-3,
            shape=np.stack([batch, wide, out, pixels]),
        )

    def predicted(self, constants: np.ndarray) -> np.ndarray:
        implicit, small, large, memory, launch, two, four, joule, after, sharp, share, weight_share, extra = constants
        rate, width = self.chip.macs_per_s, self.chip.bytes_per_s * memory
        moving = (self.activations + self.weights) / width
        transforms = (self.transformed * share + self.transformed_weights * weight_share) / width
        ways = np.stack(
            [
                np.maximum(self.implicit / (rate * implicit), moving),
                np.maximum(self.small / (rate * small), moving) + two + self.weights * 16 / 9 / width,
                self.large / (rate * large) + moving + transforms + four,
            ]
        )
        best = ways.min(0)
        time = best * ((ways / best) ** -sharp).sum(0) ** (-1 / sharp) + extra * self.weights / width
        return launch + self.chip.throttled(time, implicit, joule, after)


Table = Matmuls | Convolutions


def fit(tables: Sequence[tuple[Table, np.ndarray]]) -> np.ndarray:
    """Constants for all tables at once, from the rows that their masks say."""
    kind = type(tables[0][0])
    start, least, most = (np.log(values) for values in (kind.START, kind.LEAST, kind.MOST))

    def residuals(steps: np.ndarray) -> np.ndarray:
        parts = [np.log(table.predicted(np.exp(steps)) / table.seconds)[some] for table, some in tables]
        return np.concatenate([*parts, 0.02 * (steps - start)])

    bounds = (least, most)
    found = least_squares(residuals, start, bounds=bounds, loss="soft_l1", f_scale=0.05, diff_step=1e-3)
    return np.exp(found.x)


def halves(shape: np.ndarray) -> np.ndarray:
    """(n,) bool: half of the distinct shapes."""
    keys = np.unique(shape, axis=1, return_inverse=True)[1].ravel()
    return (np.random.default_rng(0).permutation(keys.max() + 1) % 2 == 0)[keys]


def mean_error(table: Table, constants: np.ndarray, some: np.ndarray) -> float:
    return float(np.abs(table.predicted(constants) / table.seconds - 1)[some].mean())


def held_out(tables: Mapping[str, Table]) -> dict[str, float]:
    """For each chip the error on the half of its shapes that the fit did not see."""
    found = {}
    for name, table in tables.items():
        seen = halves(table.shape)
        found[name] = mean_error(table, fit([(table, seen)]), ~seen)
    return found


def zero_shot(tables: Mapping[str, Table]) -> dict[str, float]:
    """For each chip the error of a fit on the others."""
    found = {}
    for name, table in tables.items():
        others = [(other, np.ones(len(other.seconds), bool)) for key, other in tables.items() if key != name]
        found[name] = mean_error(table, fit(others), np.ones(len(table.seconds), bool))
    return found
