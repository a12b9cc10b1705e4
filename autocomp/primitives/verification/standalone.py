"""Surgery without a search: finds the channels that can be cut, cuts some, folds BatchNorm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from autocomp.primitives.arguments import RULES
from autocomp.primitives.numerics.plan_compressor import PlanCompressor, parameters_of
from autocomp.primitives.tracing.tracer import as_float32, example_inputs, find_inputs, one_image, trace
from autocomp.rules import checked
from autocomp.search_spaces import ChannelGroup, NetworkGraph, SearchSpace


@checked(RULES["channel_groups"])
def channel_groups(net: Any, inputs: Any = None) -> tuple[ChannelGroup, ...]:
    """The layers of a network whose channels can only be cut together; each group is tried out.

    Args:
        net: a MindSpore Cell; it is copied, never changed.
        inputs: as :func:`trace` takes them; None tries the usual image sizes.

    >>> [(group.name, group.layers, group.units) for group in channel_groups(net)]
    [('conv1', ('conv1',), 64), ('layer1.0.conv1', ('layer1.0.conv1',), 64), ...]
    """
    return _traced(as_float32(net), inputs).channel_groups


@checked(RULES["prune_channels"])
def prune_channels(net: Any, removed: Mapping[str, Iterable[int]], inputs: Any = None) -> Any:
    """A new Cell without these channels; every layer that shares or reads them is sliced to fit.

    Args:
        net: a MindSpore Cell; it is copied, never changed.
        removed: group or layer -> indices. Indices of a group, whose names :func:`channel_groups` gives, are units;
            indices of a layer are output channels: the channels of other layers that belong to them are removed, too. A
            group has the name of its first layer, and that name means the group.
        inputs: as :func:`trace` takes them; None tries the usual image sizes.

    Raises:
        ValueError: a name is no group and no layer, the layer's channels cannot be cut (with the reason), an index does
        not exist, or a group would be empty.

    >>> smaller = prune_channels(net, {"layer1.0.conv1": [0, 5, 7]})
    """
    from autocomp.primitives.cells.conversion import convert

    net = as_float32(net)
    graph = _traced(net, inputs)
    kept = np.ones(graph.unit_count, bool)
    for name, indices in removed.items():
        kept[_units(graph, name, indices)] = False
    for group in graph.channel_groups:
        if not kept[group.start : group.stop].any():
            raise ValueError(f"a group must keep a channel, but all {group.units} of {group.name} are removed")
    parameters = parameters_of(net)
    compressed = PlanCompressor(SearchSpace(graph, ()), parameters).of(kept, {})
    return convert(net, graph, parameters, compressed, folds=False)


@checked(RULES["fold_batchnorm"])
def fold_batchnorm(net: Any, inputs: Any = None) -> Any:
    """A new Cell in evaluation mode that computes the same, with BatchNorms folded into the layers before them.

    A BatchNorm is folded into a convolution or dense layer whose output nothing else reads. One that normalises by the
    batch in evaluation is not folded.
    """
    from autocomp.primitives.cells.conversion import convert

    net = as_float32(net)
    graph = trace(net, inputs_for(net, inputs))
    parameters = parameters_of(net)
    return convert(net, graph, parameters, PlanCompressor(SearchSpace(graph, ()), parameters).of(_all(graph), {}))


def _all(graph: NetworkGraph) -> np.ndarray:
    return np.ones(graph.unit_count, bool)


def inputs_for(net: Any, inputs: Any) -> tuple[np.ndarray, ...]:
    return find_inputs(net) if inputs is None else one_image(example_inputs(inputs))


def _traced(net: Any, inputs: Any) -> NetworkGraph:
    from .trial_cut import verify_channel_groups

    arrays = inputs_for(net, inputs)
    return verify_channel_groups(net, trace(net, arrays), parameters_of(net), arrays)


def _units(graph: NetworkGraph, name: str, indices: Iterable[int]) -> np.ndarray:
    """The rows of the graph's units that these indices name."""
    chosen = np.array(sorted(set(indices)), np.int64)
    if name in {group.name for group in graph.channel_groups}:
        group = graph.group(name)
        _check(name, chosen, group.units)
        return group.start + chosen
    if name not in graph.layers:
        known = ", ".join(group.name for group in graph.channel_groups)
        raise ValueError(f"{name!r} is no channel group and no layer; groups: {known}")
    units = graph.nodes[graph.layers[name]].units
    _check(name, chosen, len(units))
    if (units[chosen] < 0).any():
        reason = graph.whole.get(name, "some of its channels must be cut together with channels that stay")
        raise ValueError(f"the channels of {name} stay whole: {reason}")
    return np.unique(units[chosen])


def _check(name: str, chosen: np.ndarray, count: int) -> None:
    wrong = [int(i) for i in chosen if not 0 <= i < count]
    if wrong:
        raise ValueError(f"channels of {name} are 0 to {count - 1}, but got {', '.join(map(str, wrong))}")
