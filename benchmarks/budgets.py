"""Whether a budget in milliseconds holds on the runtime: searches for half of the latency, exported and timed.

    python benchmarks/budgets.py                # five networks, two seeds; finished rows are kept in runs/budgets.jsonl
    python benchmarks/budgets.py --networks unet,resnet18 --seeds 1 --again

The processor is measured first if it was not before. Each search judges plans by their fidelity on 64 images (noise
with the spectrum of photographs), with the budget ``latency<50%``. Three points are exported to ONNX: the one that
``pick()`` gives, and the fastest and the slowest other one of the front (where it has others). They run in turns with
the float network's export, with one thread. Columns: milliseconds of the float and of the picked file, their ratio as
measured and as predicted, and the point's fidelity. Below: the rank correlation of predicted and measured milliseconds
over all exported points, that of their ratios to the float file, and how many picked points meet the budget.
"""

from __future__ import annotations

import autocomp  # isort: skip  # before MindSpore, for which it sets the environment

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mindspore import nn
from scipy.stats import spearmanr

from autocomp.evaluators.accuracy import synthetic_inputs
from autocomp.primitives.tracing.tracer import trace

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.branching_networks import shufflenet_v2
from benchmarks.deploy import UNet, medians, session, settled
from benchmarks.networks import mnasnet, mobilenet_v2, resnet

ROWS = Path(__file__).resolve().parent.parent / "runs" / "budgets.jsonl"
SHARE = 0.5
IMAGES = 64
NETWORKS: dict[str, tuple[Callable[[], nn.Cell], int]] = {
    "unet": (UNet, 64),
    "shufflenet_v2": (lambda: shufflenet_v2((116, 232, 464, 1024)), 128),
    "mobilenet_v2": (mobilenet_v2, 128),
    "mnasnet": (lambda: mnasnet(0.5), 128),
    "resnet18": (lambda: resnet((2, 2, 2, 2), bottleneck=False), 96),
}


def examine(name: str, seed: int, trials: int, runs: int) -> dict[str, Any]:
    make, pixels = NETWORKS[name]
    net, shape, started = make(), (1, 3, pixels, pixels), time.perf_counter()
    images = synthetic_inputs(trace(net, shape), seed)[0][:IMAGES]
    net = settled(net, trace(net, shape), images[:32], seed)
    front = autocomp.search(
        net, f"latency<{SHARE:.0%}", "cpu", images, inputs=shape, trials=trials, seed=seed, fine_tune=0, progress=False
    )
    picked = front.pick()
    others = sorted((point for point in front if point != picked), key=lambda point: float(point.cost.latency_ms))
    points = {"float": front.float_point, "picked": picked}
    points |= dict(zip(("fastest", "slowest"), others[:1] + others[1:][-1:], strict=False))
    return {
        "network": name,
        "seed": seed,
        "measured": exported_and_timed(points, images[:1], runs),
        "predicted": {key: float(point.cost.latency_ms) for key, point in points.items()},
        "fidelity": float(picked.accuracy),
        "feasible": bool(front.feasible),
        "seconds": round(time.perf_counter() - started),
    }


def exported_and_timed(points: dict[str, Any], x: Any, runs: int) -> dict[str, float]:
    """Milliseconds of every point's ONNX file."""
    with tempfile.TemporaryDirectory() as folder:
        files = {key: Path(folder) / f"{key}.onnx" for key in points}
        for key, point in points.items():
            point.export(files[key])
        return medians({key: session(path) for key, path in files.items()}, x, runs)


def line(row: dict[str, Any]) -> str:
    found, predicted = row["measured"], row["predicted"]
    return (
        f"{row['network']:16} {row['seed']:4d} {found['float']:9.3f} {found['picked']:9.3f} "
        f"{found['picked'] / found['float']:9.1%} {predicted['picked'] / predicted['float']:10.1%} "
        f"{row['fidelity']:9.3f}"
    )


def summary(rows: list[dict[str, Any]]) -> str:
    pairs = [(row, key) for row in rows for key in row["predicted"] if key != "float"]
    shares = [[row[kind][key] / row[kind]["float"] for row, key in pairs] for kind in ("predicted", "measured")]
    times = [[row[kind][key] for row, key in pairs] for kind in ("predicted", "measured")]
    held = sum(row["measured"]["picked"] < SHARE * row["measured"]["float"] for row in rows)
    return (
        f"rank correlation over {len(pairs)} points: of milliseconds {spearmanr(*times)[0]:.3f}, "
        f"of shares of the float file {spearmanr(*shares)[0]:.3f}\n"
        f"budgets that hold as measured: {held} of {len(rows)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=",".join(NETWORKS), help="joined by commas; default: all")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--runs", type=int, default=40, help="of each file")
    parser.add_argument("--again", action="store_true", help="forget what is stored of these")
    parser.add_argument("--quick", action="store_true", help="one network, one seed, 6 trials; nothing is kept")
    options = parser.parse_args()
    names = ["unet"] if options.quick else options.networks.split(",")
    if unknown := set(names) - set(NETWORKS):
        parser.error(f"--networks must be of {', '.join(NETWORKS)}, but got {', '.join(sorted(unknown))}")
    kept = ROWS.exists() and not (options.again or options.quick)
    rows = [json.loads(text) for text in ROWS.read_text().splitlines()] if kept else []
    stored = {(row["network"], row["seed"]): row for row in rows}
    print(f"{'network':16} seed  float ms picked ms  measured  predicted  fidelity")
    found = []
    for seed in range(1 if options.quick else options.seeds):
        for name in names:
            row = stored.get((name, seed))
            if row is None:
                row = examine(name, seed, 6 if options.quick else options.trials, options.runs)
                if not options.quick:
                    ROWS.parent.mkdir(exist_ok=True)
                    with ROWS.open("a") as file:
                        file.write(json.dumps(row) + "\n")
            found.append(row)
            print(line(row), flush=True)
    print(summary(found))


if __name__ == "__main__":
    main()
