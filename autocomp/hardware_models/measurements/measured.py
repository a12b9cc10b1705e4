"""Measured tables: a measured operator has its measured time; predictions near it are corrected by the same factor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from autocomp.hardware_models.gemm import Gemm, multiplied
from autocomp.hardware_models.lowered import LoweredNetwork
from autocomp.hardware_models.roofline import work
from autocomp.search_spaces import WEIGHTED

from .shapes import MeasuredShape

if TYPE_CHECKING:
    from autocomp.hardware_models.device_model import Device

NEAREST = 16  # neighbours that are used: in three or more sizes, many distant ones would outweigh them
REACH = 1.0  # distance, in doublings of a size, at which a neighbour has the same weight as the model
LEAST_SHARE = 0.1  # least share of the model's time, where the fixed time is nearly all of the measured time


@dataclass(frozen=True)
class Neighbours:
    """Measured operators of one sort. sizes: (m, f) log2; precision: (m,); ratio: (m,) log of measured / model."""

    sizes: np.ndarray
    precision: np.ndarray
    ratio: np.ndarray

    def factor(self, sizes: np.ndarray, precision: np.ndarray) -> np.ndarray:
        """(n,): weighted by the inverse square of the distance; the model counts like a neighbour at the distance
        REACH."""
        square = np.square(sizes[:, None] - self.sizes[None]).sum(2)
        square = np.where(precision[:, None] == self.precision[None], square, np.inf)
        farthest = min(NEAREST, square.shape[1]) - 1
        weight = (square <= np.partition(square, farthest, axis=1)[:, farthest, None]) / (square + 1e-12)
        return np.exp((weight * self.ratio).sum(1) / (weight.sum(1) + 1 / REACH**2))


class MeasuredTable:
    """Rows of a device's table, compared with its model.

    rows: rows without a latency are ignored.
    """

    def __init__(self, rows: Sequence[MeasuredShape]) -> None:
        self.rows = tuple(row for row in rows if row.latency_ms is not None)
        self.sorts: dict[str, Neighbours] = {}

    def held_against(self, device: Device) -> MeasuredTable:
        """The same rows with the ratios of their times to those of the device's rates."""
        found: dict[str, list[tuple[np.ndarray, int, float]]] = {}
        for row in self.rows:
            for sort, sizes, precision, ratio in _ratios(device, row):
                found.setdefault(sort, []).append((sizes, precision, ratio))
        table = MeasuredTable(self.rows)
        for sort, entries in found.items():
            sizes, precisions, ratios = zip(*entries, strict=True)
            table.sorts[sort] = Neighbours(np.stack(sizes), np.array(precisions), np.array(ratios))
        return table

    def factor(self, lowered: LoweredNetwork, position: int) -> np.ndarray | float:
        """(n,) measured time divided by the model's time of the operator, for the given plans; 1 where no similar
        operator was measured."""
        if not self.sorts:
            return 1.0
        sort, sizes, precision = described(lowered, position)
        return self.sorts[sort].factor(sizes, precision) if sort in self.sorts else 1.0


def described(lowered: LoweredNetwork, position: int) -> tuple[str, np.ndarray, np.ndarray]:
    """An operator's sort, its sizes, (n, f) log2, and the precision, (n,), in which it runs."""
    head = lowered.program.operators[position].head
    node = lowered.graph.nodes[head]
    precision = lowered.device.runtime.measured_precision(lowered, lowered.program.operators[position])
    layer = multiplied(lowered, head)
    if layer is not None:
        layer = lowered.device.runtime.arranged(lowered, head, layer)
    if layer is not None and (node.convolves or node.kind in (*WEIGHTED, "matmul")):
        sort = "matmul" if node.kind == "matmul" else "depthwise" if node.depthwise else "layer"
        return sort, _sizes(layer), precision
    sort = f"{node.kind} {node.op}" if node.kind in ("activation", "pool") else node.kind
    return sort, np.log2(np.maximum(lowered.elements(head), 1))[:, None], precision


def _sizes(layer: Gemm) -> np.ndarray:
    kernel = np.full(len(layer.rows), float(layer.kernel))
    sizes = (layer.rows, layer.channels_in, layer.channels_out, layer.groups, kernel)
    return np.log2(np.maximum(np.stack(sizes, axis=1), 1))


def _ratios(device: Device, row: MeasuredShape) -> list[tuple[str, np.ndarray, int, float]]:
    """One ratio for the whole stack, for each different operator of it except the last; none for mixed stacks, most of
    whose time is not spent in layers."""
    if row.shape.kind == "mixed":
        return []
    workload = row.shape.workload()
    lowered = LoweredNetwork(device, device.program(workload.graph), workload)
    positions = range(len(lowered.program.operators))
    model = sum(float(device.rates.seconds(work(lowered, p).demand).total[0]) for p in positions)
    assert row.latency_ms is not None
    seconds = row.latency_ms / 1e3 - (device.rates.inference_s if row.fixed else 0.0)
    ratio = float(np.log(max(seconds / model, LEAST_SHARE)))
    found = {}
    for position in positions[: min(2, row.shape.repeat)]:
        sort, sizes, precision = described(lowered, position)
        found[sort, tuple(sizes[0]), int(precision[0])] = (sort, sizes[0], int(precision[0]), ratio)
    return list(found.values())
