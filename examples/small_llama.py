"""Train a small Llama on a text file, character by character, and compress it without further training.

    python examples/small_llama.py TEXT.txt
    python examples/small_llama.py TEXT.txt --steps 50 --width 64 --blocks 2

About a million parameters by default: RMSNorm, rotary embedding, grouped-query attention, SwiGLU, tied head. The last
tenth of the text is held out.
"""

from __future__ import annotations

import autocomp  # isort: skip  # before MindSpore, for which it sets the environment

import argparse
import time
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from autocomp.primitives import AWQ, GPTQ, RTN, SmoothQuant, SparseGPT

LENGTH, BATCH, DEPTH, HEADS_OF_A_KEY = 64, 16, 32, 2  # DEPTH: numbers of a head
HELD_OUT, CALIBRATED = 64, 64  # sequences


class RMSNorm(nn.Cell):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = ms.Parameter(Tensor(np.ones(width, np.float32)), name="gamma")

    def construct(self, x: Any) -> Any:
        return x * ops.rsqrt((x * x).mean(-1, keep_dims=True) + 1e-5) * self.gamma


class Attention(nn.Cell):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // DEPTH
        self.keys = self.heads // HEADS_OF_A_KEY
        self.q, self.o = (nn.Dense(width, width, "normal", has_bias=False) for _ in range(2))
        self.k, self.v = (nn.Dense(width, self.keys * DEPTH, "normal", has_bias=False) for _ in range(2))
        turns = np.outer(np.arange(LENGTH), 1e4 ** (-np.arange(0, DEPTH, 2) / DEPTH)).astype(np.float32)
        self.cos, self.sin = Tensor(np.tile(np.cos(turns), 2)), Tensor(np.tile(np.sin(turns), 2))
        self.mask = Tensor(np.triu(np.full((LENGTH, LENGTH), -1e4, np.float32), 1))

    def parted(self, x: Any, heads: int) -> Any:
        return x.reshape((x.shape[0], LENGTH, heads, DEPTH)).transpose((0, 2, 1, 3))

    def turned(self, x: Any) -> Any:
        half = DEPTH // 2
        return x * self.cos + ops.concat((-x[..., half:], x[..., :half]), -1) * self.sin

    def construct(self, x: Any) -> Any:
        q, k = self.turned(self.parted(self.q(x), self.heads)), self.turned(self.parted(self.k(x), self.keys))
        v = self.parted(self.v(x), self.keys)
        k, v = ops.repeat_interleave(k, HEADS_OF_A_KEY, 1), ops.repeat_interleave(v, HEADS_OF_A_KEY, 1)
        shares = ops.softmax(ops.matmul(q, k.transpose((0, 1, 3, 2))) * DEPTH**-0.5 + self.mask, -1)
        return self.o(ops.matmul(shares, v).transpose((0, 2, 1, 3)).reshape(x.shape))


class Block(nn.Cell):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.attention, self.norm2 = RMSNorm(width), Attention(width), RMSNorm(width)
        self.gate, self.up = (nn.Dense(width, 3 * width, "normal", has_bias=False) for _ in range(2))
        self.down = nn.Dense(3 * width, width, "normal", has_bias=False)

    def construct(self, x: Any) -> Any:
        x = x + self.attention(self.norm1(x))
        y = self.norm2(x)
        return x + self.down(ops.silu(self.gate(y)) * self.up(y))


class SmallLlama(nn.Cell):
    """tokens: (n, LENGTH) int32 -> logits (n, LENGTH, words); the head is the embedding."""

    def __init__(self, words: int, width: int, blocks: int) -> None:
        super().__init__()
        self.words, self.norm = nn.Embedding(words, width, embedding_table="normal"), RMSNorm(width)
        self.blocks = nn.CellList([Block(width) for _ in range(blocks)])
        self.scale = width**0.5

    def construct(self, tokens: Any) -> Any:
        x = self.words(tokens) * self.scale
        for block in self.blocks:
            x = block(x)
        return ops.matmul(self.norm(x), self.words.embedding_table.T)


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


def train(net: SmallLlama, text: np.ndarray, steps: int, rate: float = 2e-3) -> None:
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
    logits = net(Tensor(tokens)).asnumpy()[:, :-1].astype(np.float64)
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


def main(text: Path, steps: int = 600, width: int = 128, blocks: int = 6, out: Path | None = None) -> dict[str, float]:
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
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--blocks", type=int, default=6)
    parser.add_argument("--out", type=Path, help="folder for MindIR files")
    main(**vars(parser.parse_args()))
