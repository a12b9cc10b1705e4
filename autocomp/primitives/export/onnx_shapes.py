"""The ONNX form of operators that move, join and split tensors. The batch stays free; sizes are those of the plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from autocomp.errors import ExportError
from autocomp.search_spaces import Argument, Node

if TYPE_CHECKING:
    from .onnx_writer import Writer

END = int(np.iinfo(np.int64).max)


def sizes(w: Writer, node: Node) -> list[int]:
    """The node's shape under the plan, with -1 for the batch."""
    shape = list(node.shape)
    if len(node.units):
        shape[node.channel_axis] = int(w.kept(node).sum())
    axis = w.batch_axis[w.position]
    if axis is not None:
        shape[axis] = -1
    return shape


def operand(w: Writer, node: Node, position: int = 0) -> str:
    return w.argument(node.arguments[position])


def source(w: Writer, node: Node) -> Node:
    return w.graph.nodes[node.inputs[0]]


def reshape(w: Writer, node: Node) -> str:
    merged = len(node.attributes.grows or ()) > 1
    if merged or (node.inputs and w.batch_axis[node.inputs[0]] is not None and -1 not in sizes(w, node)):
        raise ExportError(f"{node.name} reshapes {source(w, node).shape} to {node.shape}, which mixes the batch")
    return w.emit("Reshape", [operand(w, node), w.constant(sizes(w, node))], node.name)


def transpose(w: Writer, node: Node) -> str:
    order = next(value for value in node.attributes.constants if isinstance(value, tuple))
    return w.emit("Transpose", [operand(w, node)], node.name, perm=[axis % len(node.shape) for axis in order])


def parts_of(node: Node) -> tuple[Argument, ...]:
    first = node.arguments[0]
    if first.kind == "constant" and isinstance(first.value, tuple):
        return tuple(Argument("constant", value) for value in first.value)
    return tuple(first.value) if first.kind == "tuple" else (first,)


def concat(w: Writer, node: Node) -> str:
    """Parts that are the same for every image (a class token) are repeated along the batch."""
    axis = axis_of(node) % len(node.shape)
    batch = w.batch_axis[w.position]
    names = [w.argument(part) for part in parts_of(node)]
    if node.op.startswith("Stack"):
        at = w.constant([axis])
        names = [w.emit("Unsqueeze", [name, at], f"{node.name}.{i}") for i, name in enumerate(names)]
    if batch is not None and batch != axis:
        names = _repeated(w, node, names, batch)
    return w.emit("Concat", names, node.name, axis=axis)


def _repeated(w: Writer, node: Node, names: list[str], batch: int) -> list[str]:
    shared = [part[0] != "node" or w.batch_axis[part[1]] is None for part in parts_of(node)]
    if not any(shared):
        return names
    like = w.emit("Shape", [names[shared.index(False)]], f"{node.name}.batch", start=batch, end=batch + 1)
    ones = [w.constant([1] * count) for count in (batch, len(node.shape) - batch - 1) if count]
    order = [like, *ones] if batch == 0 else [ones[0], like, *ones[1:]]
    shape = w.emit("Concat", order, f"{node.name}.shape", axis=0)
    return [
        w.emit("Expand", [name, shape], f"{node.name}.spread{i}") if alone else name
        for i, (name, alone) in enumerate(zip(names, shared, strict=True))
    ]


def axis_of(node: Node) -> int:
    given = node.attributes.operator.get("axis", 0)
    return int(next((value for value in node.attributes.constants if type(value) is int), given))


def spread(w: Writer, node: Node) -> str:
    """BroadcastTo: axes that keep their size are not changed."""
    before = argument_shape(w, node, 0)
    before = (1,) * (len(node.shape) - len(before)) + before
    target = [1 if a == b else b for a, b in zip(before, node.shape, strict=True)]
    return w.emit("Expand", [operand(w, node), w.constant(target)], node.name)


def source_shape(w: Writer, node: Node) -> tuple[int, ...]:
    """Of its first argument."""
    return argument_shape(w, node, 0)


def argument_shape(w: Writer, node: Node, position: int) -> tuple[int, ...]:
    kind, value, *_ = node.attributes.arguments[position]
    if kind == "node":
        return w.graph.nodes[value].shape
    return w.parameters[value].shape if kind == "parameter" else np.shape(value)


def tile(w: Writer, node: Node) -> str:
    counts = next(value for value in node.attributes.constants if isinstance(value, tuple))
    if len(counts) != len(argument_shape(w, node, 0)):
        raise ExportError(f"{node.name} repeats along new axes, which has no ONNX form in autocomp")
    return w.emit("Tile", [operand(w, node), w.constant(counts)], node.name)


def whole(w: Writer, node: Node) -> str:
    """An operator with several outputs passes its input on: its Part nodes slice the outputs."""
    return operand(w, node)


def part(w: Writer, node: Node) -> str:
    start, axis = node.part
    before = source(w, node)
    lost = len(before.shape) - len(node.shape)
    stop = start + (1 if lost else node.shape[axis])
    if len(before.units) and before.channel_axis == axis:
        kept = w.kept(before)
        start, stop = int(kept[:start].sum()), int(kept[:stop].sum())
    at = w.constant([axis])
    name = f"{node.name}.kept" if lost else node.name
    sliced = w.emit("Slice", [operand(w, node), w.constant([start]), w.constant([stop]), at], name)
    return w.emit("Squeeze", [sliced, at], node.name) if lost else sliced


def strided_slice(w: Writer, node: Node) -> str:
    """Begin, end and strides; the bits of the masks are axes (begin, end, ellipsis, new axis, shrink)."""
    begin, end, strides, begin_mask, end_mask, ellipsis, new_axis, shrink = node.attributes.constants[-8:]
    if ellipsis or new_axis:
        raise ExportError(f"{node.name} slices with an ellipsis or a new axis, which has no ONNX form in autocomp")
    shape = argument_shape(w, node, 0)
    picked = [i for i in range(len(begin)) if shrink >> i & 1]
    if node.inputs and w.batch_axis[node.inputs[0]] in picked:
        raise ExportError(f"{node.name} picks one image of the batch, which must stay free in ONNX")
    left = iter(node.shape)
    after = [1 if i in picked else next(left) for i in range(len(shape))]
    axes = [i for i in range(len(begin)) if i in picked or after[i] != shape[i] or strides[i] != 1]
    starts = [(0 if strides[i] > 0 else END) if begin_mask >> i & 1 else begin[i] for i in axes]
    stops = [_end(i, begin, end, picked, end_mask, strides[i]) for i in axes]
    name = f"{node.name}.kept" if picked else node.name
    inputs = [operand(w, node), *(w.constant(v) for v in (starts, stops, axes, [strides[i] for i in axes]))]
    sliced = w.emit("Slice", inputs, name) if axes else w.emit("Identity", inputs[:1], name)
    return w.emit("Squeeze", [sliced, w.constant(picked)], node.name) if picked else sliced


def _end(axis: int, begin: Any, end: Any, picked: list[int], end_mask: int, stride: int) -> int:
    if axis in picked:
        return END if begin[axis] == -1 else int(begin[axis]) + 1
    if end_mask >> axis & 1:
        return END if stride > 0 else -END
    return int(end[axis])


def resize(mode: str) -> Any:
    def form(w: Writer, node: Node) -> str:
        align, half = ([value for value in node.attributes.constants if isinstance(value, bool)] + [False] * 2)[:2]
        way = "align_corners" if align else "half_pixel" if half else "asymmetric"
        scales = [b / a for a, b in zip(source(w, node).shape[2:], node.shape[2:], strict=True)]
        rounding: dict[str, Any] = (
            {"nearest_mode": "round_prefer_ceil" if align else "floor"} if mode == "nearest" else {}
        )
        inputs = [operand(w, node), "", w.constant([1.0, 1.0, *scales], np.float32)]
        return w.emit("Resize", inputs, node.name, mode=mode, coordinate_transformation_mode=way, **rounding)

    return form


SHAPES: dict[str, Any] = {
    "Flatten": reshape,
    "FlattenExt": reshape,
    "Reshape": reshape,
    "View": reshape,
    "ExpandDims": reshape,
    "Squeeze": reshape,
    "Transpose": transpose,
    "TransposeView": transpose,
    "Concat": concat,
    "Stack": concat,
    "StackExt": concat,
    "BroadcastTo": spread,
    "Tile": tile,
    "Part": part,
    "StridedSlice": strided_slice,
    "ResizeBilinearV2": resize("linear"),
    "ResizeBilinear": resize("linear"),
    "ResizeNearestNeighbor": resize("nearest"),
    "ResizeNearestNeighborV2": resize("nearest"),
    "UpsampleNearest2D": resize("nearest"),
}
SHAPES |= dict.fromkeys(("Split", "SplitWithSize", "SplitTensor", "Chunk", "Unstack", "UnstackExt"), whole)
