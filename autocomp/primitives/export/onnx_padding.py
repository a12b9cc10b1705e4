"""The ONNX form of padding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from autocomp.errors import ExportError
from autocomp.search_spaces import Node

from .onnx_indexing import along_axes
from .onnx_shapes import argument_shape, operand
from .onnx_types import type_of

if TYPE_CHECKING:
    from .onnx_writer import Writer

BY_POSITIONS = {"circular": "wrap", "symmetric": "symmetric"}  # modes that ONNX's Pad lacks, as NumPy calls them


def pad(w: Writer, node: Node) -> str:
    """``PadV3`` has pairs for the last axes first, as PyTorch; ``Pad`` and ``MirrorPad`` one for each axis."""
    pairs, mode = _pairs(node), str(node.attributes.operator.get("mode", "constant")).lower()
    if w.batch_axis[w.position] in [axis for axis, pair in enumerate(pairs) if any(pair)]:
        raise ExportError(f"{node.name} pads the batch, which must stay free in ONNX")
    if mode in BY_POSITIONS:
        how = BY_POSITIONS[mode]
        return along_axes(w, node, {axis: (how, pair) for axis, pair in enumerate(pairs) if any(pair)})
    if mode not in ("constant", "reflect", "edge"):
        raise ExportError(f"{node.name} pads by {mode!r}, which has no ONNX form in autocomp")
    inputs = [operand(w, node), w.constant([pair[side] for side in (0, 1) for pair in pairs])]
    if mode == "constant":
        inputs.append(w.initializer(f"{node.name}.fill", np.asarray(_fill(node), type_of(node))))
    return w.emit("Pad", inputs, node.name, mode=mode)


def _pairs(node: Node) -> list[tuple[int, int]]:
    """(before, after) of each axis."""
    rank, values = len(node.shape), node.attributes.constants
    if node.op == "Pad":
        return [tuple(pair) for pair in node.attributes.operator["paddings"]]
    if node.op == "MirrorPad":
        return [(int(a), int(b)) for a, b in next(value for value in values if isinstance(value, (np.ndarray, tuple)))]
    given = next(tuple(int(v) for v in value) for value in values if np.ndim(value) == 1)
    pairs = [(given[2 * i], given[2 * i + 1]) for i in range(len(given) // 2)]
    return [(0, 0)] * (rank - len(pairs)) + pairs[::-1]


def _fill(node: Node) -> Any:
    return next((value for value in node.attributes.constants if value is not None and np.ndim(value) == 0), 0.0)


def widened(w: Writer, node: Node) -> str:
    """``Padding``: zeros behind the last axis, up to its new size."""
    more = [0] * (2 * len(node.shape) - 1) + [node.shape[-1] - argument_shape(w, node, 0)[-1]]
    fill = w.initializer(f"{node.name}.fill", np.zeros((), type_of(node)))
    return w.emit("Pad", [operand(w, node), w.constant(more), fill], node.name)


PADDING: dict[str, Any] = {"Pad": pad, "PadV3": pad, "MirrorPad": pad, "Padding": widened}
