"""Bits of a language model's cache chosen by a search: what is evaluated is what a file with that cache computes.

    python benchmarks/cache_bits.py --shared ../shared

Trains a Llama of three blocks on Tiny Shakespeare, by character (``examples/small_llama.py``), and searches the bits of
each attention's keys and values. Points are chosen on sequences of the first nine tenths of the text, and reported on
64 of the last tenth: as evaluated, on whole sequences, and a token at a time through the exported file, whose cache
holds integers. Beside them stand the uniform plans. The last line says by how much the two perplexities differ at most.
"""

from __future__ import annotations

import autocomp  # isort: skip  # before MindSpore, for which it sets the environment

import argparse
import math
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from autocomp.search_spaces import Plan

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
TEXT, DEVICE = "data/text/tinyshakespeare.txt", "ascend-910b1:mindspore"
STEPS, BLOCKS, WIDTH, TRIALS = 300, 3, 128, 24


def trained(example: Any, text: np.ndarray, words: int, steps: int) -> Any:
    net = example.SmallLlama(words, WIDTH, BLOCKS)
    example.train(net, text, steps)
    return net


def rows_of(front: Any) -> list[Any]:
    """The uniform plans, and the front's points that mix bits."""
    knobs = [knob.name for knob in front.float_point.deployer.evaluator.space.knobs]
    uniform = [Plan({} if bits == "float" else dict.fromkeys(knobs, bits)) for bits in ("float", "int8", "int4")]
    mixed = [point.plan for point in front if point.plan not in uniform]
    return [front.float_point if not plan else front.evaluate(plan) for plan in (*uniform, *mixed)]


def measured(example: Any, point: Any, tokens: np.ndarray, folder: Path) -> tuple[float, float, int]:
    """Perplexity as evaluated and through the file, and bytes of a text's cache in the file."""
    evaluator = point.deployer.evaluator
    logits = evaluator.engine.outputs(evaluator.compress(point.plan), (tokens,))[0]
    file = example.export_integer_cache(point.net, folder / "step.onnx", point.cache_bits)
    held = sum(math.prod(part.shape[1:]) * np.dtype(part.dtype).itemsize for part in file.inputs[2:])
    return example.of_logits(logits, tokens), example.of_logits(example.through_cache(file, tokens), tokens), held


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder with data/")
    parser.add_argument("--quick", action="store_true", help="30 steps of training, 8 evaluations")
    options = parser.parse_args()
    sys.path.insert(0, str(EXAMPLES))
    example = import_module("small_llama")

    numbers, words = example.read(options.shared / TEXT)
    learnt, held_out = np.split(numbers, [len(numbers) * 9 // 10])
    net = trained(example, learnt, words, 30 if options.quick else STEPS)
    calibrate, chosen, tokens = (
        example.sequences(text, 64, np.random.default_rng(seed))
        for text, seed in ((learnt, 1), (learnt, 4), (held_out, 2))
    )
    data = autocomp.Data(calibrate=calibrate, evaluate=chosen, metric="perplexity")
    front = autocomp.search(
        net, "cache<100%", DEVICE, data, primitives="cache-quantization", context=example.LENGTH,
        trials=8 if options.quick else TRIALS, progress=False,
    )  # fmt: skip
    print(front)
    print("\n| bits of each attention | predicted cache | bytes in the file | evaluated | through the file | added |")
    print("|---|---|---|---|---|---|")
    worst, of_float = 0.0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        for point in rows_of(front):
            evaluated, through, held = measured(example, point, tokens, Path(folder))
            of_float, worst = of_float or evaluated, max(worst, abs(through / evaluated - 1))
            bits = " ".join(str(one or "float") for one in point.cache_bits[::2])
            print(f"| {bits} | {point.ratio('cache'):.0%} | {held:,} | {evaluated:.4f} | {through:.4f} | "
                  f"{100 * (evaluated / of_float - 1):+.3f} % |", flush=True)  # fmt: skip
    print(f"\nperplexity through the file, beside that evaluated, at most: {100 * worst:.4f} %")


if __name__ == "__main__":
    main()
