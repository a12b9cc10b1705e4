"""Whether a budget in milliseconds holds on the runtime: searches for half of the latency, exported and timed.

    python benchmarks/budgets.py                # five networks, two seeds; finished rows are kept in runs/budgets.jsonl
    python benchmarks/budgets.py --networks unet,resnet18 --seeds 1 --again

The processor is measured first if it was not before. Each search has no data (plans are judged by fidelity) and budget
``latency<50%``; the point that ``pick()`` gives is exported to ONNX and run in turns with the float network's export,
with one thread. Columns: milliseconds of both, their ratio as measured and as predicted, the point's fidelity.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from mindspore import nn
from scipy.stats import spearmanr

import autocomp
from autocomp.primitives.tracing.tracer import trace

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.branching_networks import shufflenet_v2
from benchmarks.deploy import UNet, medians, session, settled
from benchmarks.networks import mnasnet, mobilenet_v2, resnet

ROWS = Path(__file__).resolve().parent.parent / "runs" / "budgets.jsonl"
SHARE = 0.5
NETWORKS: dict[str, tuple[Callable[[], nn.Cell], int]] = {
    "resnet18": (lambda: resnet((2, 2, 2, 2), bottleneck=False), 96),
    "mobilenet_v2": (mobilenet_v2, 128),
    "mnasnet": (lambda: mnasnet(0.5), 128),
    "unet": (UNet, 64),
    "shufflenet_v2": (lambda: shufflenet_v2((116, 232, 464, 1024)), 128),
}


def examine(name: str, seed: int, trials: int, runs: int) -> dict[str, Any]:
    make, pixels = NETWORKS[name]
    net, shape = make(), (1, 3, pixels, pixels)
    graph = trace(net, shape)
    images = np.random.default_rng(seed).standard_normal((32, *shape[1:])).astype(np.float32)
    net = settled(net, graph, images, seed)
    front = autocomp.search(
        net, budget=f"latency<{SHARE:.0%}", device="cpu", inputs=shape, trials=trials, seed=seed, progress=False
    )
    point = front.pick()
    with tempfile.TemporaryDirectory() as folder:
        files = {"float": Path(folder) / "float.onnx", "point": Path(folder) / "point.onnx"}
        front.float_point.export(files["float"])
        point.export(files["point"])
        times = medians({key: session(path) for key, path in files.items()}, images[:1], runs)
    return {
        "network": name,
        "seed": seed,
        "float": times["float"],
        "point": times["point"],
        "predicted": point.cost.latency_ms / front.float_point.cost.latency_ms,
        "fidelity": point.accuracy,
        "feasible": front.feasible,
    }


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
    rows = [json.loads(line) for line in ROWS.read_text().splitlines()] if kept else []
    stored = {(row["network"], row["seed"]): row for row in rows}
    print(
        f"{'network':16} {'seed':>4} {'float ms':>9} {'point ms':>9} {'measured':>9} {'predicted':>10} {'fidelity':>9}"
    )
    found = []
    for name in names:
        for seed in range(1 if options.quick else options.seeds):
            row = stored.get((name, seed))
            if row is None:
                row = examine(name, seed, 6 if options.quick else options.trials, options.runs)
                if not options.quick:
                    ROWS.parent.mkdir(exist_ok=True)
                    with ROWS.open("a") as file:
                        file.write(json.dumps(row) + "\n")
            found.append(row)
            print(
                f"{name:16} {seed:4d} {row['float']:9.3f} {row['point']:9.3f} {row['point'] / row['float']:9.1%} "
                f"{row['predicted']:10.1%} {row['fidelity']:9.3f}",
                flush=True,
            )
    held = sum(row["point"] < SHARE * row["float"] for row in found)
    if len(found) > 2:
        rank = spearmanr([row["point"] for row in found], [row["predicted"] * row["float"] for row in found])[0]
        print(f"Spearman of predicted and measured milliseconds: {rank:.3f}")
    print(f"budgets that hold as measured: {held} of {len(found)}")


if __name__ == "__main__":
    main()
