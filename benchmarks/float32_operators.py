"""Single fp32 matmuls and 3x3 convolutions on NVIDIA's CUDA cores: blocks in waves over the cores, and the algorithms.

Constants are fractions of a chip's specification, so that a fit on some chips says something of another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares
from scipy.spatial import KDTree

from autocomp.hardware_models.measurements.measured import Neighbours

BLOCKS = ((128, 128), (64, 64), (32, 32))
SPLITS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
IMPLICIT_BLOCKS = ((128, 32), (64, 64))
WINOGRAD_BLOCKS = ((128, 64), (64, 64), (32, 128))
PATCH = (8, 16)  # pixels that a block of the fused Winograd kernel computes, of as many channels:
PATCH_CHANNELS = 32


@dataclass(frozen=True)
class Chip:
    cores: int
    macs_per_s: float
    bytes_per_s: float
    watts: float

    def throttled(self, time: np.ndarray, arithmetic: float, macs_per_joule: float, after: float) -> np.ndarray:
        """Runs that are long beside ``after`` seconds are slowed to what the board's power allows."""
        slowdown = max(self.macs_per_s / arithmetic / (self.watts * macs_per_joule) - 1, 0.0)
        return time * (1 + slowdown * time / (time + after))


def waves(
    rows: np.ndarray,
    width: np.ndarray,
    depth: np.ndarray,
    count: int,
    cores: int,
    blocks: Sequence[tuple[int, int]],
    split: int = 1,
) -> np.ndarray:
    """(n,) multiply-accumulates of all cores, for the best of the block shapes; idle cores count."""
    part = np.ceil(depth / split / 8) * 8
    best = np.full(rows.shape, np.inf)
    for height, breadth in blocks:
        number = count * np.ceil(rows / height) * np.ceil(width / breadth) * split
        best = np.minimum(best, np.ceil(number / cores) * cores * height * breadth * part)
    return best


@dataclass(frozen=True)
class Matmuls:
    """Rows of a table, on one chip: as in ``nn.Linear``, rows times transposed weights and a bias."""

    chip: Chip
    macs: np.ndarray
    bytes: np.ndarray  # (3, n): inputs, weights, outputs
    seconds: np.ndarray
    shape: np.ndarray

    #        arithmetic, three numbers of passes over bytes, launch, MACs a joule, slowed after seconds, overlap, skew
    START = (1.1, 0.5, 0.8, 1.5, 5e-5, 2.2e10, 1e-3, 0.1, 0.02)
    MOST = (3.0, 5.0, 5.0, 10.0, 5e-4, 1e11, 2e-2, 5.0, 0.2)
    LEAST = (0.5, 1e-3, 1e-2, 1e-2, 5e-6, 1e10, 5e-5, 1e-3, 1e-3)

    @classmethod
    def of(cls, chip: Chip, table: dict[str, np.ndarray]) -> Matmuls:
        m, n, k = table["B"] * table["M"], table["N"], table["K"]
        ways = [waves(m, n, k, 1, chip.cores, BLOCKS, split) for split in SPLITS]
        moved = 4 * np.stack([m * k, n * k, m * n])
        return cls(chip, np.minimum.reduce(ways), moved, table["latency_ms"] * 1e-3, np.stack([m, n, k]))

    def predicted(self, constants: np.ndarray) -> np.ndarray:
        """Bytes pass beside the arithmetic, not under it; a launch partly does. Many columns of weights for few rows
        take longer than few for many, by a small power of their ratio (``skew``): seen in the rows, not in a kernel."""
        arithmetic, passes, (launch, macs_per_joule, after, overlap, skew) = constants[0], constants[1:4], constants[4:]
        rows, columns, _ = self.shape
        time = self.macs / self.chip.macs_per_s * arithmetic * (columns / rows) ** skew
        time = time + passes @ self.bytes / self.chip.bytes_per_s
        slowed = self.chip.throttled(time, arithmetic, macs_per_joule, after)
        power = 1 + overlap
        return np.exp(np.logaddexp(power * np.log(launch), power * np.log(slowed)) / power)


@dataclass(frozen=True)
class Convolutions:
    """3x3, stride 1: the quickest of implicit GEMM, fused Winograd of 2x2 and Winograd of 4x4 in separate kernels.

    work: (3, 5, n) seconds at the chip's peaks: 10 microseconds, arithmetic, bytes in, out and of weights.
    """

    chip: Chip
    work: np.ndarray
    seconds: np.ndarray
    shape: np.ndarray

    #        for each algorithm: launch, arithmetic, three numbers of passes over bytes; sharpness of the choice
    START = (20, 1.2, 1.0, 0.5, 6.0, 20, 1.4, 0.9, 4.0, 5.0, 25, 1.3, 3.3, 1.2, 4.0, 8.0)
    MOST = (60, 5.0, 15.0, 15.0, 60.0) * 3 + (40.0,)
    LEAST = (0.5, 0.5, 0.02, 0.02, 0.02) * 3 + (1.0,)

    @classmethod
    def of(cls, chip: Chip, table: dict[str, np.ndarray]) -> Convolutions:
        batch, wide, out, pixels = (table[name] for name in ("B", "cin", "cout", "h_in"))
        tiles = batch * np.ceil(pixels / 4) ** 2
        patches = batch * np.ceil(pixels / PATCH[0]) * np.ceil(pixels / PATCH[1])
        block = (1, PATCH_CHANNELS)
        macs = np.stack(
            [
                waves(batch * pixels**2, out, 9 * wide, 1, chip.cores, IMPLICIT_BLOCKS),
                waves(patches, out, wide, 1, chip.cores, (block,)) * PATCH[0] * PATCH[1] * 16 / 4,
                waves(tiles, out, wide, 36, chip.cores, WINOGRAD_BLOCKS),
            ]
        )
        moved = 4 * np.stack([batch * pixels**2 * wide, batch * pixels**2 * out, 9 * wide * out])
        transformed = 4 * 36 * np.stack([tiles * wide, tiles * out, wide * out])
        launch = np.full((3, 1, len(batch)), 1e-5)
        bytes_ = np.stack([moved, moved, transformed]) / chip.bytes_per_s
        work = np.concatenate([launch, macs[:, None] / chip.macs_per_s, bytes_], axis=1)
        return cls(chip, work, table["latency_ms"] * 1e-3, np.stack([batch, wide, out, pixels]))

    def predicted(self, constants: np.ndarray) -> np.ndarray:
        ways = np.einsum("afn,af->an", self.work, constants[:15].reshape(3, 5))
        best: np.ndarray = ways.min(0)
        return best * ((ways / best) ** -constants[15]).sum(0) ** (-1 / constants[15])


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


def corrected(table: Table, constants: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """(n,) seconds: the model's, moved as a measured device's are by the rows near in shape that were seen."""
    sizes, predicted = np.log2(table.shape).T, table.predicted(constants)
    known = Neighbours(sizes[seen], np.zeros(seen.sum()), np.log(table.seconds / predicted)[seen])
    return predicted * known.factor(sizes, np.zeros(len(sizes)))


def held_out(tables: Mapping[str, Table]) -> dict[str, tuple[float, float]]:
    """For each chip the errors on the half of its shapes that the fit did not see: the model's alone, and with the
    seen half as the device's measured table."""
    found = {}
    for name, table in tables.items():
        seen = halves(table.shape)
        constants = fit([(table, seen)])
        near = np.abs(corrected(table, constants, seen) / table.seconds - 1)[~seen].mean()
        found[name] = mean_error(table, constants, ~seen), float(near)
    return found


def scatter(table: Table, near: float = 1.2) -> float:
    """About the mean error that any model of the sizes leaves: of the errors of rows that differ by less than a factor
    in every size the mean difference, divided by the root of two since both rows scatter."""
    seconds = np.log(table.seconds / table.predicted(fit([(table, np.ones(len(table.seconds), bool))])))
    first, second = KDTree(np.log2(table.shape).T).query_pairs(np.log2(near), p=np.inf, output_type="ndarray").T
    return float(np.abs(seconds[first] - seconds[second]).mean() / np.sqrt(2))


def zero_shot(tables: Mapping[str, Table]) -> dict[str, float]:
    """For each chip the error of a fit on the others."""
    found = {}
    for name, table in tables.items():
        others = [(other, np.ones(len(other.seconds), bool)) for key, other in tables.items() if key != name]
        found[name] = mean_error(table, fit(others), np.ones(len(table.seconds), bool))
    return found
