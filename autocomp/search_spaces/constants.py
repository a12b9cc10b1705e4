"""Arrays that the code holds and no parameter is: causal masks, rotary tables, tables of positions."""

from __future__ import annotations

from .graph import NetworkGraph

SMALL = 64  # bytes: what is no larger counts as a part of its operator


def constant_bytes(graph: NetworkGraph) -> int:
    """Of the distinct large constants that operators read, floats in four bytes each: files hold equal ones once."""
    constants = (argument.value for node in graph.nodes for argument in node.arguments if argument.kind == "constant")
    arrays = [value for value in constants if getattr(value, "nbytes", 0) > SMALL]
    found = {(array.dtype.str, array.shape, array.tobytes()): array for array in arrays}
    return sum(array.size * (4 if array.dtype.kind == "f" else array.itemsize) for array in found.values())
