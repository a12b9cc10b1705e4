"""Compares outputs of a network's blocks with those of another network, while both run in one compiled graph.

A compiled graph returns only what ``construct`` returns. So the teacher's block writes its output into a parameter. The
student's block reads that parameter and adds the gradient of their distance to the gradient of its output. The result
is the sum of both losses' gradients, as if the distance were a part of the loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mindspore import nn, ops

from autocomp.primitives.cells.layers import ms, parameter
from autocomp.primitives.tracing.platform import forward
from autocomp.primitives.tracing.surgery import cell_at, replace_cells

LEAST_ENERGY = 1e-12


class Pulled(nn.Cell):
    """Returns the features; the backward pass adds the gradient of ``weight * mean((features - target)^2)``."""

    def construct(self, features: Any, target: Any, weight: Any) -> Any:
        return features

    def bprop(self, features: Any, target: Any, weight: Any, out: Any, gradient: Any) -> tuple[Any, Any, Any]:
        pull = weight * (2.0 / features.size) * (features - target)
        return gradient + pull, ops.zeros_like(target), ops.zeros_like(weight)


class Written(nn.Cell):
    """The teacher's block, whose output is also written into ``target``."""

    def __init__(self, block: Any, target: Any) -> None:
        super().__init__(auto_prefix=False)
        self.block, self.target = block, target

    def construct(self, *inputs: Any) -> Any:
        y = self.block(*inputs)
        ops.assign(self.target, y)
        return y


class Compared(nn.Cell):
    """The student's block. distance: |y - target|^2 / |target|^2 of the last batch."""

    def __init__(self, block: Any, target: Any, distance: Any, weight: float) -> None:
        super().__init__(auto_prefix=False)
        self.block, self.target, self.distance = block, target, distance
        self.weight = weight
        self.pulled = Pulled()

    def construct(self, *inputs: Any) -> Any:
        y = self.block(*inputs)
        target = ops.stop_gradient(self.target)
        energy = ops.maximum((target * target).mean(), LEAST_ENERGY)
        distance = ops.stop_gradient(y) - target
        ops.assign(self.distance, (distance * distance).mean() / energy)
        return self.pulled(y, target, self.weight / energy)


def compare_blocks(
    student: Any, teacher: Any, blocks: Sequence[str], example: np.ndarray | tuple[np.ndarray, ...], weight: float
) -> list[Any]:
    """Compare these cells of two copies that have not been compiled; returns the distance of each, a parameter.

    example: one batch of the training set; weight: of the mean of the distances in the loss. ValueError for a path that
        is no cell, or whose output is not one tensor of the same shape in both networks.
    """
    inputs = example if isinstance(example, tuple) else (example,)
    shapes = [output_shapes(net, blocks, inputs) for net in (student, teacher)]
    distances = []
    for i, path in enumerate(blocks):
        mine, its = (found[path] for found in shapes)
        if mine != its:
            raise ValueError(f"block {path} must give one shape in both networks, but got {mine} and {its}")
        target = parameter(np.zeros(its, np.float32), f"blocks.{i}.target")
        distances.append(parameter(np.float32(0), f"blocks.{i}.distance"))
        compared = Compared(cell_at(student, path), target, distances[-1], weight / len(blocks))
        replace_cells(student, {path: compared})
        replace_cells(teacher, {path: Written(cell_at(teacher, path), target)})
    return distances


def output_shapes(net: Any, blocks: Sequence[str], inputs: tuple[np.ndarray, ...]) -> dict[str, tuple[int, ...]]:
    """The output shapes of the cells at these paths; ValueError as for :func:`compare_blocks`."""
    cells = {name: cell for name, cell in net.cells_and_names() if name}
    if unknown := [path for path in blocks if path not in cells]:
        raise ValueError(
            f"blocks must be cells of the network, but got {', '.join(unknown)}; cells: {', '.join(cells)}"
        )
    found: dict[str, list[Any]] = {path: [] for path in blocks}
    hooks = [
        cells[path].register_forward_hook(lambda cell, given, y, path=path: found[path].append(y)) for path in blocks
    ]
    try:
        forward(net, inputs, graph=False)
    finally:
        for hook in hooks:
            hook.remove()
    for path, outputs in found.items():
        if len(outputs) != 1 or not isinstance(outputs[0], ms.Tensor):
            raise ValueError(f"block {path} must run once and return one tensor to be compared")
    return {path: tuple(outputs[0].shape) for path, outputs in found.items()}
