"""Which parameters can take the scale of a layer's input; all in one network, which is traced once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from autocomp.primitives.numerics.plan_compressor import parameters_of
from autocomp.primitives.numerics.scale_takers import SharedInput, scaled_parameters, shared_inputs
from autocomp.primitives.tracing.platform import load_mindspore
from autocomp.primitives.tracing.tracer import trace

ms = load_mindspore()

from mindspore import Tensor, nn, ops  # noqa: E402


def vector() -> Any:
    return ms.Parameter(Tensor(np.ones(8, np.float32)))


class Roads(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        names = "first relu gelu normed added up gate down twice read_elsewhere reads_it tied1 tied2 once_more last"
        for name in names.split():
            setattr(self, name, nn.Dense(8, 8))
        self.norm, self.shift, self.gamma = nn.LayerNorm((8,)), vector(), vector()
        self.shift.name, self.gamma.name = "shift", "gamma"

    def construct(self, x: Any) -> Any:
        x = self.relu(ops.relu(self.first(x)))  # through a ReLU, to a dense layer
        x = self.gelu(ops.gelu(x))  # not through a GELU
        x = self.normed(self.norm(x))
        x = self.added(ops.tanh(x) * self.gamma + self.shift)  # to both parameters
        y = ops.tanh(x)
        x = self.down(ops.silu(self.gate(y)) * self.up(y))  # one of two factors; y itself has no taker
        x = self.twice(self.twice(x))  # runs twice: left alone
        y = self.read_elsewhere(x)
        x = self.reads_it(y) + y  # y is added as well
        x = self.tied1(x * self.gamma.reshape((1, 1, 8))) + self.tied2(ops.sigmoid(x) * self.gamma)  # gamma thrice
        y = self.once_more(x)
        return self.last(y), y


@pytest.fixture(scope="module")
def traced() -> tuple[Roads, Any, dict[str, SharedInput]]:
    net = Roads()
    graph = trace(net, (np.zeros((1, 3, 8), np.float32),))
    return net, graph, {layer: shared for shared in shared_inputs(graph) for layer in shared.layers}


@pytest.mark.parametrize(
    ("layer", "takers"),
    [
        ("first", None),
        ("relu", (("first.weight", 0), ("first.bias", 0))),
        ("gelu", None),
        ("normed", (("norm.gamma", 0), ("norm.beta", 0))),
        ("added", None),  # gamma is read elsewhere, too
        ("gate", None),
        ("down", (("up.weight", 0), ("up.bias", 0))),
        ("reads_it", None),
        ("tied1", None),
        ("tied2", None),
        ("last", None),  # the network returns what it reads
    ],
)
def test_takers(traced: tuple[Roads, Any, dict[str, SharedInput]], layer: str, takers: Any) -> None:
    assert traced[2][layer].takers == takers


def test_layers_that_read_one_tensor_share_a_scale(traced: tuple[Roads, Any, dict[str, SharedInput]]) -> None:
    assert traced[2]["gate"] is traced[2]["up"] and traced[2]["gate"].layers == ("gate", "up")
    assert "twice" not in traced[2]


def test_weights_are_multiplied_and_takers_divided(traced: tuple[Roads, Any, dict[str, SharedInput]]) -> None:
    net, graph, shared = traced
    before, scale = parameters_of(net), np.linspace(0.5, 2, 8).astype(np.float32)
    after = scaled_parameters(before, graph, {shared["relu"]: scale, shared["down"]: 2 * scale})
    assert set(after) == {"relu.weight", "first.weight", "first.bias", "down.weight", "up.weight", "up.bias"}
    np.testing.assert_allclose(after["relu.weight"], before["relu.weight"] * scale)
    np.testing.assert_allclose(after["first.weight"], before["first.weight"] / scale[:, None], rtol=1e-6)
    np.testing.assert_allclose(after["down.weight"], before["down.weight"] * 2 * scale)
