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
    name, table = node.table, w.tables[node.table]
    stored = name if name in w.initializers else w.initializer(name, stored_rows(table))
    column = w.initializer(f"{name}.scale", table.scale.reshape(-1, 1).astype(np.float32))
    rows = w.emit("Gather", [stored, positions], f"{node.name}.rows", axis=0)
    if table.bits <= HALF_BITS:
        rows = _unpacked(w, rows)
    floats = cast_to(w, rows, FLOAT, f"{node.name}.cast")
    if table.bits <= HALF_BITS:
        floats = w.emit("Sub", [floats, w.constant(MIDDLE, np.float32)], f"{node.name}.centred")
    scales = w.emit("Gather", [column, positions], f"{node.name}.scales", axis=0)
    return w.emit("Mul", [floats, scales], node.name)


def _unpacked(w: Writer, rows: str) -> str:
    """The low halves of all bytes of a row, then the high ones."""
    low = w.emit("BitwiseAnd", [rows, w.initializer(f"{rows}.mask", np.uint8(15))], f"{rows}.low")
    shift = w.initializer(f"{rows}.shift", np.uint8(HALF_BITS))
    high = w.emit("BitShift", [rows, shift], f"{rows}.high", direction="RIGHT")
    return w.emit("Concat", [low, high], f"{rows}.whole", axis=-1)


def stored_rows(table: QuantizedWeight) -> np.ndarray:
    """(rows, width) int8; of 4 bits (rows, width / 2) uint8."""
    return in_halves(table.integers + MIDDLE) if table.bits <= HALF_BITS else table.integers
