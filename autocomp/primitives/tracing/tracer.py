"""Traces a MindSpore network: makes a NetworkGraph of it."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from autocomp.errors import TraceError
from autocomp.search_spaces import NetworkGraph, Node

from .batch_axis import loses_batch, seen_with_two
from .channels import group_channels
from .float32_form import float32_form
from .mindir import export_graph, first_line
from .nodes import nodes_of
from .platform import as_numpy, forward_in_any_mode, load_mindspore

log = logging.getLogger("autocomp")

Inputs = tuple[np.ndarray, ...]

LARGEST_INPUT = 2**30  # numbers, 4 GB: beyond any image or text, and a slip of the keyboard
PROBES = ((3, 224, 224), (3, 32, 32), (1, 28, 28), (1, 32, 32), (3, 299, 299), (3, 64, 64))


def trace(net: Any, inputs: Inputs | Sequence[int] | Sequence[Sequence[int]]) -> NetworkGraph:
    """The network as data.

    Args:
        net: a MindSpore Cell; it is copied, never changed.
        inputs: example arrays, one shape with its batch, or a list of shapes. The graph is traced at batch 1.

    Raises:
        TypeError: net is no Cell. TraceError: it does not compile for these inputs.
    """
    net = as_float32(net)
    arrays = one_image(example_inputs(inputs))
    nodes, outputs = nodes_of(export_graph(net, arrays), net)
    unknown = Counter(node.op for node in nodes if node.kind == "other")
    graph = NetworkGraph(nodes, outputs, unknown=dict(unknown), other_params=_other_params(net, nodes))
    if unknown:
        names = ", ".join(f"{op} x{count}" for op, count in sorted(unknown.items()))
        log.info("operators that are not changed, nor the channels that reach them: %s", names)
    graph = group_channels(graph)
    return _with_two(net, graph, arrays) if loses_batch(graph) else graph


def _with_two(net: Any, graph: NetworkGraph, arrays: Inputs) -> NetworkGraph:
    """The graph with the axes that grow with the batch, found by tracing the network with a batch of two."""
    pairs = tuple(np.repeat(array, 2, axis=0) if array.ndim else array for array in arrays)
    try:
        nodes, _ = nodes_of(export_graph(net, pairs), net)
    except TraceError as error:
        log.debug("the network does not compile for a batch of two: %s", error)
        return graph
    return seen_with_two(graph, nodes)


def check_cell(net: Any) -> None:
    ms = load_mindspore()
    if not isinstance(net, ms.nn.Cell):
        raise TypeError(f"net must be a mindspore.nn.Cell, but got {type(net).__name__}")
    _name_parameters(net)


def as_float32(net: Any) -> Any:
    """The network, checked; of one in a smaller type a copy, its :func:`float32_form`."""
    check_cell(net)
    return float32_form(net)


def _name_parameters(net: Any) -> None:
    """Names of their own, where several bear one (cells with ``auto_prefix=False``): MindSpore gives them at the
    network's first call, and nothing tells its parameters apart before."""
    names = [parameter.name for parameter in net.get_parameters()]
    if len(set(names)) < len(names):
        net.check_names_and_refresh_name()


def example_inputs(inputs: Any) -> Inputs:
    """Arrays from arrays or shapes. Shapes give seeded noise: images of zeros would hide problems."""
    if _is_array(inputs):
        inputs = (inputs,)
    items = list(inputs) if isinstance(inputs, (tuple, list)) else []
    if items and all(map(_is_array, items)):
        return tuple(_checked_input(np.asarray(as_numpy(item)), i) for i, item in enumerate(items))
    shapes = [items] if items and all(map(_is_size, items)) else items
    if not shapes or not all(
        isinstance(shape, (tuple, list)) and shape and all(map(_is_size, shape)) for shape in shapes
    ):
        error = ValueError if isinstance(inputs, (tuple, list)) else TypeError
        raise error(
            f"inputs must be arrays, a shape such as (1, 3, 224, 224) or a list of shapes, got {_short(inputs)}"
        )
    large = [tuple(shape) for shape in shapes if math.prod(shape) > LARGEST_INPUT]
    if large:
        raise ValueError(f"a shape of inputs must have at most {LARGEST_INPUT:,} numbers, but got {large[0]}")
    rng = np.random.default_rng(0)
    return tuple(rng.standard_normal(tuple(shape)).astype(np.float32) for shape in shapes)


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) or hasattr(value, "asnumpy")


def _is_size(value: Any) -> bool:
    return bool(isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value > 0)


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:60]}..."


def _checked_input(array: np.ndarray, number: int) -> np.ndarray:
    """An array of at least one number, none of them NaN; float64 becomes float32, which networks take."""
    if array.dtype.kind not in "fiub":
        raise TypeError(f"inputs must be arrays of numbers, but input {number} is an array of {array.dtype.name}")
    if array.size == 0:
        raise ValueError(f"inputs must have at least one number each, but input {number} has shape {array.shape}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"inputs must be finite, but input {number} has {first_not_finite(array)}")
    return array.astype(np.float32) if array.dtype == np.float64 else array


def first_not_finite(array: np.ndarray, before: int = 0) -> str:
    """``NaN at [0, 2, 1]`` and how many more numbers are not finite. before: rows of the whole that came before."""
    wrong = ~np.isfinite(array)
    place = np.unravel_index(int(wrong.argmax()), array.shape)
    kind, count = "NaN" if np.isnan(array[place]) else "infinity", int(wrong.sum())
    where = [int(i) + (0 if axis else before) for axis, i in enumerate(place)]
    return f"{kind} at {where}" + (f", {count} NaN or infinite in all" if count > 1 else "")


def one_image(arrays: Inputs) -> Inputs:
    return tuple(array[:1] if array.ndim else array for array in arrays)


def find_inputs(net: Any) -> Inputs:
    """Inputs that the network takes, found by trying the usual image sizes; one log line names the size."""
    net = as_float32(net)
    rng = np.random.default_rng(0)
    for shape in PROBES:
        x = rng.standard_normal((1, *shape)).astype(np.float32)
        try:
            forward_in_any_mode(net, (x,))
        except Exception as error:  # the network's own code may raise anything for a size that it does not take
            log.debug("inputs of shape (1, %s) do not fit: %s", ", ".join(map(str, shape)), first_line(error))
            continue
        log.info("no inputs= given: the network takes images of shape %s", shape)
        return (x,)
    tried = ", ".join(f"(1, {', '.join(map(str, shape))})" for shape in PROBES)
    raise TraceError(f"the network takes none of the usual image sizes {tried}: give inputs=, for example a shape")


def _other_params(net: Any, nodes: Sequence[Node]) -> int:
    layers = {name for node in nodes for name in (node.attributes.weight, node.bias)}
    return sum(math.prod(p.shape) for p in net.get_parameters() if p.name not in layers)
