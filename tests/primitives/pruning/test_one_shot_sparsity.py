"""2:4 sparsity by what layers read, in one forward pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from autocomp.primitives import SparseGPT, Sparsity, Wanda
from autocomp.primitives.cells.compression_state import state_of
from autocomp.primitives.export.files import norm_error
from autocomp.primitives.tracing.platform import forward
from tests.networks import NETWORKS, images, randomised
from tests.primitives.contract import X as IMAGES
from tests.primitives.contract import assert_untouched, train, values
from tests.primitives.quantization.small_llama import small_llama, tokens

X, OTHERS = tokens(24), tokens(16, seed=1)


def outputs(net: Any, x: np.ndarray = OTHERS) -> np.ndarray:
    return forward(net, (x,), graph=False)[0]


@pytest.fixture(scope="module")
def applied() -> tuple[Any, dict[str, np.ndarray], dict[str, Any]]:
    net = small_llama()
    before = values(net)
    made = {made.name: made(first_last_layers=True).apply(net, calibrate=X) for made in (Wanda, SparseGPT)}
    return net, before, made | {"sparsity": Sparsity(first_last_layers=True).apply(net, X[:1])}


def test_what_layers_read_makes_better_zeros(applied: tuple[Any, dict[str, np.ndarray], dict[str, Any]]) -> None:
    """On tokens that they did not see."""
    net, before, made = applied
    errors = {name: norm_error(outputs(net_s), outputs(net)) for name, net_s in made.items()}
    assert errors["sparse-gpt"] < 0.95 * errors["wanda"] and errors["wanda"] < 0.95 * errors["sparsity"]
    assert_untouched(net, before)


@pytest.mark.parametrize("made", [Wanda, SparseGPT])
def test_two_of_four_are_zero_and_the_converted_network_is_the_same(
    made: Any, applied: tuple[Any, dict[str, np.ndarray], dict[str, Any]]
) -> None:
    net, before, found = applied
    net_s, algorithm = found[made.name], made()
    sparse = algorithm.convert(net_s)
    assert type(sparse) is type(net)
    np.testing.assert_allclose(outputs(sparse), outputs(net_s), rtol=1e-5, atol=1e-5)
    layers = state_of(net_s).layers
    assert len(layers) == 14
    for path in layers:
        weight, own = values(sparse)[f"{path}.weight"], before[f"{path}.weight"]
        assert ((weight.reshape(-1, 4) != 0).sum(1) == 2).all()
        kept = weight != 0
        assert np.array_equal(weight[kept], own[kept]) == (made is Wanda)
    numbers = algorithm.zeros(net_s)
    assert numbers.zeros * 2 == numbers.elements


def test_wanda_weighs_by_norms_of_inputs() -> None:
    """One layer, by hand."""
    node = state_of(SparseGPT(True).apply(small_llama(), calibrate=X[:2])).graph
    layer = node.nodes[node.layers["blocks.0.gate"]]
    weight = np.array([[1.0, -2.0, 3.0, 0.5]], np.float32)
    x = np.array([[4.0, 1.0, 1.0, 0.0], [4.0, -1.0, 1.0, 0.0]], np.float32)
    np.testing.assert_array_equal(Wanda().sparse(layer, weight, x), [[1, 0, 3, 0]])


def test_convolutions_stay_sparse_while_they_train() -> None:
    algorithm, x = SparseGPT(), images(32)
    net_s = algorithm.apply(randomised(NETWORKS["residual"]()), calibrate=x)
    before = algorithm.zeros(net_s)
    train(net_s, algorithm.callbacks())
    sparse = algorithm.convert(net_s)
    assert algorithm.zeros(net_s) == before and before.zeros > 0
    for path in state_of(net_s).layers:
        fours = np.moveaxis(values(sparse)[f"{path}.weight"], 1, -1).reshape(-1, 4)
        assert ((fours != 0).sum(1) <= 2).all()
    assert np.isfinite(outputs(sparse, IMAGES)).all()
