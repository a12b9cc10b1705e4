"""The network under a plan as an ONNX model, written from the traced graph.

The same writer makes the model that is evaluated on CPU and the exported one: pruned channels are removed, BatchNorm is
folded, inputs of quantized layers pass QuantizeLinear and DequantizeLinear. The batch is free. It needs no MindSpore,
so that workers start fast.
"""

from __future__ import annotations

import onnx

from autocomp.primitives.numerics.plan_compressor import CompressedWeights, Parameters
from autocomp.search_spaces import NetworkGraph

from .onnx_moved import round_moved
from .onnx_operators import OPERATORS
from .onnx_writer import OPSET_INT4, Style, Writer


def onnx_network(
    graph: NetworkGraph, parameters: Parameters, compressed: CompressedWeights, style: Style | None = None
) -> onnx.ModelProto:
    """ExportError where an operator has no ONNX form here; the message names it."""
    graph = compressed.graph or graph
    writer = Writer(graph, parameters, compressed, style or Style())
    model = writer.model(OPERATORS)
    if writer.signed and writer.opset == OPSET_INT4:
        round_moved(model)
    return model
