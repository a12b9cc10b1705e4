"""Embeddings whose tables are stored in integers: rows are picked first, and only those become floats."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from autocomp.primitives.numerics.bit_packing import in_halves
from autocomp.primitives.numerics.quantizers import QuantizedWeight
from autocomp.search_spaces import Node

from .onnx_types import FLOAT, cast_to

if TYPE_CHECKING:
    from .onnx_writer import Writer

HALF_BITS = 4
MIDDLE = 8  # what stands for 0 in half a byte


def holds_table(w: Writer, node: Node) -> bool:
    """Whether the file holds the integers of the node's table."""
    return node.attributes.table in w.tables and w.style.integer_weights


def rows_of_table(w: Writer, node: Node, positions: str) -> str:
    """Rows of integers times the scale of each, in operators of ONNX's own; positions: of any shape."""
    stored, column = _stored(w, node.table)
    rows = w.emit("Gather", [stored, positions], f"{node.name}.rows", axis=0)
    floats = _levels(w, rows, node.name, w.tables[node.table].bits)
    scales = w.emit("Gather", [column, positions], f"{node.name}.scales", axis=0)
    return w.emit("Mul", [floats, scales], node.name)


def whole_table(w: Writer, name: str) -> str:
    """All rows in floats, for those that read a table beside its embedding; onnxruntime computes them once, when it
    loads the file."""
    if name not in w.weights:
        before = len(w.nodes)
        stored, column = _stored(w, name)
        floats = _levels(w, stored, f"{name}.whole", w.tables[name].bits)
        w.weights[name] = w.emit("Mul", [floats, column], f"{name}.float")
        w.unpacking += w.nodes[before:]
        del w.nodes[before:]
    return w.weights[name]


def _stored(w: Writer, name: str) -> tuple[str, str]:
    """The table's integers, and a column of its scales."""
    table = w.tables[name]
    stored = name if name in w.initializers else w.initializer(name, stored_rows(table))
    return stored, w.initializer(f"{name}.scale", table.scale.reshape(-1, 1).astype(np.float32))


def _levels(w: Writer, rows: str, name: str, bits: int) -> str:
    """Stored integers as floats."""
    if bits > HALF_BITS:
        return cast_to(w, rows, FLOAT, f"{name}.cast")
    floats = cast_to(w, _unpacked(w, rows), FLOAT, f"{name}.cast")
    return w.emit("Sub", [floats, w.constant(MIDDLE, np.float32)], f"{name}.centred")


def _unpacked(w: Writer, rows: str) -> str:
    """The low halves of all bytes of a row, then the high ones."""
    low = w.emit("BitwiseAnd", [rows, w.initializer(f"{rows}.mask", np.uint8(15))], f"{rows}.low")
    shift = w.initializer(f"{rows}.shift", np.uint8(HALF_BITS))
    high = w.emit("BitShift", [rows, shift], f"{rows}.high", direction="RIGHT")
    return w.emit("Concat", [low, high], f"{rows}.whole", axis=-1)


def stored_rows(table: QuantizedWeight) -> np.ndarray:
    """(rows, width) int8; of 4 bits (rows, width / 2) uint8."""
    return in_halves(table.integers + MIDDLE) if table.bits <= HALF_BITS else table.integers
