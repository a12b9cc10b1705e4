"""Rotated residual streams: a Llama with a tied head, a vision transformer, and networks that have none."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autocomp
from autocomp.errors import NoEffectError
from autocomp.primitives import Rotation
from autocomp.primitives.export.files import norm_error
from autocomp.primitives.numerics.rotations.matrices import (
    rotated,
    rotated_by_factors,
    rotation_factors,
    rotation_matrix,
)
from autocomp.primitives.tracing.platform import forward, load_mindspore
from autocomp.primitives.tracing.tracer import trace
from tests.networks import Residual, Tokens, images, randomised
from tests.networks import tokens as words
from tests.primitives.contract import assert_untouched, outputs_of_files, values

from .small_llama import OUTLIERS, SmallLlama, small_llama, tokens

ms = load_mindspore()

from mindspore import Parameter, Tensor, nn, ops  # noqa: E402

X, OTHERS = tokens(24), tokens(8, seed=1)
WIDTH, HEADS = 16, 2


class Vision(nn.Cell):
    """A vision transformer of one block: patches by a convolution, a class token, places, one dense layer without bias
    for queries, keys and values. pre_norm: else sums are normalised, as in BERT."""

    def __init__(self, pre_norm: bool = True) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, 4, 4, has_bias=True)
        self.first = Parameter(Tensor(np.zeros((1, 1, WIDTH), np.float32)), name="first")
        self.places = Parameter(Tensor(np.zeros((1, 10, WIDTH), np.float32)), name="places")
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm((WIDTH,)) for _ in range(3))
        self.qkv, self.mix = nn.Dense(WIDTH, 3 * WIDTH, has_bias=False), nn.Dense(WIDTH, WIDTH)
        self.widen, self.narrow, self.head = nn.Dense(WIDTH, 32), nn.Dense(32, WIDTH), nn.Dense(WIDTH, 5)
        self.pre_norm = pre_norm

    def attention(self, x: Any) -> Any:
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape((b, n, 3, HEADS, WIDTH // HEADS)).transpose((2, 0, 3, 1, 4))
        weights = ops.softmax(ops.matmul(q, k.swapaxes(-1, -2)) * 0.3, -1)
        return self.mix(ops.matmul(weights, v).transpose((0, 2, 1, 3)).reshape((b, n, WIDTH)))

    def mlp(self, x: Any) -> Any:
        return self.narrow(ops.gelu(self.widen(x)))

    def construct(self, x: Any) -> Any:
        x = self.patches(x)
        x = x.reshape((x.shape[0], WIDTH, -1)).transpose((0, 2, 1))
        x = ops.concat((ops.broadcast_to(self.first, (x.shape[0], 1, WIDTH)), x), 1) + self.places
        if not self.pre_norm:
            x = self.norm1(x + self.attention(x))
            return self.head(self.norm2(x + self.mlp(x))[:, 0])
        x = x + self.attention(self.norm1(x))
        x = x + self.mlp(self.norm2(x))
        return self.head(self.norm3(x)[:, 0])


class Adding(nn.Cell):
    def construct(self, x: Any) -> Any:
        x[..., 0] += 1.0
        return x


class Stream(SmallLlama):
    """It returns the residual stream itself."""

    def construct(self, tokens: Any) -> Any:
        return self.blocks[0](self.words(tokens))


def outputs(net: Any, x: np.ndarray) -> np.ndarray:
    return forward(net, (x,), graph=False)[0]


@cache
def llama() -> Any:
    return small_llama()


@cache
def rotated_llama() -> tuple[Rotation, Any]:
    rotation = Rotation()
    return rotation, rotation.equivalent(llama(), X)


class TestMatrices:
    @pytest.mark.parametrize("size", [2, 3, 8, 45, 64, 576])
    @pytest.mark.parametrize("keeps_mean", [False, True])
    def test_they_are_orthogonal_and_spread_a_channel(self, size: int, keeps_mean: bool) -> None:
        matrix = rotation_matrix(size, np.random.default_rng(0), keeps_mean)
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(size), atol=1e-12)
        if keeps_mean:
            np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-12)
        if size >= 45:
            assert np.abs(matrix).max() < (5 if keeps_mean else 1.5) / size**0.5

    @pytest.mark.parametrize(("size", "factors"), [(1536, [64, 8, 3]), (8, [8]), (5, [5]), (1, [1])])
    def test_factors_multiply_as_their_kronecker_product(self, size: int, factors: list[int]) -> None:
        found = rotation_factors(size, np.random.default_rng(0))
        assert [len(one) for one in found] == factors
        whole, values = np.eye(1), np.random.default_rng(1).standard_normal((2, size))
        for one in found:
            whole = np.kron(whole, one)
        np.testing.assert_allclose(rotated_by_factors(values, found), values @ whole.T, atol=1e-12)
        np.testing.assert_allclose(whole @ whole.T, np.eye(size), atol=1e-12)

    def test_blocks_of_an_axis_are_multiplied(self) -> None:
        matrix = rotation_matrix(4, np.random.default_rng(0))
        values = np.random.default_rng(1).standard_normal((3, 8, 2))
        found = rotated(values, matrix, 1)
        np.testing.assert_allclose(found[:, 4:], np.einsum("ij,njk->nik", matrix, values[:, 4:]))


class TestExactness:
    """In float the rotated network computes the same, in all forms."""

    def test_a_llama_with_a_tied_head(self, tmp_path: Path) -> None:
        before = values(llama())
        rotation, same = rotated_llama()
        expected = outputs(llama(), OTHERS)
        assert type(same) is type(llama()) and norm_error(outputs(same, OTHERS), expected) < 1e-5
        for found in outputs_of_files(same, OTHERS, tmp_path):
            assert norm_error(found, expected) < 1e-5
        assert_untouched(llama(), before)
        assert [axes.block for axes in rotation.rotated] == [32, 8, 8] and not rotation.refused
        after = values(same)
        assert set(after) - set(before) == {"norm.1.matrix"}, "the head stays tied"
        assert all((after[name] == 1).all() for name in after if name.endswith("gamma"))
        assert not any(np.array_equal(after[name], before[name]) for name in before)

    @pytest.mark.parametrize(("make", "x"), [(Vision, images(6)), (Tokens, words(6))])
    def test_networks_with_layer_norms(self, make: Callable[[], Any], x: np.ndarray, tmp_path: Path) -> None:
        """Their rotation keeps the mean over the channels. A layer without bias cannot take in a norm's shift."""
        net, rotation = randomised(make()), Rotation(seed=3)
        same = rotation.equivalent(net, x)
        expected = outputs(net, x)
        for found in (outputs(same, x), *outputs_of_files(same, x, tmp_path)):
            assert norm_error(found, expected) < 1e-5
        assert [(axes.block, axes.keeps_mean) for axes in rotation.rotated] == [(16, True), (8, False)]
        new = set(values(same)) - set(values(net))
        assert new == ({"norm1.1.matrix", "norm1.1.shift"} if make is Vision else set())

    def test_cells_of_a_class_keep_their_own_matrices(self, tmp_path: Path) -> None:
        """MindSpore took those of the first one for all, once it had compiled what adds to a part of a tensor."""
        trace(Adding(), (np.zeros((1, 4), np.float32),))
        net, rotation = small_llama(), Rotation(heads=False, online=True, seed=2)
        turned, expected = rotation.equivalent(net, X), outputs(net, OTHERS)
        for found in outputs_of_files(turned, OTHERS, tmp_path):
            assert norm_error(found, expected) < 1e-5

    def test_another_seed_and_narrowing_layers_turned_online(self, tmp_path: Path) -> None:
        (_, same), rotation = rotated_llama(), Rotation(heads=False, online=True, seed=1)
        other, expected = rotation.equivalent(llama(), X), outputs(llama(), OTHERS)
        for found in (outputs(other, OTHERS), *outputs_of_files(other, OTHERS, tmp_path)):
            assert norm_error(found, expected) < 1e-5
        layers = [f"blocks.{i}.{name}" for i in range(2) for name in ("attention.o", "down")]
        assert len(rotation.rotated) == 1 and sorted(rotation.turned) == layers
        name = "blocks.0.down.weight"
        assert not np.allclose(values(other)[name], values(same)[name], atol=0.01)


def test_outliers_are_spread_over_all_channels() -> None:
    net = small_llama()
    table = net.words.embedding_table.asnumpy().copy()
    table[:, list(OUTLIERS)] *= 30
    net.words.embedding_table.set_data(Tensor(table))
    same = Rotation().equivalent(net, X)
    peaks = [np.abs(one.words.embedding_table.asnumpy()) for one in (net, same)]
    before, after = (float(np.median(some.max(1) / np.sqrt((some**2).mean(1)))) for some in peaks)
    assert after < 0.7 * before


def test_a_search_takes_the_rotated_network(tmp_path: Path) -> None:
    x = words(16)
    turned = Rotation().equivalent(randomised(Tokens()), x)
    front = autocomp.search(turned, "size<80%", "cpu", x, primitives="rtn", trials=2, progress=False)
    assert front.pick().plan and front.pick().export(tmp_path / "net.onnx").max_relative_error < 0.05


@pytest.mark.parametrize(
    ("net", "x", "reason"),
    [
        (lambda: Vision(pre_norm=False), images(2), r"(normalises the stream itself|with its gains).*\(pre-norm\)"),
        (lambda: Stream(), X, "the network returns the output of"),
        (Residual, images(2), "no LayerNorm and no RMSNorm reads it"),
    ],
)  # fmt: skip
def test_what_cannot_be_rotated_is_refused_in_a_sentence(net: Callable[[], Any], x: np.ndarray, reason: str) -> None:
    with pytest.raises(NoEffectError, match=f"^rotation found no residual stream that it can rotate: .*({reason})"):
        Rotation().equivalent(net(), x)
