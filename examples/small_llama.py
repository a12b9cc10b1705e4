"""Train a small Llama on a text file, character by character, compress it, and let the exported file write on.

    python examples/small_llama.py TEXT.txt
    python examples/small_llama.py TEXT.txt --steps 50 --width 64 --blocks 2

RMSNorm, rotary embedding, grouped-query attention, SwiGLU, tied head; 0.8 million parameters by default. The last tenth
of the text is held out. First each algorithm rounds the network alone, without training. Then a search removes heads,
widths and blocks until 70 % of the parameters are left, in w4a8; its best point is trained further and exported, and
generates with a cache of keys and values.
"""

from __future__ import annotations

import autocomp  # isort: skip  # before MindSpore, for which it sets the environment

import argparse
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from mindspore.common.initializer import Normal

from autocomp.primitives import AWQ, GPTQ, RTN, IntegerCache, SmoothQuant, SparseGPT

SPREAD = Normal(0.05)  # of weights before the training
LENGTH, BATCH, DEPTH, HEADS_OF_A_KEY = 64, 16, 32, 2  # DEPTH: numbers of a head
HELD_OUT, CALIBRATED = 64, 64  # sequences
TRAINED, WRITTEN = 16, 32  # batches after the search; tokens that are generated
FAR = -1e4  # added to the score of a key that may not be seen


class RMSNorm(nn.Cell):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = ms.Parameter(Tensor(np.ones(width, np.float32)), name="gamma")

    def construct(self, x: Any) -> Any:
        return x * ops.rsqrt((x * x).mean(-1, keep_dims=True) + 1e-5) * self.gamma


def turns(length: int) -> np.ndarray:
    """(length, DEPTH): the angles of the rotary embedding."""
    return np.tile(np.outer(np.arange(length), 1e4 ** (-np.arange(0, DEPTH, 2) / DEPTH)).astype(np.float32), 2)


def turned(x: Any, cos: Any, sin: Any) -> Any:
    half = DEPTH // 2
    return x * cos + ops.concat((-x[..., half:], x[..., :half]), -1) * sin


class Attention(nn.Cell):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.q, self.o = (nn.Dense(width, width, SPREAD, has_bias=False) for _ in range(2))
        self.k, self.v = (nn.Dense(width, width // HEADS_OF_A_KEY, SPREAD, has_bias=False) for _ in range(2))

    def parted(self, x: Any) -> Any:
        """(n, tokens, heads * DEPTH) -> (n, heads, tokens, DEPTH), for as many heads as there are."""
        return x.reshape((x.shape[0], x.shape[1], -1, DEPTH)).transpose((0, 2, 1, 3))

    def seen(self, q: Any, k: Any, v: Any, mask: Any) -> Any:
        """q, k: turned."""
        k, v = ops.repeat_interleave(k, HEADS_OF_A_KEY, 1), ops.repeat_interleave(v, HEADS_OF_A_KEY, 1)
        shares = ops.softmax(ops.matmul(q, k.transpose((0, 1, 3, 2))) * DEPTH**-0.5 + mask, -1)
        found = ops.matmul(shares, v).transpose((0, 2, 1, 3))
        return self.o(found.reshape((found.shape[0], found.shape[1], -1)))

    def construct(self, x: Any, cos: Any, sin: Any, mask: Any) -> Any:
        q, k, v = self.parted(self.q(x)), self.parted(self.k(x)), self.parted(self.v(x))
        return self.seen(turned(q, cos, sin), turned(k, cos, sin), v, mask)


class Block(nn.Cell):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.attention, self.norm2 = RMSNorm(width), Attention(width), RMSNorm(width)
        self.gate, self.up = (nn.Dense(width, 3 * width, SPREAD, has_bias=False) for _ in range(2))
        self.down = nn.Dense(3 * width, width, SPREAD, has_bias=False)

    def wide(self, x: Any) -> Any:
        y = self.norm2(x)
        return x + self.down(ops.silu(self.gate(y)) * self.up(y))

    def construct(self, x: Any, cos: Any, sin: Any, mask: Any) -> Any:
        return self.wide(x + self.attention(self.norm1(x), cos, sin, mask))


class SmallLlama(nn.Cell):
    """tokens: (n, LENGTH) int32 -> logits (n, LENGTH, words); the head is the embedding."""

    def __init__(self, words: int, width: int, blocks: int) -> None:
        super().__init__()
        self.words, self.norm = nn.Embedding(words, width, embedding_table=SPREAD), RMSNorm(width)
        self.blocks = nn.CellList([Block(width) for _ in range(blocks)])
        self.cos, self.sin = Tensor(np.cos(turns(LENGTH))), Tensor(np.sin(turns(LENGTH)))
        self.mask = Tensor(np.triu(np.full((LENGTH, LENGTH), FAR, np.float32), 1))
        self.scale = width**0.5

    def construct(self, tokens: Any) -> Any:
        x = self.words(tokens) * self.scale
        for block in self.blocks:
            x = block(x, self.cos, self.sin, self.mask)
        return ops.matmul(self.norm(x), self.words.embedding_table.T)


class Decoder(nn.Cell):
    """One step of generation: the same network, which reads the keys and values of earlier tokens from a cache.

    tokens: (n, s) int32. position: (n, 1) int32, how many tokens came before. cache: keys and values of each block in
    turn, (n, heads, CONTEXT, DEPTH), of which the first ``position`` count; keys are held turned.
    Returns the logits (n, s, words), and what the tokens add to each part of the cache, (n, heads, s, DEPTH).
    """

    def __init__(self, net: Any, context: int, tokens: int = 1) -> None:
        super().__init__()
        self.net, self.tokens = net, tokens
        self.left = [i for i, block in enumerate(net.blocks) if isinstance(block, Block)]  # others are skipped
        every, past = turns(context), np.arange(context + tokens)
        self.angles = Tensor(every)
        self.steps = Tensor(np.arange(tokens, dtype=np.int32))
        self.places = Tensor(np.where(past < context, past, -1).astype(np.int32))  # the tokens' own keys always count
        later = np.triu(np.full((tokens, tokens), FAR, np.float32), 1)
        self.later = Tensor(np.concatenate([np.zeros((tokens, context), np.float32), later], 1))

    def construct(self, tokens: Any, position: Any, *cache: Any) -> Any:
        n = tokens.shape[0]
        angles = ops.gather(self.angles, position + self.steps, 0).reshape((n, 1, self.tokens, DEPTH))
        cos, sin = ops.cos(angles), ops.sin(angles)
        unseen = ops.greater_equal(self.places, position.reshape((n, 1, 1, 1))).astype(ms.float32)
        mask = unseen * FAR + self.later
        x, added = self.net.words(tokens) * self.net.scale, []
        for i, place in enumerate(self.left):
            block = self.net.blocks[place]
            own, y = block.attention, block.norm1(x)
            q, k, v = own.parted(own.q(y)), own.parted(own.k(y)), own.parted(own.v(y))
            k = turned(k, cos, sin)
            keys, values = ops.concat((cache[2 * i], k), 2), ops.concat((cache[2 * i + 1], v), 2)
            x = block.wide(x + own.seen(turned(q, cos, sin), keys, values, mask))
            added += [k, v]
        return (ops.matmul(self.net.norm(x), self.net.words.embedding_table.T), *added)


class NextTokenLoss(nn.Cell):
    def __init__(self, net: SmallLlama) -> None:
        super().__init__()
        self.net, self.loss = net, nn.CrossEntropyLoss()

    def construct(self, tokens: Any) -> Any:
        logits = self.net(tokens)[:, :-1]
        return self.loss(logits.reshape((-1, logits.shape[-1])), tokens[:, 1:].reshape((-1,)))


def read(path: Path) -> tuple[np.ndarray, int]:
    """The text as numbers of its characters, (characters,) int32, and how many different ones there are."""
    characters, numbers = np.unique(np.array(list(path.read_text(encoding="utf-8"))), return_inverse=True)
    return numbers.reshape(-1).astype(np.int32), len(characters)


def sequences(text: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """(count, LENGTH): from random places."""
    starts = rng.integers(0, len(text) - LENGTH, count)
    return text[starts[:, None] + np.arange(LENGTH)]


def train(net: SmallLlama, text: np.ndarray, steps: int, rate: float = 5e-3) -> None:
    rng, started = np.random.default_rng(0), time.perf_counter()
    rates = rate * np.minimum(1, np.arange(1, steps + 1) / 50) * np.linspace(1, 0.05, steps)
    optimizer = nn.AdamWeightDecay(net.trainable_params(), Tensor(rates.astype(np.float32)), weight_decay=0.01)
    ms.set_context(mode=ms.GRAPH_MODE)
    step = nn.TrainOneStepCell(NextTokenLoss(net), optimizer).set_train()
    for i in range(steps):
        loss = step(Tensor(sequences(text, BATCH, rng)))
        if (i + 1) % max(steps // 10, 1) == 0:
            print(f"step {i + 1}: loss {float(loss.asnumpy()):.3f}, {time.perf_counter() - started:.0f} s", flush=True)
    ms.set_context(mode=ms.PYNATIVE_MODE)
    net.set_train(False)


def perplexity(net: Any, tokens: np.ndarray) -> float:
    return of_logits(net(Tensor(tokens)).asnumpy(), tokens)


def of_logits(found: np.ndarray, tokens: np.ndarray) -> float:
    logits = found[:, :-1].astype(np.float64)
    logits -= logits.max(-1, keepdims=True)
    true = np.take_along_axis(logits, tokens[:, 1:, None], -1)[..., 0]
    return float(np.exp((np.log(np.exp(logits).sum(-1)) - true).mean()))


ALGORITHMS: dict[str, Any] = {
    "w8a8, SmoothQuant": SmoothQuant(),
    "w4, to nearest": RTN(4, 32),
    "w4, GPTQ": GPTQ(4),
    "w4, GPTQ in groups of 32": GPTQ(4, group_size=32),
    "w4, AWQ in groups of 32": AWQ(4, group_size=32),
    "2:4, SparseGPT": SparseGPT(first_last_layers=True),
}


def searched(net: SmallLlama, learnt: np.ndarray, calibrate: np.ndarray, tokens: np.ndarray, trials: int) -> Any:
    """The best point with at most 70 % of the parameters, w4a8: heads, widths and blocks go. It is trained further."""
    data = autocomp.Data(calibrate=calibrate, evaluate=tokens, metric="perplexity")
    front = autocomp.search(
        net, "params<70%, size<30%", "cpu", data, primitives=["channel-pruning", "post-training", "depth"],
        restrict=autocomp.Restrict("*", formats=["w4a8", "w8"]), trials=trials, progress=False,
    )  # fmt: skip
    print(front)
    best = max((point for point in front if not point.is_float), key=lambda point: point.accuracy)
    return best.fine_tune(sequences(learnt, TRAINED * BATCH, np.random.default_rng(3)), 1, batch=BATCH, progress=False)


def empty_cache(net: Any, context: int, n: int = 1) -> list[np.ndarray]:
    """Keys and values of each block, zeros; heads that were cut have none."""
    heads = [block.attention.k.out_channels // DEPTH for block in net.blocks if isinstance(block, Block)]
    return [np.zeros((n, count, context, DEPTH), np.float32) for count in heads for _ in range(2)]


def export_decoder(net: Any, folder: Path, context: int = LENGTH) -> tuple[Any, Any]:
    """Two files with one cache: ``step.onnx`` for a token at a time, ``prefill.onnx`` for 16; loaded again."""
    for name, count in (("step", 1), ("prefill", 16)):
        inputs = (np.zeros((1, count), np.int32), np.zeros((1, 1), np.int32), *empty_cache(net, context))
        print(autocomp.export(Decoder(net, context, count), folder / f"{name}.onnx", inputs))
    step, prefill = (autocomp.load_deployed(folder / f"{name}.onnx") for name in ("step", "prefill"))
    return step, prefill


def through_cache(step: Any, tokens: np.ndarray) -> np.ndarray:
    """(n, length, words): the logits of a file that runs a token at a time, whatever its cache holds."""
    cache = [np.zeros((len(tokens), *part.shape[1:]), part.dtype) for part in step.inputs[2:]]
    found = []
    for i in range(tokens.shape[1]):
        logits, *added = step.run(tokens[:, i : i + 1], np.full((len(tokens), 1), i, np.int32), *cache)
        found.append(logits)
        for part, more in zip(cache, added, strict=True):
            part[:, :, i : i + 1] = more
    return np.concatenate(found, 1)


def export_integer_cache(net: Any, path: Path, bits: Any, context: int = LENGTH) -> Any:
    """``step.onnx`` with a cache in integers, loaded again."""
    step = IntegerCache(Decoder(net, context), bits)
    inputs = (np.zeros((1, 1), np.int32), np.zeros((1, 1), np.int32), *step.empty(empty_cache(net, context)))
    print(autocomp.export(step, path, inputs))
    return autocomp.load_deployed(path)


def greedy(net: Any, prompt: np.ndarray, count: int) -> np.ndarray:
    """(n, count): what the Cell itself finds most likely, all tokens anew for each."""
    row, known = np.zeros((len(prompt), LENGTH), np.int32), prompt.shape[1]
    row[:, :known] = prompt
    for i in range(known, known + count):
        row[:, i] = net(Tensor(row)).asnumpy()[:, i - 1].argmax(-1)
    return row[:, known : known + count]


def main(
    text: Path, steps: int = 600, width: int = 128, blocks: int = 4, trials: int = 24, out: Path | None = None
) -> dict[str, float]:
    """The perplexity of each network on the held-out text, by name."""
    if width % (DEPTH * HEADS_OF_A_KEY):
        raise ValueError(f"width must be a multiple of {DEPTH * HEADS_OF_A_KEY}, but got width={width}")
    numbers, words = read(text)
    learnt, held_out = np.split(numbers, [len(numbers) * 9 // 10])
    net = SmallLlama(words, width, blocks)
    train(net, learnt, steps)
    calibrate = sequences(learnt, CALIBRATED, np.random.default_rng(1))
    tokens = sequences(held_out, HELD_OUT, np.random.default_rng(2))
    found = {"float": perplexity(net, tokens)}
    print(f"{sum(p.size for p in net.get_parameters()):,} parameters, {words} characters\nfloat: {found['float']:.3f}")
    for name, algorithm in ALGORITHMS.items():
        smaller = algorithm.convert(algorithm.apply(net, calibrate=calibrate))
        found[name] = perplexity(smaller, tokens)
        print(f"{name}: perplexity {found[name]:.3f} ({100 * (found[name] / found['float'] - 1):+.1f} %)", flush=True)
        if out is not None:
            kind = "".join(letter if letter.isalnum() else "_" for letter in name)
            print(autocomp.export(smaller, out / f"{kind}.mindir", tokens[:1]))
    point = searched(net, learnt, calibrate, sequences(learnt, HELD_OUT, np.random.default_rng(4)), trials)
    found[point.name] = perplexity(point.net, tokens)
    print(f"{point.name}, trained: perplexity {found[point.name]:.3f}, {point.ratio('params'):.0%} of the parameters")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) if out is None else out
        print(point.export(place / "net.onnx"))
        step, prefill = export_decoder(point.net, place)
        short = [export_integer_cache(point.net, place / f"step{bits}.onnx", bits) for bits in (8, 4)]
    for kind, file in zip(("floats", "8 bits", "4 bits"), (step, *short), strict=True):
        held = sum(math.prod(part.shape[1:]) * np.dtype(part.dtype).itemsize for part in file.inputs[2:])
        found[f"cache in {kind}"] = of_logits(through_cache(file, tokens), tokens)
        print(f"cache in {kind}, {held:,} bytes a text: perplexity {found[f'cache in {kind}']:.3f}")
    prompt, started = tokens[:4, :16], time.perf_counter()
    texts = step.generate(prompt, WRITTEN, prefill)
    seconds = time.perf_counter() - started
    same = np.array_equal(texts, greedy(point.net, prompt, WRITTEN))
    print(f"{WRITTEN} tokens after 16, in four texts: {seconds:.2f} seconds with the cache", end=", ")
    print("the Cell's own" if same else "but NOT what the Cell finds")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--trials", type=int, default=24, help="of the search")
    parser.add_argument("--out", type=Path, help="folder for files")
    main(**vars(parser.parse_args()))
