"""``autocomp quickstart``: search, pick, export, load again, compare, report."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

import autocomp
from autocomp.primitives.tracing.platform import forward, load_mindspore
from autocomp.problem.metrics import METRICS
from autocomp.results.point import DEPLOYABLE, ExportReport, Point
from autocomp.results.wording import percent, points, share

from . import load_network, load_samples

if TYPE_CHECKING:
    from autocomp.problem.data import Samples
    from autocomp.results.front import ParetoSet

DEVICE = "ascend-310p3"
TRAINED_ON = "ascend-310p3:mindspore"  # reads weights of 1 to 8 bits, which training makes possible
BATCH = 256  # at batch 1 so small a network is bound by the chip's fixed costs, which no compression lowers
BUDGET = "latency<75%, size<50%, accuracy>-5%"
PICKS = {"fast": "latency<55%", "small": "size<15%"}

Predict = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Extent:
    """How many plans and samples a run of the quick start uses."""

    trials: int
    calibrate: int
    evaluate: int
    test: int


FULL = Extent(trials=200, calibrate=512, evaluate=2000, test=10_000)
QUICK = Extent(trials=24, calibrate=256, evaluate=500, test=1000)


def run(
    out: Path,
    *,
    trials: int | None = None,
    workers: int | str | None = None,
    seed: int = 0,
    quick: bool = False,
    train: bool = False,
    console: Console | None = None,
) -> ParetoSet:
    """Search, pick, export and test on the shipped data; it writes files into ``out`` and prints the results.

    train: whether plans near the front are trained, on the images for calibration: the 1,000 that are shipped of those
        that the network was trained on. The device is then MindSpore on the same chip, whose files hold 1 to 8 bits.
    """
    started, show = time.monotonic(), (console or Console()).print
    extent = QUICK if quick else FULL
    net, test = load_network(), load_samples("test").take(extent.test)
    device = TRAINED_ON if train else DEVICE
    show(f"Fashion-MNIST, a residual CNN trained on it; {device}, batch {BATCH}, budget {BUDGET}")
    front = autocomp.search(
        net,
        budget=BUDGET,
        device=device,
        data=autocomp.Data(
            calibrate=load_samples("calibrate").take(extent.calibrate),
            evaluate=load_samples("evaluate").take(extent.evaluate),
            train=load_samples("calibrate") if train else None,
        ),
        inputs=(BATCH, 1, 28, 28),
        trials=trials or extent.trials,
        workers=workers,
        seed=seed,
        progress=True,
    )
    show(front.table(), *front.notes, sep="\n")
    chosen = picked(front, show)
    for name, point in chosen.items():
        show(f"{name}: {point.summary()}")
    show(f"exporting and loading again; accuracy of the files on {len(test):,} test images")
    show(_files({"float": front.float_point, **chosen}, test, out))
    front.save(out)
    show(f"report: {out / 'report.html'} ({time.monotonic() - started:.0f} s in all)")
    return front


def picked(front: ParetoSet, show: Callable[..., None]) -> dict[str, Point]:
    """The most accurate point that meets each bound, each point once; the knee of the front where no point meets
    any."""
    found: dict[str, Point] = {}
    for name, bound in PICKS.items():
        try:
            point = front.pick(bound)
        except ValueError as error:
            show(f"{name}: {error}")
            continue
        if point in found.values():
            show(f"{name}: the same point is also the most accurate of {bound}")
        else:
            found[name] = point
    return found or {"knee": front.pick()}


def _files(points_by_name: Mapping[str, Point], test: Samples, out: Path) -> Table:
    """A table of the exported files: each is loaded again and tested; the first point is the float network."""
    table = Table()
    for column in ("file", "size", "of float", "test accuracy", "change", "outputs differ by"):
        table.add_column(column, justify="left" if column == "file" else "right")
    for suffix in (".mindir", ".onnx"):
        of_float: tuple[float, float] | None = None
        for name, point in points_by_name.items():
            report = point.export(out / f"{name}{suffix}")
            for_chip = report.format == "mindir" and report.form == DEPLOYABLE  # with integers that no CPU multiplies
            reached = accuracy(of_cell(point.net) if for_chip else of_file(report), test)
            of_float = of_float or (report.size_mb, reached)
            table.add_row(
                report.path.name,
                METRICS["size"].format(report.size_mb),
                share(report.size_mb / of_float[0]),
                percent(reached),
                points(reached - of_float[1]),
                f"{report.max_relative_error:.1e}",
            )
    return table


def accuracy(predict: Predict, samples: Samples) -> float:
    """The share of samples whose class is predicted correctly; batches are full, since exported networks have a fixed
    batch."""
    x, y = samples.x[0], samples.y
    padded = np.concatenate([x, x[: -len(x) % BATCH]])
    classes = np.concatenate([predict(padded[i : i + BATCH]).argmax(1) for i in range(0, len(padded), BATCH)])
    return float(np.mean(classes[: len(x)] == y))


def of_cell(net: Any) -> Predict:
    return lambda x: forward(net, (x,))[0]


def of_file(report: ExportReport) -> Predict:
    if report.format == "onnx":
        network = autocomp.load_deployed(report.path)
        return lambda x: network.run(x)[0]
    ms = load_mindspore()
    return of_cell(ms.nn.GraphCell(ms.load(str(report.path))))
