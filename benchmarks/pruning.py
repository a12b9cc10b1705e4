"""What pruning, factors and ghosts cost in accuracy: ResNet-20 on CIFAR-10 (JPEG images), 8,000 test images.

python benchmarks/pruning.py --shared ../shared [--rows "float,scop"] [--seeds 3] [--again] [--quick]

Every row, the float network among them, gets the same fine-tuning: three epochs over the same 40,000 images, cropped
and flipped, batches of 125, one learning rate with cosine decay, towards the float network's outputs. What prunes
before that or replaces layers is converted first, and what is left is trained. Importance is that for the labels, as
the float network's own outputs give it no gradient. What an algorithm does before its first step (scores, the knockoff
phase, which trains no weight) is beside the training, and in the seconds. Multiply-accumulates and parameters are those
of the converted network, traced. Settings are chosen on the first 2,000 of the 10,000 test images, since the network
has learned its training images by heart; what is lost is printed for the other 8,000 and for all of them. Finished rows
are kept in runs/pruning.jsonl, so that the command can be stopped and continued; --again measures anew. With
--untrained nothing is fine-tuned.

Beside the rows, the time of a step of SCOP's knockoff phase over a training step of the float network (goal 2.2), and
what SCOP has above magnitude at the same multiply-accumulates (goal 0.3, in the mean of three seeds).

The last line is ``worst_margin: <value> points``, the least of (goal - points lost) over the rows that have a goal, on
the 8,000 or on all images, whichever is less.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from autocomp.primitives.tracing.platform import load_mindspore

ms = load_mindspore()

from mindspore import nn
from quantization import RATE, Bench
from rows import ACCURACIES, Done, accuracies, collect, in_a_process, lost, mean, on_all, parser, read
from training import BATCH, cross_entropy, held_apart

import autocomp
from autocomp.evaluators.fine_tuning import pruned_only
from autocomp.primitives import PACT, SCOP, ChannelPruner, Ghost, LowRank, Sparsity, UniPruning, trace
from autocomp.primitives.pruning.scop import KnockoffPhase
from autocomp.primitives.pruning.trained_pruning import TrainedPruning
from autocomp.primitives.replacement.replacing import Replacing

ROWS = Path("runs/pruning.jsonl")
SHAPE = (1, 3, 32, 32)
SCORED, CALIBRATED, QUICK_STEPS = 20_000, 128, 8  # images that importance is measured on, at most
STEP_GOAL = 2.2


class Composed:
    """Prunes, factorises the last stage, quantizes; one fine-tuning over all."""

    def __init__(self) -> None:
        self.pruner = ChannelPruner("taylor", flops=0.7)
        self.factors = LowRank(energy=0.98, layers=("layer3",))
        self.quantizer = PACT(4, 8)

    def apply(self, net: Any, images: np.ndarray, labels: np.ndarray) -> Any:
        net_p = self.pruner.apply(net, SHAPE)
        self.pruner.prune(net_p, batches(images, labels), cross_entropy())
        net_f = self.factors.apply(self.pruner.convert(net_p), calibrate=images[:CALIBRATED])
        return self.quantizer.apply(self.factors.convert(net_f), SHAPE)

    def callbacks(self) -> list[Any]:
        return self.quantizer.callbacks()

    def convert(self, net: Any) -> Any:
        return self.quantizer.convert(net)


class Searched:
    """What a search chooses, with its BatchNorms: of cut channels, cheaper layers and skipped blocks with at most half
    of the multiply-accumulates the plan that is most accurate, before anything is trained, on the held-out images."""

    PRIMITIVES = ("channel-pruning", "low-rank", "separable", "smaller-kernel", "ghost", "block-skipping")
    TRIALS = 120

    def apply(self, net: Any, bench: Any) -> Any:
        held_out, _ = held_apart(bench.test)
        data = autocomp.Data(calibrate=bench.train.x[: 2 * CALIBRATED], evaluate=(held_out.x, held_out.y))
        trials = 16 if bench.quick else self.TRIALS
        front: Any = autocomp.search(net, "macs<50%", "ascend-310p3", data, primitives=self.PRIMITIVES, trials=trials)
        best = max(front, key=lambda point: point.accuracy)
        return pruned_only(net, front.deployer.evaluator, best.plan, (bench.train.x[: 2 * CALIBRATED],))


@dataclass(frozen=True)
class Row:
    """rate: of learning at the start, 0 for none; goal: points lost at most, to the float network trained alike."""

    name: str
    make: Callable[[], Any] | None
    rate: float = RATE
    goal: float | None = None


DIVISORS: dict[str, Any] = {"channel_divisor": 8, "min_keep_ratio": 0.3, "per_cost": True, "every": 0.1, "soft": 0.1}
ALL = (
    Row("float", None),
    Row("scop", lambda: SCOP(flops=0.5), goal=2.0),
    Row("magnitude", lambda: ChannelPruner("magnitude", flops=0.5)),
    Row("taylor", lambda: ChannelPruner("taylor", flops=0.5), goal=2.2),
    Row("fisher", lambda: ChannelPruner("fisher", flops=0.5)),
    Row("batchnorm scale", lambda: ChannelPruner("batchnorm_scale", flops=0.5)),
    Row("geometric median", lambda: ChannelPruner("geometric_median", flops=0.5)),
    Row("scop per layer", lambda: SCOP(flops=0.5, per_layer=True)),
    Row("unipruning", lambda: UniPruning(parameters=0.5, **DIVISORS), goal=2.5),
    Row("low rank", lambda: LowRank(macs=0.6), goal=2.5),
    Row("ghost", lambda: Ghost(macs=0.6), goal=2.5),
    Row("2:4", lambda: Sparsity("2:4"), goal=1.0),
    Row("composed w4a8", Composed, goal=2.0),
    Row("searched", Searched, goal=1.2),
)


def batches(images: np.ndarray, labels: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(images[i : i + BATCH], labels[i : i + BATCH]) for i in range(0, len(images), BATCH)]


def applied(algorithm: Any, net: Any, bench: Any) -> Any:
    images = bench.train.x
    if isinstance(algorithm, Searched):
        return algorithm.apply(net, bench)
    if isinstance(algorithm, Composed):
        return algorithm.apply(net, images[: 16 * BATCH], bench.train.y[: 16 * BATCH])
    if isinstance(algorithm, Replacing):
        return algorithm.apply(net, calibrate=images[:CALIBRATED])
    return algorithm.apply(net, SHAPE)


def measure(bench: Any, row: Row, seed: int) -> dict[str, Any]:
    ms.set_seed(seed)
    started = time.perf_counter()
    algorithm = row.make() if row.make else None
    if bench.quick and isinstance(algorithm, SCOP):
        algorithm.steps = QUICK_STEPS
    net = bench.network()
    whole, elements = trace(net, SHAPE), sum(p.size for p in net.get_parameters())
    if algorithm is not None:
        net = applied(algorithm, net, bench)
    if isinstance(algorithm, TrainedPruning) and not (row.rate and isinstance(algorithm, UniPruning)):
        algorithm.prune(net, batches(bench.train.x[:SCORED], bench.train.y[:SCORED]), cross_entropy())
        net, algorithm = algorithm.convert(net), None
    elif isinstance(algorithm, Replacing):
        net, algorithm = algorithm.convert(net), None
    elif isinstance(algorithm, Searched):
        algorithm = None
    if row.rate:
        bench.fit(net, row.rate, seed, algorithm.callbacks() if algorithm else [])
    smaller = algorithm.convert(net) if algorithm else net
    counted = trace(smaller, SHAPE)
    return {
        "row": row.name, "seed": seed, **bench.tested(smaller),
        "macs": None if row.make is Composed else round(counted.macs / whole.macs, 4),
        "parameters": round(sum(p.size for p in smaller.get_parameters()) / elements, 4),
        "seconds": round(time.perf_counter() - started, 1),
    }  # fmt: skip


def knockoff_step(bench: Any, repeats: int = 7) -> float:
    """A step of the knockoff phase over a training step of the float network: medians of steps taken in turns."""
    x, y = bench.train.x[:BATCH], bench.train.y[:BATCH]
    net = bench.network()
    optimizer = nn.Momentum(net.trainable_params(), 1e-4, 0.9)
    step = nn.TrainOneStepCell(nn.WithLossCell(net, cross_entropy()), optimizer).set_train()
    phase = KnockoffPhase(SCOP(flops=0.5).apply(bench.network(), SHAPE), cross_entropy())
    tensors = (ms.Tensor(x), ms.Tensor(y))
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats + 1):
        for run, found in zip((lambda: step(*tensors).asnumpy(), lambda: phase.gradient((x, y))), times, strict=True):
            started = time.perf_counter()
            run()
            found.append(time.perf_counter() - started)
    return median(times[1][1:]) / median(times[0][1:])


def main() -> None:
    made = parser(__doc__, validates=False)
    made.add_argument("--untrained", action="store_true", help="no fine-tuning; nothing is kept")
    options = read(made, [row.name for row in ALL])
    rows = [row for row in ALL if row.name in options.names]
    rate = 0.0 if options.untrained else options.rate
    settings = (options.shared, options.quick)
    done = collect(
        ROWS,
        options,
        kept=not (options.quick or options.rate or options.untrained),
        measure=lambda name, seed: in_a_process(measured, settings, name, seed, rate),
    )
    report(rows, done)
    if any(row.name.startswith("scop") for row in rows):
        ratio = in_a_process(knockoff, (options.shared, True))
        print(f"knockoff_step: {ratio:.2f} of the float network's, goal {STEP_GOAL}")
    margins(rows, done)


def measured(settings: tuple[Path, bool], name: str, seed: int, rate: float | None) -> dict[str, Any]:
    ms.set_context(mode=ms.GRAPH_MODE)
    row = next(row for row in ALL if row.name == name)
    bench = Bench(*settings)
    return measure(bench, row if rate is None else replace(row, rate=rate), seed)


def knockoff(settings: tuple[Path, bool]) -> float:
    ms.set_context(mode=ms.GRAPH_MODE)
    return knockoff_step(Bench(*settings))


def report(rows: list[Row], done: Done) -> None:
    print(f"{'row':18}{'seeds':>6}{'MACs':>7}{'param.':>8}{ACCURACIES}{'goal':>6}")
    for row in rows:
        seeds = sum(name == row.name for name, _ in done)
        macs, elements = (mean(done, row.name, column) for column in ("macs", "parameters"))
        goal = "" if row.goal is None else f"{row.goal:.1f}"
        counted = "" if row.make is Composed else f"{macs:.1%}"
        print(f"{row.name:18}{seeds:6}{counted:>7}{elements:8.1%}{accuracies(done, row.name)}{goal:>6}")


def margins(rows: list[Row], done: Done) -> None:
    if {"scop", "magnitude"} <= {row.name for row in rows}:
        above = (mean(done, "scop") - mean(done, "magnitude")), (on_all(done, "scop") - on_all(done, "magnitude"))
        print(f"scop_over_magnitude: {min(above):.2f} points, goal 0.3")
    found = [row.goal - max(lost(done, row.name)) for row in rows if row.goal is not None]
    print(f"worst_margin: {min(found, default=float('nan')):.2f} points")


if __name__ == "__main__":
    main()
