"""Files of networks that were made without a search, by the search's own writers."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from autocomp.primitives.cells.compression_state import STATE
from autocomp.primitives.cells.conversion import MadeOf, convert, converted
from autocomp.primitives.cells.integers_apart import integers_apart
from autocomp.primitives.export.files import export_format
from autocomp.primitives.numerics.plan_compressor import PlanCompressor, parameters_of
from autocomp.primitives.tracing.tracer import as_float32, check_cell, example_inputs, find_inputs, trace
from autocomp.problem.arguments import check
from autocomp.results.point import ExportReport
from autocomp.search_spaces import Plan, SearchSpace

from . import deploy


def export(net: Any, path: str | os.PathLike[str], inputs: Any = None) -> ExportReport:
    """Write a network to ``path`` (.mindir or .onnx), load the file again and compare its outputs with the network's.

    The file is that of a search's point: BatchNorm folded, pruned channels gone, weights in integers. A Cell around a
    converted network, such as a decoder with a cache, and a converted network with inputs of other shapes are traced
    anew; dense layers and embeddings keep their integers.

    Args:
        net: what an algorithm's ``convert`` gave, or any Cell that can be traced; it is not changed.
        inputs: one shape with its batch, a list of shapes, or arrays; None probes the usual image sizes. A MindIR file
            has this batch, an ONNX file takes any.

    Raises:
        ValueError: a network that an algorithm prepared for training and that was not converted; another ending.
        ExportError: the file does not compute what the network does; it is not written.
        TraceError: the network cannot be read.
    """
    check("export_network", net=net, path=path)
    check_cell(net)
    export_format(path)
    if getattr(net, STATE, None) is not None:
        raise ValueError("export takes a converted network: call algorithm.convert(net) first")
    arrays = find_inputs(net) if inputs is None else example_inputs(inputs)
    known = converted(net)
    if known is not None and _takes(known, arrays):
        return deploy.export(net, known.graph, known.parameters, known.compressed, arrays, path)
    apart = integers_apart(net)
    plain = as_float32(net) if apart is None else apart.net
    graph, parameters = trace(plain, arrays), parameters_of(plain)
    compressed = PlanCompressor(SearchSpace(graph, ()), parameters)(Plan())
    compressed = compressed if apart is None else apart.put_back(compressed, graph)
    return deploy.export(convert(plain, graph, parameters, compressed), graph, parameters, compressed, arrays, path)


def _takes(known: MadeOf, arrays: tuple[np.ndarray, ...]) -> bool:
    """Whether the converted network was traced with inputs of these shapes, but for the batch."""
    traced = [node.shape[1:] for node in known.graph.nodes if node.kind == "input"]
    return traced == [array.shape[1:] for array in arrays]
