"""Rows that take minutes each: options to choose them by, and a file that keeps the finished ones."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from training import HELD_OUT

Done = dict[tuple[str, int], dict[str, Any]]  # (row, seed) -> what was measured


def parser(doc: str | None, validates: bool = True) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--shared", type=Path, default=Path("../shared"), help="folder with data/ and models/")
    made.add_argument("--rows", help="names joined by commas; default: all")
    made.add_argument("--seeds", type=int, default=1)
    beside = "with --validate" if validates else "nothing is kept"
    made.add_argument("--rate", type=float, help=f"another learning rate, {beside}")
    if validates:
        made.add_argument("--validate", action="store_true", help="on 5,000 training images; nothing is kept")
    made.add_argument("--again", action="store_true")
    made.add_argument("--quick", action="store_true", help="1,000 training and 500 test images; nothing is kept")
    return made


def read(made: argparse.ArgumentParser, known: Sequence[str]) -> argparse.Namespace:
    """The options, with ``names``, those of the chosen rows in the order of ``known``."""
    options = made.parse_args()
    names = options.rows.split(",") if options.rows else known
    if unknown := set(names) - set(known):
        made.error(f"--rows must be of {', '.join(known)}, but got {', '.join(sorted(unknown))}")
    if not (options.shared / "models" / "resnet_cifar.py").exists():
        made.error(f"--shared must hold data/ and models/, but {options.shared} does not")
    options.names = [name for name in known if name in names]
    return options


def collect(file: Path, options: argparse.Namespace, kept: bool, measure: Callable[[str, int], dict[str, Any]]) -> Done:
    """What ``measure`` finds for each row and seed that the file does not have."""
    done = stored(file) if kept and not options.again else {}
    for name in options.names:
        for seed in range(options.seeds):
            if (name, seed) not in done:
                done[name, seed] = found = measure(name, seed)
                print(json.dumps(found), flush=True)
                if kept:
                    file.parent.mkdir(exist_ok=True)
                    with file.open("a") as lines:
                        lines.write(json.dumps(found) + "\n")
    return done


def stored(file: Path) -> Done:
    if not file.exists():
        return {}
    return {(row["row"], row["seed"]): row for row in map(json.loads, file.read_text().splitlines())}


def mean(done: Done, name: str, column: str = "accuracy") -> float:
    """Over the row's seeds; not a number where none has it."""
    values = [row[column] for (other, _), row in done.items() if other == name]
    return float(np.mean(values)) if values and None not in values else float("nan")


def on_all(done: Done, name: str) -> float:
    """The row's accuracy on all test images, from that on the held out ones and on the others."""
    return (mean(done, name, "validated") + (HELD_OUT - 1) * mean(done, name)) / HELD_OUT


def lost(done: Done, name: str, base: str = "float") -> tuple[float, float]:
    """Points that the row is below its base, on the test images that nothing was chosen on and on all."""
    on_others, on_every = (found(done, base) - found(done, name) for found in (mean, on_all))
    return on_others, on_every


ACCURACIES = f"{'held out':>10}{'test':>10}{'lost':>7}{'all':>10}{'lost':>7}"


def accuracies(done: Done, name: str, base: str = "float") -> str:
    """The columns of ACCURACIES."""
    on_others, on_every = lost(done, name, base)
    columns = (mean(done, name), on_others), (on_all(done, name), on_every)
    found = "".join(f"{accuracy:9.2f}%{points:7.2f}" for accuracy, points in columns)
    return f"{mean(done, name, 'validated'):9.2f}%{found}"


def in_a_process(work: Callable[..., Any], *arguments: Any) -> Any:
    """The memory of a compiled network never comes back to its process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()
