"""Rebuilds the structure of a compressed network, so that a checkpoint of it can be loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from autocomp.primitives.cells.conversion import convert
from autocomp.primitives.numerics.plan_compressor import PlanCompressor, parameters_of
from autocomp.primitives.numerics.quantizers import ActivationQuantizer
from autocomp.primitives.tracing.tracer import trace
from autocomp.primitives.verification.standalone import inputs_for
from autocomp.problem.arguments import check
from autocomp.rules import is_number, shown
from autocomp.search_spaces import (
    SPARSE,
    ChannelGroup,
    Format,
    NetworkGraph,
    Plan,
    SearchSpace,
    Value,
    split_value,
)


def rebuild(net: Any, plan: Plan | Mapping[str, Any] | str, inputs: Any = None) -> Any:
    """A Cell with the structure that ``plan`` gives ``net``, and with the parameter names of ``point.net()``.

    Its numbers have no meaning until a checkpoint of the compressed network is loaded:

    >>> small = autocomp.rebuild(ResNet(), '{"format/conv1":"w8a8","keep/layer1.0.conv1":0.5}')
    >>> mindspore.load_param_into_net(small, mindspore.load_checkpoint("small.ckpt"))

    Args:
        net: the float network; its weights do not matter. It is copied, never changed.
        plan: ``point.plan``, or its text.
        inputs: as ``search`` takes them; None tries the usual image sizes.

    Raises:
        ValueError: the plan names a layer or channel group that the network does not have, or a group in which the
        structure depends on which channels are cut, not only on how many.
    """
    check("rebuild", net=net, plan=plan)
    plan = Plan.parse(plan) if isinstance(plan, str) else Plan(plan)
    graph = trace(net, inputs_for(net, inputs))
    kept, formats, sparse = np.ones(graph.unit_count, bool), {}, set()
    for name, value in plan.items():
        kind, _, place = name.partition("/")
        value = split_value(value)[0]
        if kind == "keep":
            group = graph.group(place)
            _check_even(graph, group)
            ratio = float(value) if is_number(value) else 0.0
            if not 0 < ratio <= 1:
                raise ValueError(f"the plan must keep a share of {place} in (0, 1], but got {shown('keep', value)}")
            kept[group.start + max(1, round(ratio * group.units)) : group.stop] = False
        elif kind == "format":
            if place not in graph.layers:
                raise ValueError(f"the plan sets the format of {place!r}; layers: {', '.join(graph.layers)}")
            formats[place] = Format.parse(str(value))
        elif kind == "sparsity":
            sparse.add(_sparse_layer(graph, place, value))
        else:
            raise ValueError(
                f"a plan's choices are 'keep/<group>', 'format/<layer>' and 'sparsity/<layer>', but got {name!r}"
            )
    parameters = parameters_of(net)
    bits = {(layer, chosen.activation_bits) for layer, chosen in formats.items()}
    ranges = {key: ActivationQuantizer(1.0, 0, key[1]) for key in bits}
    compressor = PlanCompressor(SearchSpace(graph, ()), parameters, ranges)
    return convert(net, graph, parameters, compressor.of(kept, formats, plan, sparse))


def _sparse_layer(graph: NetworkGraph, layer: str, value: Value) -> str:
    if layer not in graph.layers or value != SPARSE:
        known = ", ".join(graph.layers)
        raise ValueError(f"the plan must make a layer {SPARSE!r} sparse, but got {layer!r}: {value!r}; layers: {known}")
    return layer


def _check_even(graph: NetworkGraph, group: ChannelGroup) -> None:
    """ValueError unless every layer of the group has each unit of the group, all equally often."""
    for layer in group.layers:
        units = graph.nodes[graph.layers[layer]].units
        inside = units[(units >= group.start) & (units < group.stop)] - group.start
        counts = np.bincount(inside, minlength=group.units)
        if counts.min() != counts.max():
            raise ValueError(
                f"layer {layer} holds only some channels of the group {group.name}: how many it keeps depends on which "
                "channels the search cut; load the front with autocomp.load(folder, net) instead"
            )
