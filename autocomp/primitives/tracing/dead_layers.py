"""Layers that no output depends on, such as a head for training alone: the compiler leaves them out, PyNative mode runs
them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autocomp.search_spaces import NetworkGraph

from .platform import load_mindspore

Width = tuple[int, int]  # the axis of the input that has the channels, and how many it has


def dead_layers(net: Any, graph: NetworkGraph) -> dict[str, Width]:
    """Path -> width, of the dead cells of MindSpore's that take one number of channels alone."""
    read = {name for node in graph.nodes for name in node.attributes.parameters}
    alive = {node.layer for node in graph.nodes}  # a network that became part of another has other names of parameters
    widths = _widths()
    found = {}
    for path, cell in net.cells_and_names():
        names = [parameter.name for parameter in cell.get_parameters()]
        if path and path not in alive and names and not read.intersection(names) and type(cell) in widths:
            found[path] = widths[type(cell)](cell)
    return found


def _widths() -> dict[type, Callable[[Any], Width]]:
    nn = load_mindspore().nn
    by_channels = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Conv1dTranspose, nn.Conv2dTranspose, nn.Conv3dTranspose)
    by_features = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    return {
        nn.Dense: lambda cell: (-1, cell.in_channels),
        nn.LayerNorm: lambda cell: (-1, cell.normalized_shape[-1]),
        nn.GroupNorm: lambda cell: (1, cell.num_channels),
        nn.PReLU: lambda cell: (1, cell.w.shape[0]),
        **dict.fromkeys(by_channels, lambda cell: (1, cell.in_channels)),
        **dict.fromkeys(by_features, lambda cell: (1, cell.num_features)),
        **dict.fromkeys((nn.GRU, nn.LSTM, nn.RNN), lambda cell: (-1, cell.w_ih_list[0].shape[1])),
    }
