"""The claims of AMC and HAQ in their own terms: ResNet-20 and 56 on CIFAR-10 (JPEG images), 10,000 test images.

python benchmarks/papers.py --shared ../shared [--rows "half of the macs,resnet-56 float"] [--again] [--quick]

AMC (He et al., ECCV 2018) prunes ResNet-56 to half of its multiply-accumulates and, fine-tuned, loses 0.9 points; the
goal here is 0.5 to the float network fine-tuned alike. HAQ (Wang et al., CVPR 2019) mixes bit-widths at 60 % of what
8 bits need, there of the latency, and loses nothing; the goal here is 0.3 to w8a8 in all layers, at 60 % of its size.

Each claim is one search for ``ascend-310p3``: 100 evaluations on 2,000 training images that nothing is fine-tuned on,
and the most accurate point within the budget. The pruned network gets the fine-tuning of benchmarks/quantization.py,
whose float row is read where it has been measured, by ``Point.fine_tune``. What is only rounded is tested as the search
left it, untrained. Accuracies are on all 10,000 test images. Finished rows are kept in runs/papers.jsonl; --again
measures the named rows anew.

ResNet-56 comes trained on the original pixels. Before its rows it is trained on the JPEG images, two epochs towards
the labels of the same 40,000; that network is kept beside this file and is what both rows begin with.

The last line is ``worst_margin: <value> points``, the least of (goal - points lost) over the claims.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from autocomp.primitives.tracing.platform import load_mindspore

ms = load_mindspore()

import mindspore.dataset as ds
import quantization
from cifar import Cifar
from quantization import EPOCHS, RATE, Bench
from rows import Done, collect, in_a_process, on_all, parser, read, stored
from training import CACHE, Augmented, accuracy, fit

import autocomp
from autocomp.primitives import trace
from autocomp.search_spaces import Plan

ROWS = Path("runs/papers.jsonl")
FLOAT, HALF, MIXED, DEEP = "float", "half of the macs", "mixed bits", "resnet-56 "
GOALS = {FLOAT: None, HALF: 0.5, MIXED: 0.3, DEEP + FLOAT: None, DEEP + HALF: 0.5}
DEVICE, SHAPE = "ascend-310p3", (1, 3, 32, 32)
TRIALS, SEARCHED, QUICK_TRIALS, QUICK_SEARCHED, CALIBRATED = 100, 2_000, 12, 200, 512
SHARE, ADAPTED = 0.6, 2  # of the size; epochs of ResNet-56 on the JPEG images


class DeepBench(Bench):
    """ResNet-56, trained on the JPEG images."""

    def __post_init__(self) -> None:
        super().__post_init__()
        source, file = Cifar(self.shared), CACHE / f"resnet56-{len(self.train.x)}.ckpt"
        if not file.exists():
            net = source.network(56)
            fit(net, Augmented(self.train, 0, ADAPTED), RATE)
            CACHE.mkdir(exist_ok=True)
            ms.save_checkpoint(net, str(file))

        def network() -> Any:
            net = source.network(56)
            ms.load_param_into_net(net, ms.load_checkpoint(str(file)))
            return net.set_train(False)

        self.network = network


class Terms:
    """What is measured for each row."""

    def __init__(self, shared: Path, quick: bool, rate: float, deep: bool) -> None:
        self.bench, self.quick, self.rate, self.deep = (DeepBench if deep else Bench)(shared, quick), quick, rate, deep
        self.trials = QUICK_TRIALS if quick else TRIALS
        train = self.bench.train
        start, count = len(train.x), QUICK_SEARCHED if quick else SEARCHED
        others = self.bench.images("train", start + count).part(start, start + count)
        self.data = autocomp.Data(calibrate=train.x[:CALIBRATED], evaluate=(others.x, others.y))

    def measure(self, name: str) -> dict[str, Any]:
        ms.set_seed(0)
        started = time.perf_counter()
        found = {FLOAT: self.of_float, HALF: self.half, MIXED: self.mixed}[name.removeprefix(DEEP)]()
        return {"row": name, "seed": 0, **found, "seconds": round(time.perf_counter() - started, 1)}

    def of_float(self) -> dict[str, Any]:
        rows = {} if self.quick or self.deep else stored(quantization.ROWS)
        if ("float", 0) not in rows:
            row = next(row for row in quantization.ALL if row.name == "float")
            rows["float", 0] = self.bench.measure(row, 0)
        untrained = accuracy(self.bench.network(), self.bench.test)
        return {"share": 1.0, "untrained": untrained, "accuracy": on_all({("float", 0): rows["float", 0]}, "float")}

    def half(self) -> dict[str, Any]:
        point = self._search("macs<50%", "channel-pruning").pick("macs<50%")
        batches = Augmented(self.bench.train, 0, EPOCHS)
        dataset = ds.GeneratorDataset(batches, ["image", "label"], shuffle=False)
        tuned = point.fine_tune(dataset, EPOCHS, rate=self.rate, teacher=1.0, progress=False)
        return {"share": point.ratio("macs"), "untrained": self._tested(point), "accuracy": self._tested(tuned)}

    def mixed(self) -> dict[str, Any]:
        layers = trace(self.bench.network(), SHAPE).layers
        front = self._search(None, "post-training")
        eight = front.evaluate(Plan({f"format/{layer}": "w8a8" for layer in layers}))
        budget = f"size<{1e3 * SHARE * eight.cost.size_mb:.3f}KB"
        point = self._search(budget, "post-training").pick(budget)
        return {
            "share": point.cost.size_mb / eight.cost.size_mb,
            "base": self._tested(eight), "untrained": self._tested(point),
        }  # fmt: skip

    def _search(self, budget: str | None, primitives: str) -> Any:
        return autocomp.search(
            self.bench.network(), budget, DEVICE, self.data, primitives=primitives, trials=self.trials, progress=False
        )

    def _tested(self, point: Any) -> float:
        return accuracy(point.net, self.bench.test)


def measured(settings: tuple[Path, bool, float], name: str) -> dict[str, Any]:
    ms.set_context(mode=ms.GRAPH_MODE)
    return Terms(*settings, name.startswith(DEEP)).measure(name)


def report(done: Done) -> None:
    rows = {name: found for (name, _), found in done.items()}
    print(f"{'':26}{'share':>7}{'untrained':>11}{'fine-tuned':>12}{'to':>8}{'lost':>7}{'goal':>6}")
    margins = []
    for name, row in rows.items():
        base_row = rows.get(DEEP * name.startswith(DEEP) + FLOAT, {})
        base = row.get("base", base_row.get("accuracy", float("nan")))
        tuned, goal = row.get("accuracy"), GOALS[name]
        lost = base - row["untrained" if tuned is None else "accuracy"]
        print(
            f"{name:26}{row['share']:7.1%}{row['untrained']:10.2f}%{'' if tuned is None else f'{tuned:.2f}%':>12}"
            f"{base:7.2f}%{lost:7.2f}{'' if goal is None else f'{goal:.1f}':>6}"
        )
        margins += [] if goal is None else [goal - lost]
    print(f"worst_margin: {min(margins, default=float('nan')):.2f} points")


def main() -> None:
    options = read(parser(__doc__, validates=False), list(GOALS))
    settings = (options.shared, options.quick, options.rate or RATE)
    kept = not (options.quick or options.rate)
    done = collect(ROWS, options, kept, lambda name, _: in_a_process(measured, settings, name))
    report(done)


if __name__ == "__main__":
    main()
