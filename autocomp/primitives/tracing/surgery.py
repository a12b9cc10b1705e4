"""Replaces cells of a copied network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .platform import load_mindspore

PRIVATE = ("_cells", "_params", "_buffers", "_primitives")


def replace_cells(net: Any, new: Mapping[str, Any]) -> None:
    """Replace the cells at these paths, everywhere they occur: under another path, or in a tuple, list or dict of a
    cell.

    A new cell casts its input to float32 where the old one did. Only for a network that has not run: see
    docs/architecture.md.
    """
    for path, cell in new.items():
        if getattr(cell_at(net, path), "fp32", False):
            cell.to_float(load_mindspore().float32)
    old = {id(cell_at(net, path)): cell for path, cell in new.items()}
    for _, parent in list(net.cells_and_names()):
        for attribute, value in list(vars(parent).items()):  # SequentialCell runs its attribute cell_list
            if type(value) in (list, tuple, dict) and attribute not in PRIVATE and _holds(value, old):
                object.__setattr__(parent, attribute, _replaced(value, old))
        for name, child in list(parent._cells.items()):
            if id(child) in old:
                parent._cells[name] = old[id(child)]
    for path, cell in new.items():
        if cell_at(net, path) is not cell:
            raise RuntimeError(f"cell {path} of {type(net).__name__} could not be replaced")


def _holds(value: Any, old: Mapping[int, Any]) -> bool:
    items = value.values() if type(value) is dict else value
    return any(id(item) in old or (type(item) in (list, tuple, dict) and _holds(item, old)) for item in items)


def _replaced(value: Any, old: Mapping[int, Any]) -> Any:
    if type(value) is dict:
        return {key: _replaced(item, old) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_replaced(item, old) for item in value)
    return old.get(id(value), value)


def cell_at(net: Any, path: str) -> Any:
    for name in path.split(".") if path else []:
        net = net._cells[name]
    return net


def rename_parameters(net: Any, names: Mapping[int, str] | None = None) -> None:
    """Name parameters by their path in the network, or by ``names`` (id of the parameter -> name)."""
    for path, parameter in net.parameters_and_names():
        parameter.name = (names or {}).get(id(parameter), path)
