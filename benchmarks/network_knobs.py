"""Operators, kernels and depth of trained networks beside pruning and bits, at equal seconds: ``nas.py --knobs``.

ResNet-20 for CIFAR-10 (JPEG images) and the quick start's network, costs of ``ascend-310p3`` at batch 256 and of
``cpu`` at batch 8. Searches of the same seconds: ``bits`` chooses channels and formats, ``knobs`` also what stands in
the place of layers and which blocks are skipped. Plans are evaluated on 2,000 images, of CIFAR-10 the 45,000th training
image and those behind it; every point of a front is then tested on the 10,000 test images. Hypervolume is over (test
error, latency as a share of the float network's) from (1, 1). On ``cpu`` latencies are also measured: the files run in
turns with the float network's file, in one thread, and the least of the times counts. With ``--trained`` both searches
have training images and train near their fronts. Finished searches are kept in runs/network_knobs.jsonl.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from search_methods import Extent, Subject

import autocomp
from autocomp.problem.pareto import hypervolume
from autocomp.results.front import ParetoSet

FILE = Path("runs/network_knobs.jsonl")
NETWORKS, BATCHES = ("resnet20", "quickstart"), {"ascend-310p3": 256, "cpu": 8}
WAYS = {
    "bits": ("channel-pruning", "post-training"),
    "knobs": ("channel-pruning", "post-training", "operators", "depth"),
}
TRAINED = 10_000  # images
MEASURED, ROUNDS = 12, 15  # points of a front, at most, and times that each file runs
Row = dict[str, Any]


def run(options: argparse.Namespace) -> None:
    extent = Extent(500, 1000, (), 1) if options.quick else Extent(2000, 10_000, (), 1)
    seconds = 30 if options.quick else options.seconds
    rows = [] if options.quick or not FILE.exists() else [json.loads(line) for line in FILE.read_text().splitlines()]
    for network in options.networks.split(","):
        subject = Subject.named(network, extent, options.shared)
        for device in BATCHES:
            for seed in range(1 if options.quick else options.seeds):
                for way in WAYS:
                    asked = {"network": network, "device": device, "way": way, "seed": seed, "seconds": seconds,
                             "trained": options.trained}  # fmt: skip
                    if not any(asked.items() <= row.items() for row in rows):
                        rows.append(asked | searched(subject, asked, options.shared))
                        if not options.quick:
                            FILE.parent.mkdir(exist_ok=True)
                            FILE.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    show([row for row in rows if row["seconds"] == seconds and row["trained"] == options.trained])


def searched(subject: Subject, asked: Row, shared: Path) -> Row:
    batch = BATCHES[asked["device"]]
    train = training_images(asked["network"], shared) if asked["trained"] else None
    started = time.monotonic()
    front = autocomp.search(
        subject.network,
        "latency<95%",
        asked["device"],
        autocomp.Data(calibrate=subject.calibrate, evaluate=subject.evaluate, train=train),
        inputs=(batch, *subject.calibrate.shape[1:]),
        primitives=(*WAYS[asked["way"]], *(("lsq",) if asked["trained"] else ())),
        trials=5000,
        time_limit=asked["seconds"],
        patience=None,
        seed=asked["seed"],
        progress=None,
    )
    taken = time.monotonic() - started
    tested = [point.evaluate(subject.test) for point in front]
    errors = [1 - float(one.accuracy if one.observed is None else one.observed) for one in tested]
    latency = [point.ratio("latency") for point in front]
    found = {
        "taken": round(taken, 1),
        "evaluations": len(front.evaluated),
        "points": [[round(1 - error, 4), round(share, 4)] for error, share in zip(errors, latency, strict=True)],
        "hypervolume": over(errors, latency),
        "primitives": sorted({name for point in front for name in point.primitives}),
    }
    if asked["device"] == "cpu":
        measured = measured_shares(front, errors, subject.calibrate[:batch])
        found |= {"measured": measured, "measured hypervolume": over(*zip(*measured, strict=True))}
    print(json.dumps(asked | found), flush=True)
    return found


def training_images(network: str, shared: Path) -> tuple[np.ndarray, np.ndarray]:
    if network == "quickstart":
        from one_space import training_images as of_fashion_mnist

        x, y = of_fashion_mnist(shared)
        return x[:TRAINED], y[:TRAINED]
    from cifar import Cifar

    images = Cifar(shared).images("train", TRAINED)
    return images.x, images.y


def over(errors: Sequence[float], shares: Sequence[float]) -> float:
    return hypervolume(np.array([errors, shares], np.float64).T, np.ones(2))


def measured_shares(front: ParetoSet, errors: Sequence[float], x: np.ndarray) -> list[tuple[float, float]]:
    """Test error and measured latency, as a share of the float network's, of points spread over the front."""
    places = np.unique(np.linspace(0, len(front) - 1, MEASURED).round().astype(int))
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{i}.onnx" for i in places]
        for i, path in zip(places, paths, strict=True):
            front[i].export(path)
        front.float_point.export(Path(folder) / "float.onnx")
        times = np.array([seconds_of([path, Path(folder) / "float.onnx"], x) for path in paths])
    return [(errors[i], float(own / whole)) for i, (own, whole) in zip(places, times, strict=True)]


def seconds_of(paths: Sequence[Path], x: np.ndarray) -> list[float]:
    """The least seconds of an inference of each file; the files take turns."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    sessions = [onnxruntime.InferenceSession(path, settings, ["CPUExecutionProvider"]) for path in map(str, paths)]
    found: list[list[float]] = [[] for _ in sessions]
    for turn in range(ROUNDS + 2):
        for session, seconds in zip(sessions, found, strict=True):
            started = time.perf_counter()
            session.run(None, {session.get_inputs()[0].name: x})
            seconds += [time.perf_counter() - started] if turn > 1 else []
    return [min(seconds) for seconds in found]


def show(rows: Sequence[Row]) -> None:
    heads = f"{'points':>6} {'hypervolume':>11} {'measured':>9}  primitives"
    print(f"{'network':10} {'device':13} {'seed':>4} {'way':6} {heads}")
    for row in rows:
        measured = f"{row['measured hypervolume']:9.4f}" if "measured hypervolume" in row else f"{'-':>9}"
        head = f"{row['network']:10} {row['device']:13} {row['seed']:>4} {row['way']:6} {len(row['points']):>6}"
        print(f"{head} {row['hypervolume']:11.4f} {measured}  {', '.join(row['primitives'])}")
    ratios = []
    for row in rows:
        if row["way"] == "knobs":
            same = {name: row[name] for name in ("network", "device", "seed")}
            (other,) = (one for one in rows if one["way"] == "bits" and same.items() <= one.items())
            ratio = row["hypervolume"] / max(other["hypervolume"], 1e-9)
            ratios.append(ratio)
            name = "measured hypervolume"
            measured = f", measured {row[name] / max(other[name], 1e-9):.4f}" if name in row else ""
            print(f"{row['network']} on {row['device']}, seed {row['seed']}: {ratio:.4f}{measured}")
    print(f"hypervolume with the knobs, over that of bits and channels: {np.mean(ratios):.4f} times")
