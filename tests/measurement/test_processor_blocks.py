"""What the device ``cpu`` says of pools, blocks and integers, held against what onnxruntime makes of a network."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from mindspore import Tensor, nn, ops

from autocomp.evaluators import OnnxEngine
from autocomp.evaluators.calibration import calibrate_ranges, calibrate_tensors, shared_ranges
from autocomp.hardware_models import device
from autocomp.hardware_models.lowered import LoweredNetwork
from autocomp.hardware_models.measurements.shapes import OperatorShape
from autocomp.hardware_models.operators import lower
from autocomp.hardware_models.rates import INT8
from autocomp.hardware_models.runtimes.onnxruntime.blocks import BLOCKED_ACTIVATIONS, reordered, turns
from autocomp.hardware_models.runtimes.onnxruntime.integers import in_integers
from autocomp.measurement import processor
from autocomp.measurement.operator_models import operator_model
from autocomp.primitives.choices import Choices
from autocomp.primitives.export.onnx_network import onnx_network
from autocomp.primitives.export.onnx_writer import Style
from autocomp.primitives.numerics.plan_compressor import PlanCompressor, parameters_of
from autocomp.primitives.registry import search_space
from autocomp.primitives.tracing.tracer import trace
from autocomp.search_spaces import Plan
from tests.networks import randomised


def conv(channels: int) -> nn.Cell:
    return nn.Conv2d(channels, 32, 3, has_bias=True)


class Pools(nn.Cell):
    """A max pool that alone reads a layer, and one beside another reader of the same tensor, as in an Inception."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.sibling, self.behind = conv(3), conv(32), conv(32), conv(32)
        self.down, self.same = nn.MaxPool2d(2, 2), nn.MaxPool2d(3, 1, pad_mode="same")
        self.last = nn.Conv2d(64, 16, 1, has_bias=True)

    def construct(self, x: Tensor) -> Tensor:
        x = ops.relu(self.second(self.down(ops.relu(self.first(x)))))
        x = self.down(x)
        return self.last(ops.concat((self.sibling(x), self.behind(self.same(x))), 1))


def optimized(model: bytes, folder: Path) -> onnx.GraphProto:
    """What onnxruntime makes of it."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "optimized.onnx").graph


@cache
def exported() -> tuple[Any, Any, Any]:
    """Space, parameters, and what makes a compressed weights of a plan."""
    net = randomised(Pools())
    x = np.random.default_rng(0).standard_normal((4, 3, 32, 32), np.float32)
    graph, parameters = trace(net, (x[:1],)), parameters_of(net)
    chip = device(processor.TEMPLATE)
    space = search_space(graph, parameters, Choices(chip.formats, chip.channel_divisor, "rtn"))
    engine = OnnxEngine(graph, parameters)
    plain = PlanCompressor(space, parameters)(Plan())
    tensors = calibrate_tensors(engine, graph, plain, (x,))
    ranges = shared_ranges(graph, calibrate_ranges(engine, space, plain, (x,)), tensors)
    return space, parameters, PlanCompressor(space, parameters, ranges, tensors=tensors)


FORMATS = ("float", "w8", "w8a8", "w4a8")
PLANS = [("w8a8",) * 5, ("float", *("w8a8",) * 4), ("w8", *("w8a8",) * 3, "float")]
PLANS += [tuple(plan) for plan in np.random.default_rng(1).choice(FORMATS, (12, 5)).tolist()]


@pytest.mark.parametrize("formats", PLANS, ids="-".join)
def test_the_runtime_does_what_the_model_says(formats: tuple[str, ...], tmp_path: Path) -> None:
    space, parameters, compressor = exported()
    chosen = zip(space.graph.layers, formats, strict=True)
    plan = Plan({f"format/{layer}": text for layer, text in chosen if text != "float"})
    model = onnx_network(space.graph, parameters, compressor(plan), Style(integer_weights=True)).SerializeToString()
    ran = optimized(model, tmp_path)
    chip = device(processor.TEMPLATE)
    workload = space.workload(space.encode(plan)[None])
    lowered = LoweredNetwork(chip, lower(space.graph), workload)
    ops_run = Counter(node.op_type for node in ran.node)
    multiplied = sum(int(lowered.precision(head)[0]) == INT8 for head in space.graph.layers.values())
    assert multiplied == ops_run["QLinearConv"]
    turned = sum(turns(lowered, node)[:, 0].sum() for node in lowered.program.readers)
    ran_turns = sum(ops_run[op] for op in ("ReorderInput", "ReorderOutput", "Transpose"))
    integers = [text in ("w8a8", "w4a8") for text in formats]
    # A tensor that is rounded for one reader leaves the blocks and comes back for a reader in floats: not modelled.
    apart = integers[2] != integers[3] and not integers[1]
    assert ran_turns - 2 * apart <= turned <= ran_turns
    pools = [operator for operator in lowered.program.operators if space.graph.nodes[operator.head].kind == "pool"]
    pooled = sum(bool(in_integers(lowered, operator)[0]) for operator in pools)
    assert pooled == ops_run["NhwcMaxPool"] and len(pools) - pooled == ops_run["MaxPool"]


@pytest.mark.parametrize(
    "op", ["ReLU", "ReLU6", "Sigmoid", "HSigmoid", "Tanh", "HSwish", "SiLU", "Elu", "Softplus", "Exp"]
)
def test_activations_leave_the_blocks_where_the_model_says_so(op: str, tmp_path: Path) -> None:
    shape = OperatorShape("conv", op, "float", 1, 16, 32, 8, 8, 3)
    turned = [node.op_type for node in optimized(operator_model(shape), tmp_path).node]
    workload = shape.workload()
    lowered = LoweredNetwork(device(processor.TEMPLATE), lower(workload.graph), workload)
    elements = sum(reordered(lowered, position)[0] for position in range(len(lowered.program.operators)))
    image, tensor, last = 16 * 64, 32 * 64, 8 * 64
    assert elements == image + (op not in BLOCKED_ACTIVATIONS) * 2 * tensor + last
    assert turned.count("ReorderInput") + turned.count("ReorderOutput") == 2 + 2 * (op not in BLOCKED_ACTIVATIONS)
