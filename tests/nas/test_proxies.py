"""Zero-cost proxies: known values on small networks, and that nothing is changed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from autocomp import nas
from autocomp.nas.proxies import PROXIES
from autocomp.nas.proxy_scores import additive
from autocomp.primitives.tracing.platform import load_mindspore

from .declared_networks import FIRST, Declared

ms = load_mindspore()
nn = ms.nn
RNG = np.random.default_rng(0)
X = RNG.standard_normal((6, 1, 8, 8)).astype(np.float32)
Y = np.array([0, 1, 2, 0, 1, 2])


def dense(weight: list[list[float]], *more: Any) -> Any:
    made = nn.Dense(len(weight[0]), len(weight), has_bias=False)
    made.weight.set_data(ms.Tensor(np.array(weight, np.float32)))
    return nn.SequentialCell(made, *more)


def test_synflow_is_the_sum_over_paths() -> None:
    """Each layer's weights times their gradients add to the sum of all paths' products: (1 + 2) * 3 + (3 + 4) * 5."""
    net = dense([[1.0, -2.0], [3.0, 4.0]], nn.ReLU(), *dense([[-3.0, 5.0]]))
    assert np.isclose(nas.synflow(net, np.zeros((4, 2), np.float32)), np.log(2 * (9 + 35)))


def test_naswot_of_known_codes() -> None:
    """Two units: the samples have the codes 10, 01 and 11."""
    net = dense([[1.0, 0.0], [0.0, 1.0]], nn.ReLU())
    x = np.array([[1, -1], [-1, 1], [1, 1]], np.float32)
    kernel = np.array([[2, 0, 1], [0, 2, 1], [1, 1, 2]])
    assert np.isclose(nas.naswot(net, x), np.log(np.linalg.det(kernel)))


def test_naswot_of_samples_that_nothing_tells_apart() -> None:
    net = dense([[1.0, 1.0]], nn.ReLU())
    assert nas.naswot(net, np.ones((3, 2), np.float32)) == -np.inf


def test_gradient_norm_of_a_known_loss() -> None:
    """The gradient of the cross-entropy in a dense layer: (softmax - label)^T x, in the mean of the samples."""
    weight, x, y = [[0.5, -1.0], [1.0, 0.0]], np.array([[1, 2], [0, 1]], np.float32), np.array([0, 1])
    logits = x @ np.array(weight).T
    errors = np.exp(logits) / np.exp(logits).sum(1, keepdims=True) - np.eye(2)[y]
    assert np.isclose(nas.gradient_norm(dense(weight), x, y), np.linalg.norm(errors.T @ x / 2), rtol=1e-4)


def test_zen_score_does_not_see_the_scale_that_a_norm_takes_away() -> None:
    """The second network's convolution is followed by a BatchNorm, which takes its scale away; the score adds it."""
    plain, normed = nn.Conv2d(1, 4, 3), nn.SequentialCell(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
    big = np.zeros((64, 1, 8, 8), np.float32)
    found = [nas.zen_score(net, big, seed=3) for net in (nn.SequentialCell(plain), normed)]
    assert abs(found[0] - found[1]) < 0.2
    assert nas.zen_score(normed, big, seed=3) == found[1] != nas.zen_score(normed, big, seed=4)


@pytest.mark.parametrize("name", PROXIES)
def test_the_network_is_not_changed_and_more_of_it_promises_more(name: str) -> None:
    space = nas.NetworkSpace(Declared)
    small, large = space.network(FIRST), space.network({**FIRST, "one": "deep", "one.deep": 2, "two": 2, "width": 8})
    before, trains = [parameter.asnumpy().copy() for parameter in large.get_parameters()], large.training
    found = [PROXIES[name](net, X, Y) for net in (small, large)]
    assert found[0] < found[1]
    assert PROXIES[name](large, X, Y) == found[1]
    assert large.training == trains
    for parameter, old in zip(large.get_parameters(), before, strict=True):
        assert np.array_equal(parameter.asnumpy(), old)


def test_a_network_without_activation_cells_has_no_naswot() -> None:
    with pytest.raises(ValueError, match=r"^naswot needs activations that are cells"):
        nas.naswot(dense([[1.0, 1.0]]), np.ones((3, 2), np.float32))


def test_scores_are_the_effects_of_values() -> None:
    sizes = np.array([2, 3])
    vectors = np.stack(np.meshgrid(*map(np.arange, sizes)), -1).reshape(-1, 2).repeat(50, 0)
    targets = 1.0 * vectors[:, 0] - np.array([0.0, 2.0, 0.5])[vectors[:, 1]]
    first, second = additive(vectors, sizes, targets)
    assert np.allclose(first, [0, -1], atol=0.02) and np.allclose(second, [0, 2, 0.5], atol=0.03)
