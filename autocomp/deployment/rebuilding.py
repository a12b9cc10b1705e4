"""Rebuilds a compressed network from a file of its weights; or its structure, so that a checkpoint can be loaded."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from autocomp.evaluators.skippable import skippable_blocks
from autocomp.primitives.cells.conversion import convert
from autocomp.primitives.numerics.divided_inputs import DIVIDING, DYNAMIC, SUPPRESSION, InputScaling
from autocomp.primitives.numerics.plan_compressor import PlanCompressor, parameters_of
from autocomp.primitives.numerics.quantizers import ActivationQuantizer
from autocomp.primitives.replacement.chain_values import chain_of
from autocomp.primitives.replacement.resolution import Resolution
from autocomp.primitives.tracing.channels import left_whole
from autocomp.primitives.tracing.platform import load_mindspore
from autocomp.primitives.tracing.tracer import trace
from autocomp.primitives.verification.standalone import inputs_for
from autocomp.problem.arguments import check
from autocomp.rules import is_number, shown
from autocomp.search_spaces import (
    FLOAT_BITS,
    KEPT,
    RELU,
    SPARSE,
    WHOLE,
    ChannelGroup,
    Format,
    LayerChain,
    NetworkGraph,
    Plan,
    ResidualBlock,
    SearchSpace,
    Value,
    replaceable_activations,
    split_value,
)

from .resolutions.plans import LowerResolution
from .weights_file import StoredWeights, holds_weights


def rebuild(net: Any, plan: Plan | Mapping[str, Any] | str | os.PathLike[str], inputs: Any = None) -> Any:
    """A Cell with the structure that ``plan`` gives ``net``, and with the parameter names of ``point.net``.

    From a file that ``point.export("net.safetensors")`` wrote it has the weights, too:

    >>> small = autocomp.rebuild(ResNet(), "net.safetensors")

    From a plan alone its numbers have no meaning until a checkpoint of the compressed network is loaded:

    >>> small = autocomp.rebuild(ResNet(), '{"format/conv1":"w8a8","keep/layer1.0.conv1":0.5}')
    >>> mindspore.load_param_into_net(small, mindspore.load_checkpoint("small.ckpt"))

    Args:
        net: the float network; its weights do not matter. It is copied, never changed.
        plan: ``point.plan``, or its text, or the path of a ``.safetensors`` file.
        inputs: as ``search`` takes them; None tries the usual image sizes, or takes those of the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the plan names a layer or channel group that the network does not have, or a group in which the
        structure depends on which channels are cut, not only on how many; or the file's weights are not those of such a
        network.
    """
    check("rebuild", net=net, plan=plan)
    if not holds_weights(plan):
        return _structure(net, Plan.parse(plan) if isinstance(plan, str) else Plan(plan), inputs, None)  # type: ignore[arg-type]
    path = Path(plan)  # type: ignore[arg-type]
    stored = StoredWeights.read(path)
    examples = stored.examples() if inputs is None else inputs
    found = _structure(net, stored.plan, examples, stored.kept, stored.whole)
    _fill(found, stored.arrays, path)
    return found


def _fill(net: Any, arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Writes the stored numbers into the network's parameters; ValueError where they are not its own."""
    ms = load_mindspore()
    wanted = {parameter.name: parameter for parameter in net.get_parameters()}
    for name in sorted(set(wanted) ^ set(arrays)):
        lacks = f"{path} lacks" if name in wanted else "the network has no"
        raise ValueError(f"{path} must hold the weights of this network, but {lacks} {name}")
    for name, parameter in wanted.items():
        if tuple(parameter.shape) != arrays[name].shape:
            raise ValueError(
                f"{path} must hold the weights of this network, but {name} has shape {arrays[name].shape} there and "
                f"{tuple(parameter.shape)} in the network"
            )
        parameter.set_data(ms.Tensor(arrays[name]))


def _structure(
    net: Any, plan: Plan, inputs: Any, stays: np.ndarray | None, whole: Mapping[str, str] | None = None
) -> Any:
    """stays: (units,) bool, which channels are kept; None: the first of each group, as many as the plan says. whole:
    see :class:`StoredWeights`."""
    if (lower := LowerResolution.of(plan)) is not None:
        scaled = Resolution(lower.ratio).apply(net, inputs)
        return _structure(scaled, lower.own(plan), inputs, stays, whole)
    graph = left_whole(trace(net, inputs_for(net, inputs)), whole or {})
    kept, formats, sparse = np.ones(graph.unit_count, bool), {}, set()
    named: dict[str, str] = {}
    chains: dict[str, LayerChain] = {}
    skipped: set[str] = set()
    relus: set[str] = set()
    for name, value in plan.items():
        kind, _, place = name.partition("/")
        value, primitive = split_value(value)
        if kind == "keep":
            group = graph.group(place)
            ratio = float(value) if is_number(value) else 0.0
            if not 0 < ratio <= 1:
                raise ValueError(f"the plan must keep a share of {place} in (0, 1], but got {shown('keep', value)}")
            if stays is None:
                _check_even(graph, group)
                kept[group.start + max(1, round(ratio * group.units)) : group.stop] = False
        elif kind == "format":
            if place not in graph.rounded_places:
                known = ", ".join(graph.rounded_places)
                raise ValueError(f"the plan sets the format of {place!r}; layers: {known}")
            formats[place], named[place] = Format.parse(str(value)), primitive
        elif kind == "sparsity":
            sparse.add(_sparse_layer(graph, place, value))
        elif kind == "structure":
            chains |= {} if value == WHOLE else {place: chain_of(graph, place, str(value))}
        elif kind == "skip":
            skipped |= set() if value == WHOLE else {place}
        elif kind == "activation":
            relus |= set() if value == KEPT else {_activation(graph, place, value)}
        elif kind == "cache":  # of a cache, which the network itself does not have
            continue
        else:
            raise ValueError(
                "a plan's choices are 'keep/<group>', 'structure/<layer>', 'skip/<cell>', 'activation/<cell>', "
                "'sparsity/<layer>', 'cache/<attention>', 'format/<layer>' and 'resolution/images', "
                f"but got {name!r}"
            )
    if stays is not None:
        if stays.shape != kept.shape:
            raise ValueError(f"the file is of a network with {len(stays)} channels to cut, but this has {len(kept)}")
        kept = stays
    parameters = parameters_of(net)
    formats = {part: form for layer, form in formats.items() for part in _parts(chains, layer)}
    bits = {(layer, chosen.activation_bits) for layer, chosen in formats.items()}
    bits |= {(layer, width) for layer, chain in chains.items() for part, width in bits if part in chain.layers}
    ranges = {key: ActivationQuantizer(1.0, 0, key[1]) for key in bits}
    divided = {layer for layer, primitive in named.items() if primitive in DIVIDING and layer not in chains}
    scalings = {
        (layer, str(formats[layer]), named[layer]): _any_scales(graph, layer, formats[layer], named[layer])
        for layer in divided
    }
    compressor = PlanCompressor(SearchSpace(graph, ()), parameters, ranges, scalings=scalings)
    sparse = {part for layer in sparse for part in (chains[layer].sparse_layers if layer in chains else (layer,))}
    blocks = _blocks(net, graph, skipped, inputs) if skipped else ()
    chosen = [one for one in replaceable_activations(graph) if one.name in relus]
    compressed = compressor.of(kept, formats, plan, named, sparse, chains, blocks, chosen)
    return convert(net, graph, parameters, compressed)


def _any_scales(graph: NetworkGraph, layer: str, some: Format, primitive: str) -> InputScaling:
    """In the place of those that a file holds."""
    shape = graph.nodes[graph.layers[layer]].weight_shape
    by_row = primitive == DYNAMIC
    rounds = some.activation_bits < FLOAT_BITS and not by_row
    activation = ActivationQuantizer(1.0, 0, some.activation_bits) if rounds else None
    ones, row_bits = np.ones(shape[1] if shape else 1, np.float32), some.activation_bits if by_row else None
    shift = np.zeros_like(ones) if primitive == SUPPRESSION else None
    return InputScaling(ones, 0.5, 1.0, activation, row_bits, shift)


def _blocks(net: Any, graph: NetworkGraph, names: Collection[str], inputs: Any) -> tuple[ResidualBlock, ...]:
    known = {block.name: block for block in skippable_blocks(net, graph, inputs_for(net, inputs))}
    if missing := sorted(names - known.keys()):
        raise ValueError(f"the plan must skip cells that can be left out, {', '.join(known)}; but got {missing[0]!r}")
    return tuple(known[name] for name in sorted(names))


def _activation(graph: NetworkGraph, place: str, value: Value) -> str:
    known = [one.name for one in replaceable_activations(graph)]
    if place not in known or value != RELU:
        there = ", ".join(known) or "of which there is none"
        raise ValueError(
            f"the plan must put {RELU!r} in the place of an activation, {there}; but got {place!r}: {value!r}"
        )
    return place


def _parts(chains: Mapping[str, LayerChain], layer: str) -> tuple[str, ...]:
    return chains[layer].layers if layer in chains else (layer,)


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
