"""What a lower resolution costs a trained network in accuracy, and what it saves.

    python benchmarks/resolution.py --shared ../shared [--quick]

ResNet-20 for CIFAR-10 (JPEG images), which was trained on 32 x 32 pixels. ``Resolution(ratio)`` without training, with
BatchNorm's statistics as they were and re-estimated on 1,024 training images: multiply-accumulates and predicted
latencies, cpu at batch 8 and ascend-310p3 at batch 256, as shares of the float network's, and points of accuracy lost
on test images.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from cifar import Cifar
from training import Images

import autocomp
from autocomp.primitives import Resolution, reestimate_batchnorm, trace
from autocomp.primitives.export.onnx_network import onnx_network
from autocomp.primitives.export.onnx_writer import Style
from autocomp.primitives.numerics.plan_compressor import PlanCompressor, parameters_of
from autocomp.search_spaces import Plan, SearchSpace

RATIOS = (1.0, 0.875, 0.75, 0.625, 0.5)
BATCHES = {"cpu": 8, "ascend-310p3": 256}
SHAPE = (3, 32, 32)
SEEN, HELD_OUT = 1024, 4000
SHOWN = 0.75


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder with data/ and models/")
    parser.add_argument("--quick", action="store_true", help="1,000 test images")
    options = parser.parse_args()
    cifar = Cifar(options.shared)
    test = cifar.images("test", 1000 if options.quick else HELD_OUT)
    rows(cifar.network(), cifar.images("train", SEEN).x, test)


def lowered(net: Any, ratio: float, seen: np.ndarray | None) -> Any:
    if ratio == 1:
        return net if seen is None else reestimate_batchnorm(net, seen)
    return Resolution(ratio).apply(net, (1, *SHAPE), reestimate=seen)


def rows(net: Any, seen: np.ndarray, test: Images) -> None:
    whole, costs = accuracy(net, test), costs_of(net)
    print(f"float {whole:.4f} on {len(test.x)} test images")
    devices = " ".join(f"{name:>13}" for name in BATCHES)
    print(f"{'ratio':>6} {'MACs':>6} {devices} {'lost':>7} {'re-estimated':>13}")
    lost: dict[float, float] = {}
    for ratio in RATIOS:
        small = lowered(net, ratio, None)
        shares = [found / before for found, before in zip(costs_of(small), costs, strict=True)]
        as_it_is = whole - accuracy(small, test)
        lost[ratio] = whole - accuracy(lowered(net, ratio, seen), test)
        columns = " ".join(f"{share:13.3f}" for share in shares[1:])
        print(f"{ratio:6.3f} {shares[0]:6.3f} {columns} {100 * as_it_is:7.2f} {100 * lost[ratio]:13.2f}", flush=True)
    print(f"lost at {SHOWN} of the sides, BatchNorm re-estimated: {100 * lost[SHOWN]:.2f} points")


def costs_of(net: Any) -> list[float]:
    """Multiply-accumulates of an image, and predicted latency on each device."""
    found = [float(trace(net, (1, *SHAPE)).macs)]
    return found + [autocomp.estimate(net, name, (batch, *SHAPE)).latency_ms for name, batch in BATCHES.items()]


def accuracy(net: Any, test: Images) -> float:
    graph, parameters = trace(net, (1, *SHAPE)), parameters_of(net)
    compressed = PlanCompressor(SearchSpace(graph, ()), parameters)(Plan())
    model = onnx_network(graph, parameters, compressed, Style()).SerializeToString()
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, settings, ["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    parts = [session.run(None, {name: test.x[i : i + 250]})[0] for i in range(0, len(test.x), 250)]
    return float(np.mean(np.concatenate(parts).argmax(1) == test.y))


if __name__ == "__main__":
    main()
