"""Replacing cells of a copied network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .platform import load_mindspore


def replace_cell(net: Any, path: str, new: Any) -> None:
    """Put ``new`` where the cell at ``path`` is. Only for a network that has not run: see docs/architecture.md."""
    parent_path, _, name = path.rpartition(".")
    parent = cell_at(net, parent_path)
    if isinstance(parent, load_mindspore().nn.SequentialCell):
        parent[list(parent._cells).index(name)] = new
    else:
        setattr(parent, name, new)
    if cell_at(net, path) is not new:
        raise RuntimeError(f"cell {path} of {type(net).__name__} could not be replaced")


def cell_at(net: Any, path: str) -> Any:
    for name in path.split(".") if path else []:
        net = net._cells[name]
    return net


def rename_parameters(net: Any, names: Mapping[int, str] | None = None) -> None:
    """Name parameters by their path in the network, or as ``names`` (id of the parameter -> name) says."""
    for path, parameter in net.parameters_and_names():
        parameter.name = (names or {}).get(id(parameter), path)
