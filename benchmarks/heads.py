"""What half of its attention heads cost a small transformer: Fashion-MNIST, 10,000 test images.

python benchmarks/heads.py --shared ../shared [--rows "float,half of the heads"] [--seeds 3] [--again] [--quick]

Three strided convolutions make 16 patches of an image, which four layers of ``nn.TransformerEncoder`` with eight heads
each read. The network is trained first, 4 epochs over 50,000 images (about four minutes on one core), and kept in
runs/heads.ckpt. Every row, the float network among them, then gets the same fine-tuning: two epochs over 20,000 of
these images, cropped and flipped, batches of 125, cosine decay, towards the outputs of the network as it came. Beside
the heads that HeadPruning chooses, as many chosen at random, the same number in every layer, from the first step on.
Settings are chosen on 5,000 other training images (--validate), never on the test images. Finished rows are kept in
runs/heads.jsonl; --again measures anew, the network trained first excepted. Bytes are those of the exported MindIR
files; multiply-accumulates are those of layers with weights.

The last line is ``worst_margin: <value> points``, the least of (goal - points lost) over the rows that have a goal.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autocomp.primitives.tracing.platform import load_mindspore

ms = load_mindspore()

from mindspore import nn, ops
from rows import Done, collect, in_a_process, parser, read
from training import Augmented, Images, TaughtBatches, accuracy, fit

from autocomp.primitives import HeadPruning, trace
from autocomp.primitives.export.files import export_mindir
from autocomp.primitives.pruning.attention import open_attention

ROWS, TRAINED = Path("runs/heads.jsonl"), Path("runs/heads.ckpt")
LAYERS, HEADS, WIDTH, PATCHES, PIXELS, PAD = 4, 8, 64, 16, 28, 2
SHAPE = (1, 1, PIXELS, PIXELS)
FIRST, FIRST_EPOCHS, FIRST_RATE = 50_000, 4, 1e-3  # the training that the network comes from
TUNED, VALIDATED, EPOCHS, RATE = 20_000, 5_000, 2, 0.01
QUICK_TRAINED, QUICK_TEST = 1_000, 500
GOALS = {"float": None, "half of the heads": 1.5, "at random": None}


class Classifier(nn.Cell):
    """Positions are learned, classes read from the mean over the patches."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.SequentialCell(*half(1, 16), *half(16, 32), nn.Conv2d(32, WIDTH, 3, 2, "pad", 1, has_bias=True))
        positions = np.random.default_rng(0).normal(0, 0.02, (1, PATCHES, WIDTH))
        self.positions = ms.Parameter(ms.Tensor(positions.astype(np.float32)), name="positions")
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 2 * WIDTH, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, LAYERS)
        self.norm = nn.LayerNorm((WIDTH,))
        self.classes = nn.Dense(WIDTH, 10)

    def construct(self, x: Any) -> Any:
        x = ops.transpose(ops.flatten(self.stem(x), start_dim=2), (0, 2, 1)) + self.positions
        return self.classes(ops.mean(self.norm(self.encoder(x)), 1))


def half(inputs: int, outputs: int) -> list[Any]:
    """The image at half of its size."""
    return [nn.Conv2d(inputs, outputs, 3, 2, "pad", 1, has_bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


@dataclass
class Bench:
    shared: Path
    quick: bool
    validate: bool

    def __post_init__(self) -> None:
        sys.path.insert(0, str(self.shared / "data"))
        import load

        def images(split: str) -> Images:
            pixels, labels = load.fashion_mnist(split)
            return Images(((pixels.astype(np.float32) / 255 - 0.286) / 0.353)[:, None], labels)

        everything = images("train")
        self.first = everything.part(0, QUICK_TRAINED if self.quick else FIRST)
        self.train = everything.part(0, QUICK_TRAINED if self.quick else TUNED)
        self.test = everything.part(60_000 - VALIDATED, 60_000) if self.validate else images("test")
        if self.quick:
            self.test = self.test.part(0, QUICK_TEST)
        self.file = TRAINED.with_name(f"{TRAINED.stem}-quick.ckpt") if self.quick else TRAINED

    def network(self) -> Any:
        net = Classifier()
        ms.load_param_into_net(net, ms.load_checkpoint(str(self.file)), strict_load=True)
        return net.set_train(False)

    def first_training(self) -> None:
        ms.set_seed(0)
        net = Classifier()
        fit(net, Augmented(self.first, 0, FIRST_EPOCHS, PAD), FIRST_RATE, adam=True)
        self.file.parent.mkdir(exist_ok=True)
        ms.save_checkpoint(net, str(self.file))

    def measure(self, row: str, seed: int, rate: float) -> dict[str, Any]:
        ms.set_seed(seed)
        started = time.perf_counter()
        algorithm = None if row == "float" else HeadPruning(keep_ratio=0.5, seed=seed)
        net = self.network() if algorithm is None else algorithm.apply(self.network(), SHAPE)
        if algorithm is not None and row == "at random":
            algorithm.keep(net, half_of_each_layer(seed))
        callbacks = algorithm.callbacks() if algorithm else []
        fit(net, TaughtBatches(self.network(), self.train, seed, EPOCHS, PAD), rate, callbacks)
        heads = algorithm.cut(net).kept if algorithm else np.ones(LAYERS * HEADS, bool)
        smaller = algorithm.convert(net) if algorithm else net
        return {
            "row": row, "seed": seed, "accuracy": accuracy(smaller, self.test),
            "heads": [int(layer.sum()) for layer in heads.reshape(LAYERS, HEADS)],
            "macs": trace(open_attention(smaller), SHAPE).macs,
            "parameters": sum(p.size for p in smaller.get_parameters()),
            "bytes": exported_bytes(smaller, self.test.x[:1]), "seconds": round(time.perf_counter() - started, 1),
        }  # fmt: skip


def half_of_each_layer(seed: int) -> np.ndarray:
    """(heads,) bool"""
    places = np.random.default_rng(seed).permuted(np.tile(np.arange(HEADS), (LAYERS, 1)), axis=1)
    return (places < HEADS // 2).reshape(-1)


def exported_bytes(net: Any, x: np.ndarray) -> int:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "net.mindir"
        export_mindir(net, (x,), file)
        return file.stat().st_size


def main() -> None:
    options = read(parser(__doc__), list(GOALS))
    settings = (options.shared, options.quick, options.validate)
    in_a_process(trained_first, settings)
    done = collect(
        ROWS,
        options,
        kept=not (options.quick or options.validate),
        measure=lambda row, seed: in_a_process(measured, settings, row, seed, options.rate or RATE),
    )
    report(options.names, done)


def trained_first(settings: tuple[Path, bool, bool]) -> None:
    bench = Bench(*settings)
    if not bench.file.exists():
        ms.set_context(mode=ms.GRAPH_MODE)
        started = time.perf_counter()
        bench.first_training()
        print(f"trained in {time.perf_counter() - started:.0f} s: {bench.file}", flush=True)


def measured(settings: tuple[Path, bool, bool], row: str, seed: int, rate: float) -> dict[str, Any]:
    ms.set_context(mode=ms.GRAPH_MODE)
    return Bench(*settings).measure(row, seed, rate)


def report(names: list[str], done: Done) -> None:
    def mean(name: str, column: str) -> float:
        values = [row[column] for (other, _), row in done.items() if other == name]
        return float(np.mean(values)) if values else float("nan")

    margins = []
    print(f"{'row':20}{'seeds':>6}{'MACs':>12}{'parameters':>12}{'bytes':>10}{'accuracy':>10}{'lost':>7}{'goal':>6}")
    for name in names:
        seeds, goal = sum(name == other for other, _ in done), GOALS[name]
        macs, elements, size, found = (mean(name, column) for column in ("macs", "parameters", "bytes", "accuracy"))
        lost = mean("float", "accuracy") - found
        margins += [] if goal is None else [goal - lost]
        print(
            f"{name:20}{seeds:6}{macs:12,.0f}{elements:12,.0f}{size:10,.0f}{found:9.2f}%{lost:7.2f}"
            f"{'' if goal is None else f'{goal:.1f}':>6}"
        )
    print(f"worst_margin: {min(margins, default=float('nan')):.2f} points")


if __name__ == "__main__":
    main()
