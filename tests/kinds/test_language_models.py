"""A small Llama loses heads, widths and a block, is rounded, trained, exported, and generates with a cache."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autocomp
from autocomp.deployment.deploy import NetworkDeployer
from autocomp.evaluators.fine_tuning import FineTuning
from autocomp.evaluators.token_losses import PERPLEXITY
from autocomp.primitives import RTN, IntegerCache, SmoothQuant
from autocomp.primitives.choices import Choices
from autocomp.primitives.export.files import norm_error
from autocomp.primitives.tracing.platform import forward
from autocomp.primitives.tracing.tracer import trace
from autocomp.problem.jobs import evaluator_of
from autocomp.search_spaces import Format, Plan
from tests.networks import Tensor, nn

WORDS, LENGTH, CONTEXT, WIDTH = 11, 64, 24, 128
FORMATS = [Format.parse(text) for text in ("w8", "w4a8")]
CHOICES = Choices(FORMATS, 4, ("channel-pruning", "post-training", "depth", "cache-quantization"), context=LENGTH)
PLAN = Plan({
    "keep/blocks.0.attention.q": 0.5,
    "keep/blocks.0.gate": 0.5,
    "skip/blocks.1": "skipped@block-skipping",
    "format/words": "w8",
    **{f"format/blocks.0.{layer}": "w4a8" for layer in ("gate", "up", "down")},
    **{f"format/blocks.0.attention.{layer}": "w4a8" for layer in "qkvo"},
})  # fmt: skip


@dataclass
class Made:
    example: Any
    net: Any
    tokens: np.ndarray
    deployer: NetworkDeployer
    small: Any

    def decoder(self, net: Any, tokens: int) -> tuple[Any, tuple[np.ndarray, ...]]:
        inputs = (self.tokens[:1, :tokens], np.zeros((1, 1), np.int32), *self.example.empty_cache(net, CONTEXT))
        return self.example.Decoder(net, CONTEXT, tokens), inputs


@pytest.fixture(scope="module")
def made() -> Iterator[Made]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[2] / "examples")  # MindSpore looks for a network's module
        example = importlib.import_module("small_llama")
        rng, net = np.random.default_rng(0), example.SmallLlama(WORDS, WIDTH, 2).set_train(False)
        for parameter in net.get_parameters():
            if parameter.ndim > 1:
                spread = 0.09 if parameter.name.startswith("words") else 0.3  # else each token predicts itself
                parameter.set_data(Tensor((rng.standard_normal(parameter.shape) * spread).astype(np.float32)))
        tokens = rng.integers(0, WORDS, (8, LENGTH)).astype(np.int32)
        graph = trace(net, (tokens[:1],))
        evaluator = evaluator_of(net, graph, CHOICES, (tokens,), None, (tokens,), measure=PERPLEXITY)
        deployer = NetworkDeployer(net, evaluator, (tokens,), CHOICES)
        yield Made(example, net, tokens, deployer, deployer.net(PLAN))


@pytest.fixture(scope="module")
def files(made: Made, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The whole network, a token and four tokens a run: of the compressed network, in ONNX."""
    folder = tmp_path_factory.mktemp("generation")
    made.deployer.export(PLAN, folder / "whole.onnx")
    for name, count in (("step", 1), ("four", 4)):
        decoder, inputs = made.decoder(made.small, count)
        report = autocomp.export(decoder, folder / f"{name}.onnx", inputs)
        assert report.max_relative_error < 1e-4
    return {name: autocomp.load_deployed(folder / f"{name}.onnx") for name in ("whole", "step", "four")}


def test_heads_widths_and_a_block_go(made: Made) -> None:
    small, own = made.small, made.small.blocks[0].attention
    sizes = [layer.out_channels for layer in (own.q, own.k, own.v, small.blocks[0].gate, small.blocks[0].up)]
    assert sizes == [64, 32, 32, 192, 192] and own.o.in_channels == 64 and small.blocks[0].down.in_channels == 192
    assert not hasattr(small.blocks[1], "attention")
    floats, cut = forward(made.net, (made.tokens,), graph=False)[0], forward(small, (made.tokens,), graph=False)[0]
    found = made.deployer.evaluator.engine.outputs(made.deployer.evaluator.compress(PLAN), (made.tokens,))[0]
    assert norm_error(found, cut) < 0.01 < norm_error(cut, floats)  # a few inputs lie at halves of a step


def test_the_files_generate_what_the_cell_does(made: Made, files: dict[str, Any]) -> None:
    prompt = made.tokens[:3, :7]
    expected = made.example.greedy(made.small, prompt, 6)
    assert len(set(expected.reshape(-1).tolist())) > 2
    step, four, whole = files["step"], files["four"], files["whole"]
    for found in (
        step.generate(prompt, 6),
        step.generate(Tensor(prompt), 6, prefill=four),
        four.generate(prompt.astype(np.int64), 6),
        whole.generate(prompt, 6),
    ):
        np.testing.assert_array_equal(found, expected)
    assert step.generate(prompt, CONTEXT - 6).shape == (3, CONTEXT - 6), "the last token needs no place"


def test_a_decoder_keeps_the_integers(made: Made, files: dict[str, Any]) -> None:
    numbers = sum(p.size for name, p in made.net.parameters_and_names() if not name.startswith("blocks.1"))
    assert files["step"].path.stat().st_size < 0.8 * numbers, "a byte each, without the integers of 4 bits"


@pytest.mark.parametrize("algorithm", [RTN(4, 8), SmoothQuant(8, 8), SmoothQuant(8, 8, dynamic=True)])
def test_a_converted_network_is_exported_for_inputs_of_other_shapes(algorithm: Any, tmp_path: Path) -> None:
    """The integers are those that were found at the first shape."""
    rng, net = np.random.default_rng(1), nn.SequentialCell([nn.Dense(16, 8, activation="relu"), nn.Dense(8, 8)])
    rows = rng.standard_normal((32, 6, 16)).astype(np.float32)
    converted = algorithm.convert(algorithm.apply(net, calibrate=rows))
    for shape in ((2, 16), (1, 2, 5, 16)):
        x = rng.standard_normal(shape).astype(np.float32)
        report = autocomp.export(converted, tmp_path / "net.onnx", x)
        assert report.max_relative_error < 0.02 and report.size_mb < 0.006  # an input may lie at half a step
        (found,) = autocomp.load_deployed(report.path).run(x)
        assert norm_error(found, forward(converted, (x,), graph=False)[0]) < 0.02


def test_a_point_judged_by_perplexity_is_trained_and_measured_anew(made: Made) -> None:
    made.decoder(made.net, 1)  # renames the parameters of the network, which has become a part of it
    deployer, found = made.deployer.fine_tune(PLAN, made.tokens, FineTuning(steps=1, batch=4, rate=1e-5))
    assert found.metric == "perplexity" and 0 < found.accuracy < 1
    other, of_float = deployer.measure(PLAN, made.tokens[:4])
    assert other.samples == 4 and other.metric == "perplexity" and other.accuracy != of_float.accuracy
    before, _ = made.deployer.measure(PLAN, made.tokens)
    expected = made.example.perplexity(made.small, made.tokens)
    assert before.scale * (1 - before.accuracy) == pytest.approx(expected, rel=1e-3)


class Recorder(nn.Cell):
    """A decoder of one part that adds the part's first token, turned around."""

    def construct(self, tokens: Any, position: Any, part: Any) -> Any:
        return tokens + position, -part[:, :, :1]


@pytest.mark.parametrize(("bits", "top"), [(8, 127), (4, 7)])
def test_a_cache_in_integers_has_a_scale_for_each_token_and_head(bits: int, top: int) -> None:
    x = np.random.default_rng(2).standard_normal((2, 3, 5, 6)).astype(np.float32)
    x[0, 1, 2] = 0
    cache = IntegerCache(Recorder(), bits)
    integers, scale = (part.asnumpy() for part in cache.rounded(Tensor(x), bits))
    assert integers.dtype == np.int8 and integers.shape == (2, 3, 5, 6 * bits // 8) and scale.shape == (2, 3, 5, 1)
    expected = np.maximum(np.abs(x).max(-1, keepdims=True) / top, 1e-8)
    np.testing.assert_allclose(scale, expected, rtol=1e-6)
    back = cache.in_floats(Tensor(integers), Tensor(scale), bits).asnumpy()
    assert (np.abs(back - x) <= 0.5001 * expected).all() and (back[0, 1, 2] == 0).all()
    empty = cache.empty([x])
    assert [(part.shape, part.dtype) for part in empty] == [(integers.shape, np.int8), (scale.shape, np.float32)]
    tokens, position = Tensor(np.ones((2, 1), np.int32)), Tensor(np.zeros((2, 1), np.int32))
    _, new, its_scale = (part.asnumpy() for part in cache(tokens, position, Tensor(integers), Tensor(scale)))
    again = cache.in_floats(Tensor(new), Tensor(its_scale), bits).asnumpy()
    np.testing.assert_allclose(again, -back[:, :, :1], atol=1e-6)


def test_a_plan_of_the_cache_generates_what_was_evaluated(made: Made, files: dict[str, Any], tmp_path: Path) -> None:
    """The simulated rounding is that of the cache which the file holds, in the bits that the plan chooses."""
    plan, evaluator = Plan({**PLAN, "cache/blocks.0.attention": "int4"}), made.deployer.evaluator
    bits = made.deployer.cache_bits(plan)
    assert bits == (4, 4) and made.deployer.cache_bits(PLAN) == (None, None), "the other block is skipped"
    file = made.example.export_integer_cache(made.small, tmp_path / "step4.onnx", bits, CONTEXT)
    assert [one.dtype for one in file.inputs[2:]] == ["int8", "float32"] * 2
    compressed = evaluator.compress(plan)

    def simulated(tokens: np.ndarray) -> np.ndarray:
        return np.asarray(evaluator.engine.outputs(compressed, (tokens,))[0])

    expected, plain = simulated(made.tokens), evaluator.engine.outputs(evaluator.compress(PLAN), (made.tokens,))[0]
    found = made.example.through_cache(file, made.tokens[:, :CONTEXT])
    assert norm_error(found, expected[:, :CONTEXT]) < 0.02 < norm_error(expected, plain)  # a few lie at half a step
    row = np.zeros((3, LENGTH), np.int32)
    row[:, :7] = made.tokens[:3, :7]
    for i in range(7, 13):
        row[:, i] = simulated(row)[:, i - 1].argmax(-1)
    np.testing.assert_array_equal(file.generate(row[:, :7], 6), row[:, 7:13])
    cell, rng = IntegerCache(made.example.Decoder(made.small, CONTEXT), bits), np.random.default_rng(3)
    empty = cell.empty(made.example.empty_cache(made.small, CONTEXT))
    cache = [rng.integers(-112, 112, part.shape).astype(np.int8) for part in empty]
    cache[1::2] = [rng.uniform(0.01, 0.1, part.shape).astype(np.float32) for part in empty[1::2]]
    inputs = (made.tokens[:1, :1], np.full((1, 1), 9, np.int32), *cache)
    for one, other in zip(file.run(*inputs), forward(cell, inputs, graph=False), strict=True):
        assert one.dtype == other.dtype and norm_error(one.astype(np.float32), other.astype(np.float32)) < 1e-3


@pytest.mark.parametrize(
    ("tokens", "count", "sentence"),
    [
        (np.zeros((1, 3)), 2, r"must be integers \(n, length\), a text a row, but got float64 \(1, 3\)"),
        (np.zeros(3, np.int32), 2, r"must be integers .* but got int32 \(3,\)"),
        (np.zeros((1, 0), np.int32), 2, r"must be integers .* but got int32 \(1, 0\)"),
        ("abc", 2, "must be integers"),
        (np.zeros((1, 3), np.int32), 0, "count must be at least 1"),
        (np.zeros((1, 3), np.int32), 23, "has places for 24 tokens, but got 3 and is to add 23"),
        (np.zeros((1, 25), np.int32), 1, "has places for 24 tokens, but got 25"),
        ([[1, 2], [3]], 2, "must be integers .* but got rows of several lengths"),
        ([[1, -2]], 2, "must be integers .* none below 0, but got -2"),
        ([[1, WORDS]], 2, f"must be below {WORDS}, the words of the network, but got {WORDS}"),
    ],
)
def test_wrong_tokens_get_a_sentence(files: dict[str, Any], tokens: Any, count: int, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        files["step"].generate(tokens, count)


def test_tokens_of_few_bits_give_the_same(files: dict[str, Any]) -> None:
    def more_words(arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        return (np.pad(files["whole"].run(*arrays)[0] + 100, ((0, 0), (0, 0), (300, 0))),)

    wide = replace(files["whole"], _run=more_words)
    expected = wide.generate(np.full((1, 3), 5, np.int32), 1)
    assert expected.min() >= 300
    np.testing.assert_array_equal(wide.generate(np.full((1, 3), 5, np.uint8), 1), expected)


def test_other_files_get_a_sentence(made: Made, files: dict[str, Any]) -> None:
    prompt = made.tokens[:1, :3]
    with pytest.raises(ValueError, match=r"prefill fills a cache, but .* takes none"):
        files["whole"].generate(prompt, 2, prefill=files["four"])
    with pytest.raises(ValueError, match="prefill must be a network that load_deployed gives, but got str"):
        files["step"].generate(prompt, 2, prefill="four.onnx")
    with pytest.raises(ValueError, match=f"tokens must be below {WORDS}, the words"):
        files["whole"].generate(prompt + WORDS, 2)
    with pytest.raises(ValueError, match="has places for 64 tokens, but got 3 and is to add 63"):
        files["whole"].generate(prompt, 63)
    with pytest.raises(ValueError, match="prefill must take the cache of"):
        files["step"].generate(prompt, 2, prefill=replace(files["four"], inputs=files["four"].inputs[:-1]))
