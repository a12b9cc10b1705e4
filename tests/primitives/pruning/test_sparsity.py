"""Masks of single weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autocomp.errors import NoEffectError
from autocomp.primitives import Sparsity
from autocomp.primitives.cells.compression_state import state_of
from autocomp.primitives.numerics.plan_compressor import parameters_of
from autocomp.primitives.pruning.sparsity import largest, two_of_four
from autocomp.primitives.tracing.platform import load_mindspore
from tests.networks import NETWORKS, randomised
from tests.primitives.contract import X, train

load_mindspore()

from mindspore import nn  # noqa: E402
from mindspore.train import Callback  # noqa: E402


@given(seed=st.integers(0, 1000), shape=st.sampled_from([(3, 8), (2, 4, 3, 3), (5, 12, 1, 1)]))
def test_two_of_four_are_the_largest(seed: int, shape: tuple[int, ...]) -> None:
    weight = np.abs(np.random.default_rng(seed).standard_normal(shape))
    kept = two_of_four(weight)
    for start in range(0, shape[1], 4):
        fours, stays = weight[:, start : start + 4], kept[:, start : start + 4]
        assert (stays.sum(1) == 2).all()
        assert (np.where(stays == 1, fours, np.inf).min(1) >= np.where(stays == 0, fours, 0).max(1)).all()


@given(seed=st.integers(0, 1000), share=st.floats(0.05, 0.95))
def test_the_largest_of_all(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    weights = [np.abs(rng.standard_normal(shape)) for shape in [(3, 8), (2, 4, 3, 3)]]
    kept = [mask == 1 for mask in largest(weights, share)]
    assert sum(int(mask.sum()) for mask in kept) == round(share * 96)
    gone = np.concatenate([weight[~mask] for weight, mask in zip(weights, kept, strict=True)])
    stays = np.concatenate([weight[mask] for weight, mask in zip(weights, kept, strict=True)])
    assert stays.min(initial=np.inf) >= gone.max(initial=0)


class Look(Callback):
    def __init__(self, algorithm: Sparsity, net_s: Any) -> None:
        super().__init__()
        self.algorithm, self.net_s = algorithm, net_s
        self.seen: list[float] = []

    def on_train_step_end(self, run_context: Any) -> None:
        zeros = self.algorithm.zeros(self.net_s)
        self.seen.append(zeros.zeros / zeros.elements)


@pytest.mark.parametrize(("pattern", "share"), [("2:4", None), ("unstructured", 0.8)])
def test_zeros_hold_while_the_network_trains(pattern: str, share: float | None) -> None:
    net = randomised(NETWORKS["residual"]())
    algorithm = Sparsity(pattern, share)
    net_s = algorithm.apply(net, inputs=X[:1])
    masks = {path: layer.weight_quantizer.mask.asnumpy() for path, layer in state_of(net_s).layers.items()}
    assert "stem" not in masks and "head" not in masks and len(masks) == 6
    train(net_s, algorithm.callbacks(), epochs=1, graph=False)
    before, after = parameters_of(net), parameters_of(algorithm.convert(net_s))
    assert list(after) == list(before)
    for path, kept in masks.items():
        weight = after[f"{path}.weight"]
        np.testing.assert_array_equal(weight != 0, kept == 1)
        assert not np.array_equal(weight, before[f"{path}.weight"] * kept)


def test_zeros_grow_by_the_cubic_schedule_and_stay() -> None:
    algorithm = Sparsity("unstructured", 0.8, ramp=0.5, first_last_layers=True)
    net_s = algorithm.apply(randomised(NETWORKS["concatenating"]()), inputs=X[:1])
    look = Look(algorithm, net_s)
    train(net_s, [*algorithm.callbacks(), look], batch=16)
    expected = [0.8 * (1 - (1 - min(step / 4, 1)) ** 3) for step in range(8)]
    np.testing.assert_allclose(look.seen, expected, atol=1e-3)
    train(net_s, [*algorithm.callbacks(), look], epochs=1, batch=16)
    np.testing.assert_allclose(look.seen[len(expected) :], 0.8, atol=1e-3)


def test_what_cannot_be_done_is_refused() -> None:
    with pytest.raises(ValueError, match="pattern must be '2:4' or 'unstructured', but got pattern='1:4'"):
        Sparsity("1:4")
    with pytest.raises(ValueError, match="share belongs to 'unstructured' and is needed there"):
        Sparsity("unstructured")
    with pytest.raises(ValueError, match="share belongs to 'unstructured'"):
        Sparsity("2:4", 0.5)
    with pytest.raises(ValueError, match=r"share must be in \(0, 1\)"):
        Sparsity("unstructured", 1.0)
    with pytest.raises(ValueError, match=r"ramp must be in \[0, 1\)"):
        Sparsity("unstructured", 0.5, ramp=1)
    with pytest.raises(NoEffectError, match=r"sparsity found no nn\.Conv2d and no nn\.Dense to mask by 2:4"):
        Sparsity().apply(nn.SequentialCell(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)), inputs=X[:1])
