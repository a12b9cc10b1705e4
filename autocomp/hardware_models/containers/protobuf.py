"""Bytes of an operator and of a tensor in an ONNX file, by the letters of their names."""

from __future__ import annotations

from collections.abc import Sequence

AXIS = 13  # bytes of the attribute ``axis``


def field(size: int) -> int:
    """Of a text or a part of ``size`` bytes, with its tag and its length."""
    return size + (2 if size < 128 else 3)


def operator(op: str, inputs: Sequence[int], output: int, attributes: int = 0) -> int:
    """inputs, output: letters of the tensors' names; an operator has the name of its output."""
    return field(sum(map(field, (*inputs, output, output, len(op)))) + attributes)


def tensor(name: int, dimensions: int = 1) -> int:
    """Of a stored tensor, beside its numbers: its name, its type, its shape, and their lengths.

    dimensions: of fewer than 128 elements each.
    """
    return field(field(name) + 2 + 2 * dimensions + 2)


def pair(source: int, name: int, scale: int, zero: int, attributes: int = 0) -> int:
    """QuantizeLinear and DequantizeLinear. source, name, scale, zero: letters of what is rounded, of the result, of
    the scale and of the zero point."""
    levels = name + len(".levels")
    first = operator("QuantizeLinear", (source, scale, zero), levels, attributes)
    return first + operator("DequantizeLinear", (levels, scale, zero), name, attributes)
