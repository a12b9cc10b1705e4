"""What a fully quantized export gains in onnxruntime, beside onnxruntime's own quantize_static.

    python benchmarks/deploy.py                      # all networks; finished rows are kept in runs/deploy.jsonl
    python benchmarks/deploy.py resnet18 unet        # these only
    python benchmarks/deploy.py resnext50 regnet shufflenet_v1   # with groups; pip install --no-deps mindcv
    python benchmarks/deploy.py --again --runs 60    # measured again, with more runs

Each network has random weights, and BatchNorm statistics of 64 images (noise with the spectrum of photographs). Ranges
are calibrated on 32 others, as those of a trained network are. Its fp32 export, ours with w8a8 in every layer, and what
quantize_static (QDQ, a scale for each channel; with signed and with unsigned activations, the faster one counts) makes
of the same fp32 file are run in turns, with one thread and one image.

Where this processor adds products of 8-bit integers in 32 bits (VNNI), so that they cannot saturate, our weights have
their whole range, as they have in searches for ``cpu``; ``--limited`` keeps the limit all the same.

Columns: milliseconds of fp32 and int8 (medians), how many times as fast as fp32 ours and the peer's are, the relative
error of the outputs against fp32 on images that none was calibrated on, and the layers of ours that onnxruntime's
profile shows in floats.
"""

from __future__ import annotations

import autocomp  # isort: skip  # before MindSpore, for which it sets the environment  # noqa: F401

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from mindspore import Tensor, nn, ops
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from autocomp.deployment.deploy import onnx_bytes
from autocomp.evaluators.accuracy import synthetic_inputs
from autocomp.evaluators.engines import OnnxEngine
from autocomp.measurement.integer_sums import adds_in_16_bits
from autocomp.primitives.choices import Choices
from autocomp.primitives.export.onnx_network import onnx_network
from autocomp.primitives.numerics.plan_compressor import PlanCompressor, parameters_of
from autocomp.primitives.tracing.tracer import trace
from autocomp.problem.jobs import evaluator_of
from autocomp.search_spaces import Format, Plan, SearchSpace

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.branching_networks import densenet, shufflenet_v2
from benchmarks.mindcv_networks import models
from benchmarks.networks import conv_bn, efficientnet, mobilenet_v2, resnet

ROWS = Path(__file__).resolve().parent.parent / "runs" / "deploy.jsonl"
FLOATS = ("Conv", "FusedConv", "NchwcConv", "ConvTranspose", "Gemm", "MatMul", "FusedMatMul", "FusedGemm")
TESTED = 16  # images on which outputs are compared


class UNet(nn.Cell):
    """Ronneberger et al., MICCAI 2015, with a quarter of the channels, BatchNorm and padded convolutions."""

    def __init__(self, width: int = 16, depth: int = 4) -> None:
        super().__init__()
        widths = [width << i for i in range(depth + 1)]
        self.down = nn.CellList([self.twice(a, b) for a, b in pairwise([3, *widths])])
        self.up = nn.CellList([nn.Conv2dTranspose(b, a, 2, 2, has_bias=True) for a, b in pairwise(widths)])
        self.merge = nn.CellList([self.twice(2 * a, a) for a in widths[:-1]])
        self.pool, self.head = nn.MaxPool2d(2, 2), nn.Conv2d(width, 8, 1, has_bias=True)

    @staticmethod
    def twice(channels: int, out: int) -> nn.SequentialCell:
        return nn.SequentialCell([conv_bn(channels, out), conv_bn(out, out)])

    def construct(self, x: Any) -> Any:
        passed = []
        for i, cell in enumerate(self.down):
            x = cell(x if i == 0 else self.pool(x))
            passed.append(x)
        for i in range(len(self.up) - 1, -1, -1):
            x = self.merge[i](ops.concat((passed[i], self.up[i](x)), 1))
        return self.head(x)


NETWORKS: dict[str, tuple[Callable[[], nn.Cell], int]] = {
    "resnet18": (lambda: resnet((2, 2, 2, 2), bottleneck=False), 224),
    "resnet50": (lambda: resnet((3, 4, 6, 3)), 224),
    "mobilenet_v2": (mobilenet_v2, 224),
    "unet": (UNet, 128),
    "densenet121": (lambda: densenet((6, 12, 24, 16)), 224),
    "efficientnet_b0": (lambda: efficientnet(1.0), 224),
    "shufflenet_v2": (lambda: shufflenet_v2((116, 232, 464, 1024)), 224),
}


OF_MINDCV = {"resnext50": "resnext50_32x4d", "regnet": "regnet_x_800mf", "shufflenet_v1": "shufflenet_v1_g3_10"}


def of_mindcv(name: str) -> nn.Cell:
    found = models()
    if found is None:
        raise SystemExit(f"{name} needs: pip install --no-deps mindcv")
    return getattr(found, OF_MINDCV[name])(pretrained=False)


def settled(net: nn.Cell, graph: Any, x: np.ndarray, seed: int) -> nn.Cell:
    """With random weights of the size that keeps variances (He et al., ICCV 2015), and the statistics of ``x``."""
    rng = np.random.default_rng(seed)
    for name, parameter in net.parameters_and_names():
        if len(parameter.shape) > 1:
            size = (2 / np.prod(parameter.shape[1:])) ** 0.5
            parameter.set_data(Tensor(rng.normal(0, size, parameter.shape).astype(np.float32)))
        elif name.endswith("gamma"):
            parameter.set_data(Tensor(rng.uniform(0.5, 1.5, parameter.shape).astype(np.float32)))
    parameters = parameters_of(net)
    plain = PlanCompressor(SearchSpace(graph, ()), parameters)(Plan())
    found = OnnxEngine(graph, parameters).batch_statistics(plain, (x,))
    named = {p.name: p for p in net.get_parameters()}
    for node in graph.nodes:
        if node.layer in found and node.kind == "batchnorm":
            for name, value in zip(node.normalization.statistics, found[node.layer], strict=True):
                named[name].set_data(Tensor(np.asarray(value, np.float32)))
    return net.set_train(False)


class Images(CalibrationDataReader):
    def __init__(self, name: str, x: np.ndarray) -> None:
        self.feeds = iter([{name: image[None]} for image in x])

    def get_next(self) -> Any:
        return next(self.feeds, None)


def session(path: Path, profile: Path | None = None) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def outputs(some: Any, x: np.ndarray) -> np.ndarray:
    name = some.get_inputs()[0].name
    return np.concatenate([some.run(None, {name: image[None]})[0] for image in x])


def medians(sessions: dict[str, Any], x: np.ndarray, runs: int) -> dict[str, float]:
    """Milliseconds, in turns."""
    taken: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(runs):
        for name, some in sessions.items():
            started = time.perf_counter()
            outputs(some, x)
            taken[name].append(1e3 * (time.perf_counter() - started))
    return {name: float(np.median(times[2:])) for name, times in taken.items()}


def kernels(path: Path, x: np.ndarray, folder: Path, layers: set[str]) -> tuple[Counter[str], list[str]]:
    """How often each operator runs in an inference, from onnxruntime's profile, and the layers that run in floats.

    onnxruntime makes a convolution of a BatchNorm, too: that is no layer of the network.
    """
    some = session(path, folder / "profile")
    outputs(some, x)
    events = json.loads(Path(some.end_profiling()).read_text())
    ran = [e for e in events if e.get("cat") == "Node" and e["name"].endswith("_kernel_time")]
    named = [
        e["name"].removesuffix("_kernel_time").removesuffix("_nchwc") for e in ran if e["args"]["op_name"] in FLOATS
    ]
    return Counter(e["args"]["op_name"] for e in ran), [name for name in named if name in layers]


def examine(name: str, runs: int, limited: bool = False, seed: int = 0) -> dict[str, Any]:
    make, pixels = NETWORKS.get(name, (lambda: of_mindcv(name), 224))
    net = make()
    graph = trace(net, (1, 3, pixels, pixels))
    seen, held = synthetic_inputs(graph, seed)[0][:32], synthetic_inputs(graph, seed + 1)[0][:TESTED]
    net = settled(net, graph, np.concatenate([synthetic_inputs(graph, seed + i)[0][:32] for i in (2, 3)]), seed)
    choices = Choices([Format(), Format.parse("w8a8")], 1, ["rtn"], quantizes_tensors=True)
    choices = replace(choices, int16_sums=limited or adds_in_16_bits())
    evaluator = evaluator_of(net, graph, choices, (held,), None, (seen,), True, seed)
    plan = Plan({knob.name: "w8a8" for knob in evaluator.space.knobs})
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        files = {key: folder / f"{key}.onnx" for key in ("fp32", "ours", "signed", "unsigned")}
        plain = evaluator.compress(Plan())
        files["fp32"].write_bytes(onnx_bytes(graph, evaluator.parameters, plain))
        files["ours"].write_bytes(onnx_bytes(graph, evaluator.parameters, evaluator.compress(plan)))
        written, prepared = folder / "plain.onnx", folder / "prepared.onnx"  # groups as they are
        written.write_bytes(onnx_network(graph, evaluator.parameters, plain).SerializeToString())
        quant_pre_process(str(written), str(prepared), skip_symbolic_shape=True)
        input_name = session(prepared).get_inputs()[0].name
        for key, kind in (("signed", QuantType.QInt8), ("unsigned", QuantType.QUInt8)):
            reader = Images(input_name, seen)
            quantize_static(prepared, files[key], reader, QuantFormat.QDQ, per_channel=True, activation_type=kind)
        sessions = {key: session(path) for key, path in files.items()}
        found = {key: outputs(some, held) for key, some in sessions.items()}
        errors = {
            key: float(np.linalg.norm(y - found["fp32"]) / np.linalg.norm(found["fp32"])) for key, y in found.items()
        }
        times = medians(sessions, held[:1], runs)
        layers = {node.name for node in graph.nodes if node.weight_shape is not None}
        ran, floats = kernels(files["ours"], held[:1], folder, layers)
        sizes = {key: path.stat().st_size / 1e6 for key, path in files.items()}
    peer = min(("signed", "unsigned"), key=lambda key: times[key])
    return {
        "network": name,
        "limited": choices.int16_sums,
        "fp32": times["fp32"],
        "ours": times["ours"],
        "peer": times[peer],
        "activations": peer,
        "error": errors["ours"],
        "peer_error": errors[peer],
        "floats": len(floats),
        "kernels": dict(ran),
        "mb": sizes["ours"],
    }


def line(row: dict[str, Any]) -> str:
    return (
        f"{row['network']:16} {row['fp32']:8.2f} {row['ours']:8.2f} {row['fp32'] / row['ours']:7.2f} "
        f"{row['fp32'] / row['peer']:7.2f} {row['activations']:>9} {row['error']:8.4f} {row['peer_error']:8.4f} "
        f"{row['floats']:7d} {row['mb']:7.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "networks", nargs="*", help=f"of {', '.join([*NETWORKS, *OF_MINDCV])}; default: the first seven"
    )
    parser.add_argument("--runs", type=int, default=30, help="of each file")
    parser.add_argument("--again", action="store_true", help="forget what is stored of these")
    parser.add_argument("--limited", action="store_true", help="weights as for a processor without VNNI")
    parser.add_argument("--quick", action="store_true", help="the U-Net alone, 5 runs; nothing is kept")
    options = parser.parse_args()
    known = [*NETWORKS, *OF_MINDCV]
    if unknown := set(options.networks) - set(known):
        parser.error(f"networks must be of {', '.join(known)}, but got {', '.join(sorted(unknown))}")
    kept = not options.quick and ROWS.exists() and not options.again
    rows = list(map(json.loads, ROWS.read_text().splitlines())) if kept else []
    limited = options.limited or adds_in_16_bits()
    stored = {row["network"]: row for row in rows if row.get("limited", True) == limited}
    print(f"{'network':16} {'fp32 ms':>8} {'int8 ms':>8} {'ours x':>7} {'peer x':>7} {'peer':>9} {'error':>8} "
          f"{'peer':>8} {'floats':>7} {'MB':>7}")  # fmt: skip
    rows = []
    for name in ["unet"] if options.quick else options.networks or list(NETWORKS):
        row = stored.get(name) or examine(name, 5 if options.quick else options.runs, limited)
        if name not in stored and not options.quick:
            ROWS.parent.mkdir(exist_ok=True)
            with ROWS.open("a") as file:
                file.write(json.dumps(row) + "\n")
        rows.append(row)
        print(line(row), flush=True)
    faster = sum(row["ours"] <= 1.03 * row["peer"] for row in rows)
    nearer = sum(row["error"] <= row["peer_error"] for row in rows)
    whole = sum(row["floats"] == 0 for row in rows)
    print(f"of {len(rows)} networks: {nearer} nearer to fp32 than quantize_static, {whole} with no layer in floats")
    print(f"as fast as quantize_static (within 3 %): {faster} networks")


if __name__ == "__main__":
    main()
