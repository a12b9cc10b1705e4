"""Operators of MindSpore that compute what an older one computes, under its name and with its arguments."""

from __future__ import annotations

from typing import Any

VIEWS = {
    "ExpandDimsView": "ExpandDims",
    "SplitTensorView": "SplitTensor",
    "ChunkView": "Chunk",
    "UnstackExtView": "UnstackExt",
    "NarrowView": "Narrow",
    "MaskedFillScalar": "MaskedFill",
    "InplaceAddsExt": "AddExt",
    "InplaceSubsExt": "SubExt",
    "InplaceMuls": "Muls",
    "InplaceDivs": "Divs",
}


def older_form(op: str, inputs: list[Any], rank: int) -> tuple[str, list[Any]]:
    """The operator's name and inputs as rules know them. rank: of its first output."""
    inputs = inputs[:-1] if op in (*VIEWS, "TransposeExtView") and inputs[-1:] == [None] else inputs
    if op == "TransposeExtView":
        order = list(range(rank))
        first, second = (axis % rank for axis in inputs[1:3])
        order[first], order[second] = second, first
        return "Transpose", [inputs[0], tuple(order)]
    return VIEWS.get(op, op), inputs
