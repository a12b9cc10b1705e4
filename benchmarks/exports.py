"""Random plans over a zoo of networks: every form that a runtime takes is exported, reloaded and compared.

    python benchmarks/exports.py                    # 100 plans; finished rows are kept in runs/exports.jsonl
    python benchmarks/exports.py --shared ../shared # with a ResNet-20 for CIFAR-10, trained
    python benchmarks/exports.py --quick            # two plans of the quick start's network; nothing is kept

The networks: that of the quick start (Fashion-MNIST) and, with --shared, a ResNet-20 (CIFAR-10), whose ONNX files are
run on the 10,000 test images, and networks with random weights of other kinds. Every plan draws a value for each knob.
It is written as ONNX for cpu, for TensorRT, for atc and for the toolkit in front of atc; every fourth one as MindIR.
Files are compared with the evaluated plan in onnxruntime, so that nothing is compiled for each of them; a plan that is
written as MindIR is converted to a Cell, and its outputs too are compared with the evaluated plan's.

Columns, for each form: how many files were written and agree with the evaluated plan, the mean and the largest
difference of their size to the predicted one, how many are within 2 %, and the largest difference of their accuracy to
the evaluated one, in points.
"""

from __future__ import annotations

import autocomp  # isort: skip  # before MindSpore, for which it sets the environment  # noqa: F401

import argparse
import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from mindspore import Tensor, nn

from autocomp.deployment.deploy import export
from autocomp.deployment.file_accuracy import FileAccuracy
from autocomp.deployment.file_sizes import FileSizes
from autocomp.errors import ExportError
from autocomp.evaluators import PlanEvaluator
from autocomp.evaluators.accuracy import synthetic_inputs
from autocomp.hardware_models import Device, device
from autocomp.hardware_models.runtimes.ascend import ASCEND
from autocomp.measurement.processor import TEMPLATE
from autocomp.primitives.cells.conversion import convert
from autocomp.primitives.choices import Choices
from autocomp.primitives.export.files import ROUNDED, compare, run_onnx
from autocomp.primitives.export.onnx_network import onnx_network
from autocomp.primitives.numerics.plan_compressor import CompressedWeights, Parameters
from autocomp.primitives.tracing.platform import forward
from autocomp.primitives.tracing.tracer import trace
from autocomp.problem.jobs import evaluator_of
from autocomp.quickstart import load_network, load_samples
from autocomp.search_spaces import Format, NetworkGraph

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.branching_networks import shufflenet_v2
from benchmarks.deploy import UNet, settled
from benchmarks.networks import mnasnet, mobilenet_v2, resnet

ROWS = Path(__file__).resolve().parent.parent / "runs" / "exports.jsonl"
FORMATS = ("float", "w8", "w8a8", "w4", "w4a8")
FORMS: dict[str, tuple[str | Path, str, str | None]] = {  # -> device, ending, form
    "mindir": ("ascend-310p3", "mindir", None),
    "cpu": (TEMPLATE, "onnx", None),
    "tensorrt": ("nvidia-t4", "onnx", None),
    "atc": ("ascend-310p3", "onnx", None),
    "qat": ("ascend-310p3", "onnx", "qat"),
}
RANDOM: dict[str, tuple[Callable[[], nn.Cell], int]] = {
    "resnet18": (lambda: resnet((2, 2, 2, 2), bottleneck=False), 64),
    "mobilenet_v2": (mobilenet_v2, 64),
    "mnasnet": (lambda: mnasnet(0.5), 64),
    "unet": (UNet, 64),
    "shufflenet_v2": (lambda: shufflenet_v2((116, 232, 464, 1024)), 64),
}
LABELLED = ("quickstart", "resnet20")
SHARES = {"quickstart": 15, "resnet20": 5}  # plans; the others have 16 each
CALIBRATION, BATCH = 64, 50


def subject(name: str, shared: Path | None) -> tuple[nn.Cell, np.ndarray, np.ndarray | None, np.ndarray]:
    """The network, images, their labels, and images to calibrate on."""
    if name == "quickstart":
        test, seen = load_samples("test"), load_samples("calibrate")
        return load_network(), test.x[0], test.y, seen.x[0][:CALIBRATION]
    if name == "resnet20":
        sys.path[:0] = [str(shared / folder) for folder in ("data", "models") if shared is not None]
        from load import cifar10
        from resnet_cifar import MEAN, STD, trained

        (x, y), (z, _) = cifar10("test"), cifar10("train", CALIBRATION)
        x, z = (np.moveaxis((some / 255 - MEAN) / STD, 3, 1).astype(np.float32) for some in (x, z))
        return trained(20), x, y, z
    make, pixels = RANDOM[name]
    net = make()
    graph = trace(net, (1, 3, pixels, pixels))
    images = synthetic_inputs(graph, 0)[0][:CALIBRATION]
    return settled(net, graph, images[:32], 0), images[:8], None, images


@dataclass(frozen=True)
class Made:
    """A network for a device. batch: of the files that have one batch alone, so that many images take fewer runs."""

    net: nn.Cell
    evaluator: PlanEvaluator
    chip: Device
    batch: int

    @property
    def inputs(self) -> tuple[np.ndarray, ...]:
        return tuple(x[: self.batch] for x in self.evaluator.inputs)


class Evaluated:
    """Runs a plan as it is evaluated, in the place of the Cell that it is converted to."""

    training = False

    def __init__(self, graph: NetworkGraph, parameters: Parameters, compressed: CompressedWeights) -> None:
        self.model = onnx_network(graph, parameters, compressed).SerializeToString()

    def set_train(self, mode: bool) -> Evaluated:
        return self

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(map(Tensor, run_onnx(self.model, tuple(x.asnumpy() for x in inputs))))


@lru_cache(1)
def traced(name: str, shared: Path | None) -> tuple[Any, ...]:
    net, x, y, seen = subject(name, shared)
    return net, x, y, seen, trace(net, (x[:1],))


@lru_cache(1)
def made_for(name: str, chip_name: str | Path, shared: Path | None) -> Made:
    net, x, y, seen, graph = traced(name, shared)
    chip = device(chip_name)
    formats = [Format.parse(text) for text in FORMATS]
    choices = Choices(
        formats, 4, ["channel-pruning", "rtn"], symmetric=chip.symmetric_inputs,
        quantizes_tensors=chip.runtime.quantizes_tensors,
    )  # fmt: skip
    evaluator = evaluator_of(net, graph, choices, (x,), y, (seen,), y is None, 0)
    return Made(net, evaluator, chip, BATCH if y is not None and chip.runtime is ASCEND else 1)


def examine(made: Made, form: str, seed: int) -> dict[str, Any]:
    _, ending, written = FORMS[form]
    evaluator, inputs = made.evaluator, made.inputs
    plan = evaluator.space.decode(evaluator.space.random(np.random.default_rng(seed), 1)[0])
    compressed = evaluator.compress(plan)
    weights = (evaluator.space.graph, evaluator.parameters, compressed)
    evaluated: Any = Evaluated(*weights)
    cell = convert(made.net, *weights) if ending == "mindir" else evaluated
    sizes, found = FileSizes(made.chip, evaluator.space, made.batch), {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"net.{ending}"
        try:
            report = export(cell, *weights, inputs, path, not made.chip.symmetric_inputs, made.chip, written)
            if ending == "mindir":
                again, expected = partial(forward, evaluated), forward(evaluated, inputs)
                found["cell"] = compare(lambda _, x: forward(cell, x), path, inputs, expected, ROUNDED, again)
        except ExportError as error:
            return {"failed": str(error)}
        predicted = sizes.predicted_mb(plan, sizes.container(report))
        report = FileAccuracy(evaluator).beside_reported(report)
    found |= {"mb": report.size_mb, "predicted": predicted, "error": report.max_relative_error}
    if report.accuracy is not None:
        found |= {"accuracy": report.accuracy, "evaluated": evaluator.evaluate(plan).accuracy}
    return found


def rows_of(name: str, count: int, shared: Path | None, stored: set[tuple[str, str, int]]) -> Any:
    """Rows one by one, those of one device after those of another."""
    for form, (chip, ending, _) in FORMS.items():
        for seed in range(0, count, 4 if ending == "mindir" else 1):
            if (name, form, seed) not in stored:
                made = made_for(name, chip, shared)
                started = time.perf_counter()
                row = examine(made, form, seed)
                yield (
                    {"network": name, "form": form, "seed": seed}
                    | row
                    | {"seconds": round(time.perf_counter() - started, 1)}
                )


def summary(rows: list[dict[str, Any]]) -> str:
    forms = defaultdict(list)
    for row in rows:
        forms[row["form"]].append(row)
    lines = [f"{'form':10} {'files':>6} {'agree':>6} {'size, mean':>11} {'most':>7} {'in 2 %':>7} {'points, most':>13}"]
    for form, some in forms.items():
        written = [row for row in some if "failed" not in row]
        errors = [abs(row["predicted"] / row["mb"] - 1) for row in written]
        points = [100 * abs(row["accuracy"] - row["evaluated"]) for row in written if "accuracy" in row]
        lines.append(
            f"{form:10} {len(some):6d} {len(written):6d} {np.mean(errors):11.2%} {max(errors):7.2%} "
            f"{sum(error <= 0.02 for error in errors):7d} {max(points, default=float('nan')):13.2f}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", help="joined by commas; default: all")
    parser.add_argument("--plans", type=int, help="of each network")
    parser.add_argument("--shared", type=Path, help="folder with data/load.py and models/resnet_cifar.py")
    parser.add_argument("--quick", action="store_true", help="two plans of the quick start's network; nothing is kept")
    options = parser.parse_args()
    known = [*LABELLED[: 1 + (options.shared is not None)], *RANDOM]
    names = ["quickstart"] if options.quick else options.networks.split(",") if options.networks else known
    if unknown := set(names) - set(known):
        parser.error(f"--networks must be of {', '.join(known)}, but got {', '.join(sorted(unknown))}")
    kept = [json.loads(text) for text in ROWS.read_text().splitlines()] if ROWS.exists() and not options.quick else []
    stored = {(row["network"], row["form"], row["seed"]) for row in kept}
    found = [row for row in kept if row["network"] in names]
    for name in names:
        count = 2 if options.quick else options.plans or SHARES.get(name, 16)
        for row in rows_of(name, count, options.shared, stored):
            found.append(row)
            if not options.quick:
                ROWS.parent.mkdir(exist_ok=True)
                with ROWS.open("a") as file:
                    file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
    print(summary(found))


if __name__ == "__main__":
    main()
