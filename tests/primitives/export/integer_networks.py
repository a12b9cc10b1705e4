"""Small networks whose layers run in integers, and plans of them as onnxruntime runs them."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from mindspore import Tensor, nn, ops

from autocomp.evaluators import OnnxEngine
from autocomp.evaluators.calibration import calibrate_ranges, calibrate_tensors, shared_ranges
from autocomp.primitives.choices import Choices
from autocomp.primitives.export.onnx_network import onnx_network
from autocomp.primitives.export.onnx_writer import REWRITES, Style
from autocomp.primitives.numerics.plan_compressor import CompressedWeights, PlanCompressor, parameters_of
from autocomp.primitives.registry import search_space
from autocomp.primitives.tracing.tracer import trace
from autocomp.search_spaces import Format, NetworkGraph, Plan
from tests.networks import NETWORKS, conv, images, randomised

FORMATS = ("float", "w8", "w8a8", "w4", "w4a8")
EXPORT = Style(integer_weights=True, fast_groups=True)  # as files for onnxruntime are written


class Upsampling(nn.Cell):
    """Transposed convolutions of several strides and paddings, and a concatenation with what was before, as a U-Net."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down = conv(3, 16), conv(16, 16, 3, 2)
        self.up = nn.Conv2dTranspose(16, 8, 2, 2, "valid", has_bias=True)
        self.padded = nn.Conv2dTranspose(24, 8, 4, 2, "pad", 1)
        self.same = nn.Conv2dTranspose(8, 8, 3, 2, "same", has_bias=True)
        self.thrice = nn.Conv2dTranspose(8, 8, 5, 3, "pad", 1)
        self.last = conv(8, 4, 1)

    def construct(self, x: Tensor) -> Tensor:
        x = ops.relu(self.stem(x))
        y = ops.concat((ops.relu(self.up(ops.relu(self.down(x)))), x), 1)
        y = ops.relu(self.same(ops.relu(self.padded(y))))
        return self.last(ops.relu(self.thrice(y)))


class Shuffling(nn.Cell):
    """A channel split, a depthwise branch, a concatenation and a shuffle of channels, as ShuffleNetV2."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first, self.depthwise = conv(3, 16, 3, 2), conv(8, 8, 1), conv(8, 8, 3, group=8)
        self.second, self.join, self.head = conv(8, 8, 1), conv(16, 24, 1), nn.Dense(24, 5)
        self.pool = nn.MaxPool2d(2, 2)

    def construct(self, x: Tensor) -> Tensor:
        left, right = ops.split(self.pool(ops.relu(self.stem(x))), 8, 1)
        right = ops.relu(self.second(self.depthwise(ops.relu(self.first(right)))))
        x = ops.concat((left, right), 1)
        n, c, h, w = x.shape
        x = x.reshape(n, 2, c // 2, h, w).transpose(0, 2, 1, 3, 4).reshape(n, c, h, w)
        return self.head(ops.mean(ops.relu(self.join(x)), (2, 3)))


class Vanishing(nn.Cell):
    """BatchNorms that make next to nothing of some channels, so that only their shift is left."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.head = conv(3, 16), nn.BatchNorm2d(16), conv(16, 4, 1)

    def construct(self, x: Tensor) -> Tensor:
        return self.head(ops.relu(self.norm(self.stem(x))))


class Gated(nn.Cell):
    """SiLU between layers, and a squeeze-and-excite gate of convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.wide = nn.Conv2d(3, 16, 3, has_bias=True), nn.Conv2d(16, 16, 3, has_bias=True)
        self.squeeze, self.excite = nn.Conv2d(16, 4, 1, has_bias=True), nn.Conv2d(4, 16, 1, has_bias=True)
        self.project, self.head, self.silu = conv(16, 16, 1), nn.Dense(16, 5), nn.SiLU()

    def construct(self, x: Tensor) -> Tensor:
        x = self.silu(self.wide(self.silu(self.stem(x))))
        gate = ops.mean(x, (2, 3), keep_dims=True)
        x = x * ops.sigmoid(self.excite(self.silu(self.squeeze(gate))))
        return self.head(ops.mean(ops.relu(self.project(x)), (2, 3)))


class Rows(nn.Cell):
    """Dense layers over an image's rows: inputs of rank 3, the last of rank 2."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Dense(36, 24), nn.Dense(24, 16), nn.Dense(16, 5)

    def construct(self, x: Tensor) -> Tensor:
        x = x.reshape((x.shape[0], 12, 36))
        x = ops.relu(self.second(ops.relu(self.first(x))))
        return self.head(ops.mean(x, 1))


class Grouped(nn.Cell):
    """Groups that are one convolution in a file, groups that are several, and channels convolved alone into two."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.narrow = conv(3, 24), nn.Conv2d(24, 24, 3, group=3, has_bias=True)
        self.wide, self.middle = conv(24, 96, 1, group=3), conv(96, 96, 3, 2, group=12)
        self.halves, self.twice = nn.Conv2d(96, 48, 1, group=2, has_bias=True), conv(48, 96, 3, group=48)
        self.norm, self.join, self.head = nn.BatchNorm2d(96), conv(96, 16, 1), nn.Dense(16, 5)

    def construct(self, x: Tensor) -> Tensor:
        x = ops.relu(self.narrow(ops.relu(self.stem(x))))
        x = ops.relu(self.halves(self.middle(ops.relu(self.wide(x)))))
        return self.head(ops.mean(ops.relu(self.join(ops.relu(self.norm(self.twice(x))))), (2, 3)))


OTHERS = {
    "upsampling": Upsampling, "shuffling": Shuffling, "gated": Gated, "rows": Rows, "vanishing": Vanishing,
    "grouped": Grouped,
}  # fmt: skip
NAMES = (*NETWORKS, *OTHERS)


@dataclass(frozen=True)
class Rounded:
    """A network whose tensors are calibrated."""

    graph: NetworkGraph
    parameters: dict[str, np.ndarray]
    compressor: PlanCompressor
    x: np.ndarray

    def compressed(self, *formats: str) -> CompressedWeights:
        """formats: of the layers in order, or one of all of them."""
        chosen = formats * len(self.graph.layers) if len(formats) == 1 else formats
        pairs = zip(self.graph.layers, chosen, strict=True)
        return self.compressor(Plan({f"format/{layer}": text for layer, text in pairs if text != "float"}))

    def run(self, compressed: CompressedWeights, style: Style, optimized: bool = True) -> np.ndarray:
        return np.asarray(self._session(compressed, style, optimized).run(None, {"x": self.x})[0])

    def kernels(self, compressed: CompressedWeights, folder: Path) -> Counter[str]:
        """How often each kernel ran, as onnxruntime's profile says."""
        model = onnx_network(self.graph, self.parameters, compressed, EXPORT)
        return kernels_of(model.SerializeToString(), self.x, folder)

    def _session(self, compressed: CompressedWeights, style: Style, optimized: bool = True) -> Any:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if not optimized:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        model = onnx_network(self.graph, self.parameters, compressed, style).SerializeToString()
        return onnxruntime.InferenceSession(
            model,
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=[] if style.integer_weights else REWRITES,
        )


def kernels_of(model: bytes, x: np.ndarray, folder: Path) -> Counter[str]:
    """How often each kernel ran for an input, as onnxruntime's profile says."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.enable_profiling = 3, True
    options.profile_file_prefix = str(folder / "profile")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    session.run(None, {session.get_inputs()[0].name: x})
    events = json.loads(Path(session.end_profiling()).read_text())
    ran = [event for event in events if event["cat"] == "Node" and event["name"].endswith("_kernel_time")]
    return Counter(event["args"]["op_name"] for event in ran)


@cache
def rounded(name: str) -> Rounded:
    net, x = randomised((NETWORKS | OTHERS)[name]()), images(16)
    if name == "vanishing":
        gamma = net.norm.gamma.asnumpy()
        gamma[:4] = [0, 1e-30, 1e-12, 1e-7]
        net.norm.gamma.set_data(Tensor(gamma))
    graph, parameters = trace(net, (x[:1],)), parameters_of(net)
    space = search_space(graph, parameters, Choices([Format.parse(text) for text in FORMATS], 4, "rtn"))
    engine, plain = OnnxEngine(graph, parameters), PlanCompressor(space, parameters)(Plan())
    tensors = calibrate_tensors(engine, graph, plain, (x,))
    ranges = shared_ranges(graph, calibrate_ranges(engine, space, plain, (x,)), tensors)
    return Rounded(graph, parameters, PlanCompressor(space, parameters, ranges, tensors=tensors), x)
