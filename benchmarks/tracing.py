"""What tracing costs: ResNet-50 for 224x224 at batch 1, as a multiple of its forward pass.

python benchmarks/tracing.py [--quick]

Tracing compiles the network once, which is most of its time. So it is compared with a forward pass in PyNative mode, as
MindSpore runs a network unless told otherwise, and in GRAPH mode, whose first call compiles and is shown by itself.
Medians, measured in turns. The last line is ``trace_over_forward: <value> passes``, of PyNative mode.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from autocomp.primitives import trace
from autocomp.primitives.tracing.platform import forward
from tests.big_networks import ResNet50

REPEATS, QUICK_REPEATS = 9, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_REPEATS} repetitions instead of {REPEATS}")
    repeats = QUICK_REPEATS if parser.parse_args().quick else REPEATS
    net = ResNet50().set_train(False)
    x = (np.random.default_rng(0).normal(size=(1, 3, 224, 224)).astype(np.float32),)
    works: dict[str, Callable[[], object]] = {
        "trace": lambda: trace(net, x),
        "forward, PyNative mode": lambda: forward(net, x, graph=False),
    }
    graph = [seconds(lambda: forward(net, x)) for _ in range(repeats + 1)]  # by itself: changes of mode compile anew
    first = {name: seconds(work) for name, work in works.items()}
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            times[name].append(seconds(work))
    first["forward, GRAPH mode"], times["forward, GRAPH mode"] = graph[0], graph[1:]
    print(f"{'':24}{'first':>9}{'then':>9}   one trace is")
    for name, found in times.items():
        ratio = median(times["trace"]) / median(found)
        print(f"{name:24}{1e3 * first[name]:6.0f} ms{1e3 * median(found):6.0f} ms{ratio:15.1f}")
    print(f"trace_over_forward: {median(times['trace']) / median(times['forward, PyNative mode']):.2f} passes")


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
