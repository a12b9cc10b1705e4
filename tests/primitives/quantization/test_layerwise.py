"""What holds for GPTQ, AWQ, SmoothQuant, outlier suppression and rotation: on a Llama, a perceptron and a CNN."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autocomp
from autocomp.errors import NoEffectError
from autocomp.primitives import AWQ, GPTQ, RTN, OutlierSuppression, Rotation, SmoothQuant
from autocomp.primitives.cells.compression_state import state_of
from autocomp.primitives.cells.conversion import converted
from autocomp.primitives.export.files import norm_error
from autocomp.primitives.numerics.scaled_inputs import rounded_rows
from autocomp.primitives.tracing.platform import forward, load_mindspore
from tests.networks import NETWORKS, images, randomised
from tests.primitives.contract import assert_untouched, values

from .small_llama import small_llama, tokens

ms = load_mindspore()

from mindspore import nn  # noqa: E402

X, OTHERS = tokens(24), tokens(16, seed=1)
FORMS: dict[str, Callable[[], Any]] = {
    "gptq": GPTQ,
    "gptq in groups": lambda: GPTQ(group_size=8, symmetric_weights=False),
    "awq in groups": lambda: AWQ(group_size=8),
    "smooth": SmoothQuant,
    "outliers": OutlierSuppression,
    "rotation": lambda: Rotation(weight_bits=8, rounding="nearest", online=True),
}
ROUNDED_TO_NEAREST: dict[str, Callable[[], Any]] = {
    "gptq": lambda: RTN(4, 32),
    "gptq in groups": lambda: RTN(4, 32, group_size=8, symmetric_weights=False),
    "awq in groups": lambda: RTN(4, 32, group_size=8),
    "smooth": RTN,
    "outliers": RTN,
    "rotation": RTN,
}


def outputs(net: Any, x: np.ndarray = OTHERS) -> np.ndarray:
    return forward(net, (x,), graph=False)[0]


class Perceptron(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.one, self.two, self.three = (
            nn.LayerNorm((12,)),
            nn.Dense(12, 16),
            nn.Dense(16, 16),
            nn.Dense(16, 4),
        )

    def construct(self, x: Any) -> Any:
        return self.three(ms.ops.tanh(self.two(ms.ops.relu(self.one(self.norm(x))))))


@cache
def llama() -> Any:
    return small_llama()


@dataclass
class Applied:
    name: str
    algorithm: Any
    before: dict[str, np.ndarray]
    net_q: Any


@pytest.fixture(scope="module", params=list(FORMS))
def applied(request: pytest.FixtureRequest) -> Applied:
    algorithm, before = FORMS[request.param](), values(llama())
    return Applied(request.param, algorithm, before, algorithm.apply(llama(), calibrate=X))


def test_the_network_is_untouched(applied: Applied) -> None:
    assert_untouched(llama(), applied.before)


def test_it_errs_less_than_rounding_to_nearest(applied: Applied) -> None:
    """On tokens that it did not see."""
    expected = outputs(llama())
    nearest = ROUNDED_TO_NEAREST[applied.name]().apply(llama(), calibrate=X)
    assert norm_error(outputs(applied.net_q), expected) < 0.95 * norm_error(outputs(nearest), expected)


def test_what_is_stored_is_what_was_rounded(applied: Applied) -> None:
    deployed = applied.algorithm.convert(applied.net_q)
    assert norm_error(outputs(deployed), outputs(applied.net_q)) < 1e-3
    stored = [p for p in deployed.get_parameters() if p.name.endswith("weight.weight") and p.asnumpy().dtype == np.int8]
    assert len(stored) == len(state_of(applied.net_q).layers) == 14


@pytest.mark.parametrize("applied", ["gptq", "smooth"], indirect=True)
def test_another_plan_begins_from_the_float_weights(applied: Applied) -> None:
    """Its names are those of the user's network, also where a product stands before a layer."""
    before, expected = values(applied.net_q), outputs(llama())
    layers = [
        name.removesuffix(".weight") for name in values(llama()) if name.startswith("blocks.") and "norm" not in name
    ]
    applied.algorithm.set_plan(applied.net_q, {f"format/{layer}": "w2" for layer in layers})
    coarse = norm_error(outputs(applied.net_q), expected)
    applied.algorithm.set_plan(applied.net_q, {})
    assert norm_error(outputs(applied.net_q), expected) < 1e-5 < 0.1 < coarse
    applied.algorithm.set_plan(applied.net_q)
    for name, value in values(applied.net_q).items():
        np.testing.assert_array_equal(value, before[name])
    with pytest.raises(ValueError, match="'format/<layer>', but got 'format/nowhere'"):
        applied.algorithm.set_plan(applied.net_q, {"format/nowhere": "w8"})
    applied.algorithm.set_plan(applied.net_q)


@pytest.mark.parametrize(
    "make",
    [
        *(SmoothQuant, AWQ, lambda: SmoothQuant(alpha=1.0), lambda: AWQ(ratio=0.8)),
        *(OutlierSuppression, lambda: OutlierSuppression(threshold=0.1)),
    ],
)
@pytest.mark.parametrize("made", ["llama", "perceptron"])
def test_in_float_nothing_changes(make: Callable[[], Any], made: str) -> None:
    x = OTHERS if made == "llama" else np.random.default_rng(0).standard_normal((40, 12)).astype(np.float32)
    net = llama() if made == "llama" else randomised(Perceptron())
    before, algorithm = values(net), make()
    same = algorithm.equivalent(net, calibrate=x)
    assert norm_error(outputs(same, x), outputs(net, x)) < 1e-5
    assert type(same) is type(net) and len(algorithm.exponents) == (14 if made == "llama" else 3)
    after = values(same)
    moved = [name for name, value in before.items() if not np.array_equal(after[name], value)]
    assert any("weight" in name for name in moved) and any("gamma" in name for name in moved)
    assert_untouched(net, before)


def test_products_stand_only_where_nothing_takes_the_scale() -> None:
    same = SmoothQuant(alpha=0.5).equivalent(llama(), calibrate=X)
    assert {name for name in values(same) if name.endswith("factor")} == {
        f"blocks.{i}.attention.o.0.factor" for i in range(2)
    }


def test_each_token_has_a_range_of_its_own() -> None:
    smooth, expected = SmoothQuant(weight_bits=32, activation_bits=4, alpha=0.5, dynamic=True), outputs(llama())
    net_q = smooth.apply(llama(), calibrate=X)
    static = SmoothQuant(weight_bits=32, activation_bits=4, alpha=0.5).apply(llama(), calibrate=X)
    assert norm_error(outputs(net_q), expected) < 0.8 * norm_error(outputs(static), expected)
    deployed = smooth.convert(net_q)
    np.testing.assert_allclose(outputs(deployed), outputs(net_q), rtol=1e-4, atol=1e-4)
    assert "blocks.0.gate.1.weight" in values(deployed) and converted(deployed) is None
    rows = np.random.default_rng(0).standard_normal((5, 7, 8)).astype(np.float32)
    rounding = state_of(net_q).layers["blocks.0.gate"].input_quantizer
    found = forward(rounding, (rows,), graph=False)[0]
    np.testing.assert_allclose(found, rounded_rows(rows.reshape(35, 8), 4).reshape(rows.shape), atol=1e-6)


def test_each_layer_sees_what_the_rounded_ones_before_it_compute() -> None:
    seen: dict[str, np.ndarray] = {}

    class Listening(GPTQ):
        def rounded(self, node: Any, weight: np.ndarray, bits: int, x: np.ndarray) -> Any:
            seen[str(node.layer)] = x
            return super().rounded(node, weight, bits, x)

    net = Perceptron()
    x = np.random.default_rng(0).standard_normal((64, 12)).astype(np.float32)
    net_q = Listening(weight_bits=2).apply(net, calibrate=x)
    rounded = net_q.one.weight.asnumpy()
    assert len(np.unique(np.abs(rounded[0]).round(5))) <= 2
    expected = np.maximum(seen["one"] @ rounded.T + net.one.bias.asnumpy(), 0)
    np.testing.assert_allclose(seen["two"], expected, atol=1e-5)
    assert list(seen) == ["one", "two", "three"]


def test_convolutions_are_rounded_by_gptq_too() -> None:
    net, x = randomised(NETWORKS["depthwise"]()), images(32)
    expected = outputs(net, x)
    errors = [
        norm_error(outputs(algorithm.apply(net, calibrate=x), x), expected)
        for algorithm in (GPTQ(3), GPTQ(3, group_size=8, activation_order=False), RTN(3, 32))
    ]
    assert max(errors[:2]) < 0.8 * errors[2]


def test_the_exported_file_computes_the_same(tmp_path: Path) -> None:
    smooth = SmoothQuant(weight_bits=4)
    deployed = smooth.convert(smooth.apply(llama(), calibrate=X))
    report = autocomp.export(deployed, tmp_path / "llama.mindir", OTHERS)
    assert report.max_relative_error < 1e-3


@pytest.mark.parametrize("make", [GPTQ, AWQ, SmoothQuant])
def test_they_ask_for_samples(make: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=r"needs samples of layers' inputs"):
        make().apply(Perceptron(), inputs=(4, 12))


def test_a_network_without_dense_layers_is_refused() -> None:
    with pytest.raises(NoEffectError, match=r"smooth-quant found no nn\.Dense that runs once"):
        SmoothQuant().apply(nn.SequentialCell(nn.Conv2d(3, 4, 3)), calibrate=images(2))
