"""What each quantizer costs in accuracy and in training time: ResNet-20 on CIFAR-10 (JPEG images), 10,000 test images.

python benchmarks/quantization.py --shared ../shared [--rows "float,lsq w3a3"] [--seeds 1] [--again] [--quick]

Trained rows, the float network among them, get the same fine-tuning: three epochs over the same 40,000 images, cropped
and flipped, batches of 125, cosine decay, towards the outputs of the float network as it came (distillation). Settings
are those of the algorithms' defaults and one learning rate for all. What was chosen, was chosen on the first 2,000 of
the test images, since the network has learned its training images by heart; what is lost is printed for the other 8,000
and for all of them. Rows that do not train are calibrated on 256 training images and compared with the float network as
it came. Finished rows are kept in runs/quantization.jsonl, so that the command can be stopped and continued; --again
measures the named rows anew. Steps are timed without the teacher.

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

from autocomp.primitives.tracing.platform import load_mindspore

ms = load_mindspore()

from cifar import Cifar
from mindspore import nn
from rows import ACCURACIES, Done, accuracies, collect, in_a_process, lost, parser, read
from training import BATCH, TaughtBatches, accuracy, cross_entropy, fit, held_apart

from autocomp.primitives import LSQ, PACT, RTN, SLB, AdaRound, SimQAT

ROWS = Path("runs/quantization.jsonl")
TRAINED, EPOCHS, RATE = 40_000, 3, 0.02
QUICK_TRAINED, QUICK_TEST, CALIBRATED = 1_000, 500, 256


@dataclass(frozen=True)
class Row:
    """rate: of learning, 0: no training. goal: points lost at most, to the float network trained alike; step_goal: of
    the float network's step."""

    name: str
    make: Callable[[], Any] | None
    rate: float
    goal: float | None = None
    step_goal: float | None = None

    @property
    def base(self) -> str:
        return "float" if self.rate else "as it came"


ALL = (
    Row("as it came", None, 0),
    Row("rtn w8a8", lambda: RTN(8, 8), 0, 0.3),
    Row("rtn w4", lambda: RTN(4, 32, first_last_bits=8), 0),
    Row("adaround w4", lambda: AdaRound(4, 32), 0, 1.5),
    Row("adaround w4a8", lambda: AdaRound(4, 8), 0),
    Row("float", None, RATE),
    Row("simqat w8a8", lambda: SimQAT(8, 8), RATE, 0.2, 1.6),
    Row("simqat w4a4", lambda: SimQAT(4, 4), RATE, 1.5, 1.6),
    Row("lsq w3a3", lambda: LSQ(3, 3), RATE, 2.0, 1.6),
    Row("lsq w2a2", lambda: LSQ(2, 2), RATE, 4.0, 1.6),
    Row("pact w4a4", lambda: PACT(4, 4), RATE, 2.0, 1.6),
    Row("slb w4a8", lambda: SLB(4, 8), RATE, 0.7, 2.2),
    Row("slb w2a8", lambda: SLB(2, 8), RATE, 1.2, 2.2),
    Row("slb w1a8", lambda: SLB(1, 8), RATE, 2.5, 2.2),
)


@dataclass
class Bench:
    shared: Path
    quick: bool

    def __post_init__(self) -> None:
        source = Cifar(self.shared)
        self.network, self.images = source.network, source.images
        self.train = self.images("train", QUICK_TRAINED if self.quick else TRAINED)
        self.test = self.images("test", QUICK_TEST if self.quick else None)

    def tested(self, net: Any) -> dict[str, float]:
        """In percent, on the part of the test images that settings are chosen on and on the others."""
        held_out, others = held_apart(self.test)
        return {"validated": accuracy(net, held_out), "accuracy": accuracy(net, others)}

    def measure(self, row: Row, seed: int) -> dict[str, Any]:
        ms.set_seed(seed)
        started = time.perf_counter()
        algorithm = row.make() if row.make else None
        net = self.network()
        if algorithm is not None:
            samples = None if row.rate else self.train.x[:CALIBRATED]
            net = algorithm.apply(net, inputs=(1, 3, 32, 32), calibrate=samples)
        if row.rate:
            self.fit(net, row.rate, seed, algorithm.callbacks() if algorithm else [])
        deployed = algorithm.convert(net) if algorithm else net
        return {
            "row": row.name, "seed": seed, **self.tested(deployed),
            "seconds": round(time.perf_counter() - started, 1),
        }  # fmt: skip

    def fit(self, net: Any, rate: float, seed: int, callbacks: list[Any]) -> None:
        fit(net, TaughtBatches(self.network(), self.train, seed, EPOCHS), rate, callbacks)

    def step_time(self, row: Row, repeats: int = 15) -> float:
        """A training step of the row over the float network's: the median of pairs, one behind the other."""
        x, y = ms.Tensor(self.train.x[:BATCH]), ms.Tensor(self.train.y[:BATCH])
        loss = cross_entropy()
        assert row.make is not None
        nets = (self.network(), row.make().apply(self.network(), calibrate=self.train.x[:64]))
        steps = [
            nn.TrainOneStepCell(nn.WithLossCell(net, loss), nn.Momentum(net.trainable_params(), 1e-4, 0.9)).set_train()
            for net in nets
        ]
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(repeats + 1):
            for step, found in zip(steps, times, strict=True):
                started = time.perf_counter()
                step(x, y).asnumpy()
                found.append(time.perf_counter() - started)
        return median(row_s / float_s for float_s, row_s in zip(times[0][1:], times[1][1:], strict=True))


def main() -> None:
    options = read(parser(__doc__, validates=False), [row.name for row in ALL])
    rows = [row for row in ALL if row.name in options.names]
    settings = (options.shared, options.quick)
    done = collect(
        ROWS,
        options,
        kept=not (options.quick or options.rate),
        measure=lambda name, seed: in_a_process(measured, settings, name, seed, options.rate),
    )
    timed = (options.shared, True)
    report(rows, done, {row.name: in_a_process(stepped, timed, row.name) for row in rows if row.step_goal})


def measured(settings: tuple[Path, bool], name: str, seed: int, rate: float | None) -> dict[str, Any]:
    ms.set_context(mode=ms.GRAPH_MODE)
    row = next(row for row in ALL if row.name == name)
    return Bench(*settings).measure(replace(row, rate=rate) if rate and row.rate else row, seed)


def stepped(settings: tuple[Path, bool], name: str) -> float:
    ms.set_context(mode=ms.GRAPH_MODE)
    return Bench(*settings).step_time(next(row for row in ALL if row.name == name))


def report(rows: list[Row], done: Done, steps: dict[str, float]) -> None:
    print(f"{'row':14}{'seeds':>6}{ACCURACIES}{'goal':>6}{'step':>7}{'goal':>6}")
    for row in rows:
        seeds = sum(name == row.name for name, _ in done)
        step = f"{steps[row.name]:.2f}" if row.name in steps else ""
        goal, step_goal = ("" if g is None else f"{g:.1f}" for g in (row.goal, row.step_goal))
        print(f"{row.name:14}{seeds:6}{accuracies(done, row.name, row.base)}{goal:>6}{step:>7}{step_goal:>6}")
    margins = [row.goal - max(lost(done, row.name, row.base)) for row in rows if row.goal is not None]
    print(f"worst_margin: {min(margins, default=float('nan')):.2f} points")


if __name__ == "__main__":
    main()
