"""Measured tables: a measured operator costs what was measured; near one, what the model says moves as it did there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from autocomp.hardware_models.gemm import Gemm, multiplied
from autocomp.hardware_models.lowered import LoweredNetwork
from autocomp.hardware_models.operators import lower
from autocomp.hardware_models.roofline import work
from autocomp.search_spaces import WEIGHTED

from .shapes import MeasuredShape

if TYPE_CHECKING:
    from autocomp.hardware_models.device_model import Device

NEAREST = 16  # neighbours that are asked; by inverse squares in three or more sizes the many that are far outweigh them
REACH = 1.0  # doublings of a size at which a neighbour counts as much as the model
LEAST_SHARE = 0.1  # of the model's time that is left to operators where the fixed time eats what was measured


@dataclass(frozen=True)
class Neighbours:
    """Measured operators of one sort. sizes: (m, f) log2; precision: (m,); ratio: (m,) log of measured / model."""

    sizes: np.ndarray
    precision: np.ndarray
    ratio: np.ndarray

    def factor(self, sizes: np.ndarray, precision: np.ndarray) -> np.ndarray:
        """(n,): weighted by the inverse square of the distance, the model itself at a distance of REACH."""
        square = np.square(sizes[:, None] - self.sizes[None]).sum(2)
        square = np.where(precision[:, None] == self.precision[None], square, np.inf)
        farthest = min(NEAREST, square.shape[1]) - 1
        weight = (square <= np.partition(square, farthest, axis=1)[:, farthest, None]) / (square + 1e-12)
        return np.exp((weight * self.ratio).sum(1) / (weight.sum(1) + 1 / REACH**2))


class MeasuredTable:
    """Rows of a device's table, held against its model.

    rows: those without a latency are passed over.
    """

    def __init__(self, rows: Sequence[MeasuredShape]) -> None:
        self.rows = tuple(row for row in rows if row.latency_ms is not None)
        self.sorts: dict[str, Neighbours] = {}

    def held_against(self, device: Device) -> MeasuredTable:
        """The same rows with their ratios to what the device's rates say."""
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
        """(n,) measured over modelled time of the operator, for the plans at hand; 1 where none like it was."""
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
    if layer is not None and (node.convolves or node.kind in (*WEIGHTED, "matmul")):
        groups = "depthwise" if node.depthwise else "grouped" if layer.groups[0] > 1 else "layer"
        return "matmul" if node.kind == "matmul" else groups, _sizes(layer), precision
    sort = f"{node.kind} {node.op}" if node.kind in ("activation", "pool") else node.kind
    return sort, np.log2(np.maximum(lowered.elements(head), 1))[:, None], precision


def _sizes(layer: Gemm) -> np.ndarray:
    kernel = np.full(len(layer.rows), float(layer.kernel))
    sizes = (layer.rows, layer.channels_in, layer.channels_out, layer.groups, kernel)
    return np.log2(np.maximum(np.stack(sizes, axis=1), 1))


def _ratios(device: Device, row: MeasuredShape) -> list[tuple[str, np.ndarray, int, float]]:
    """One ratio for the whole stack, entered for each different operator of it but the tail."""
    workload = row.shape.workload()
    lowered = LoweredNetwork(device, lower(workload.graph, device.fuses_pools), workload)
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
