"""Checks tokens, the numbers that embeddings take, and says in one sentence what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from autocomp.evaluators.lazy_arrays import parts_of
from autocomp.primitives.tracing.nodes import looks_up
from autocomp.primitives.tracing.platform import forward_in_any_mode
from autocomp.search_spaces import NetworkGraph

Arrays = tuple[np.ndarray, ...]
PASSES_ON = ("reshape", "flatten", "transpose")  # kinds of operators that leave the numbers of tokens as they are
USUAL_LENGTHS = (8, 16, 32, 64, 128, 256, 512)
TRIED_LENGTHS = 24


def check_tokens(graph: NetworkGraph, arrays: Sequence[np.ndarray], role: str) -> None:
    """ValueError for a token outside the table of the embedding that takes it; arrays: (n, ...) each."""
    for path, number, rows in _taken(graph):
        if number >= len(arrays):
            continue
        before = 0
        for part in parts_of(arrays[number]):
            wrong = (part < 0) | (part >= rows)
            if wrong.any():
                place = np.unravel_index(int(wrong.argmax()), part.shape)
                where = [int(i) + (0 if axis else before) for axis, i in enumerate(place)]
                raise ValueError(
                    f"tokens must be 0 to {rows - 1}, since the embedding {path} has {rows} rows, but input {number} "
                    f"of {role} has {part[place]} at {where}"
                )
            before += len(part)


def _taken(graph: NetworkGraph) -> Iterator[tuple[str, int, int]]:
    """Embedding, the number of the network's input that it takes as it is, and its rows."""
    inputs = [i for i, node in enumerate(graph.nodes) if node.kind == "input"]
    for node in graph.nodes:
        if node.attributes.table is None or not node.inputs:
            continue
        source = node.inputs[0]
        while graph.nodes[source].kind in PASSES_ON or graph.nodes[source].op == "Cast":
            if len(graph.nodes[source].inputs) != 1:
                break
            source = graph.nodes[source].inputs[0]
        if source in inputs:
            yield str(node.layer), inputs.index(source), node.table_shape[0]


def what_is_wrong(net: Any, one: Arrays) -> str | None:
    """A sentence about inputs that a network with an embedding does not take; None where there is none to say.

    one: arrays of one sample.
    """
    cells = {path: cell for path, cell in net.cells_and_names() if path and looks_up(cell)}
    if not cells:
        return None
    for path, rows in sorted(((path, _rows(cell)) for path, cell in cells.items()), key=lambda item: -item[1]):
        within = tuple(np.clip(x, 0, rows - 1) if x.dtype.kind in "iu" else x for x in one)
        number = next((i for i, x in enumerate(one) if (x != within[i]).any()), None)
        if number is not None and _takes(net, within):
            wrong = one[number][one[number] != within[number]][0]
            return f"tokens must be 0 to {rows - 1}, since the embedding {path} has {rows} rows, but got {wrong}"
    floats = [i for i, x in enumerate(one) if x.dtype.kind == "f"]
    for some in [[i] for i in floats] + [floats] * (len(floats) > 1):
        if _takes(net, tuple(x.astype(np.int32) if i in some else x for i, x in enumerate(one))):
            named = " and ".join(f"input {i}" for i in some)
            return (
                f"tokens must be integers, since the network has the embedding {next(iter(cells))}, but {named} has "
                f"the type {one[some[0]].dtype}: give int32 or int64"
            )
    return _wrong_length(net, one)


def _rows(cell: Any) -> int:
    return int(next(iter(cell.get_parameters(expand=False))).shape[0])


def _wrong_length(net: Any, one: Arrays) -> str | None:
    given = {x.shape[1] for x in one if x.ndim == 2}
    if len(given) > 1:
        return f"the inputs of a sample must have as many tokens each, but got {_listed(sorted(given))}"
    if not given:
        return None
    (length,) = given
    taken = [size for size in _lengths(net) if size != length and _takes(net, _of_length(one, size))]
    if not taken:
        return None
    return f"the network takes samples of {_listed(taken)} tokens, but got {length}: fill up or shorten the samples"


def _lengths(net: Any) -> list[int]:
    """Lengths that the network may be written for: sizes of its parameters, and the usual ones."""
    sizes = {int(parameter.shape[0]) for parameter in net.get_parameters() if len(parameter.shape)}
    return sorted({*(size for size in sizes if size <= max(USUAL_LENGTHS)), *USUAL_LENGTHS})[:TRIED_LENGTHS]


def _of_length(one: Arrays, size: int) -> Arrays:
    return tuple(np.resize(x, (len(x), size)) if x.ndim == 2 else x for x in one)


def _takes(net: Any, one: Arrays) -> bool:
    with suppress(Exception):  # the network's own code
        forward_in_any_mode(net, one)
        return True
    return False


def _listed(numbers: Sequence[int]) -> str:
    *first, last = map(str, numbers)
    return f"{', '.join(first)} or {last}" if first else last
