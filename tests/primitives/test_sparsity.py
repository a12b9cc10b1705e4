"""Masks of single weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autocomp.errors import NoEffectError
from autocomp.primitives import Sparsity
from autocomp.primitives.applied import applied_to
from autocomp.primitives.platform import execution_mode, forward, load_mindspore
from autocomp.primitives.sparsity import largest, two_of_four
from tests.networks import NETWORKS, images, randomised

ms = load_mindspore()

import mindspore.dataset as ds  # noqa: E402
from mindspore import nn  # noqa: E402
from mindspore.train import Callback  # noqa: E402

X, Y = images(64), np.random.default_rng(1).integers(0, 5, 64).astype(np.int32)


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


def train(net: Any, callbacks: list[Any], epochs: int = 2, graph: bool = True) -> None:
    dataset = ds.NumpySlicesDataset((X, Y), ["image", "label"], shuffle=False).batch(16)
    loss = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    with execution_mode(graph):
        model = ms.Model(net, loss, nn.Momentum(net.trainable_params(), 0.01, 0.9))
        model.train(epochs, dataset, callbacks, dataset_sink_mode=False)


class Look(Callback):
    def __init__(self, algorithm: Sparsity, net_s: Any) -> None:
        super().__init__()
        self.algorithm, self.net_s = algorithm, net_s
        self.seen: list[float] = []

    def on_train_step_end(self, run_context: Any) -> None:
        zeros = self.algorithm.zeros(self.net_s)
        self.seen.append(zeros.zeros / zeros.elements)


@pytest.mark.parametrize(("pattern", "share", "graph"), [("2:4", None, True), ("unstructured", 0.8, False)])
def test_zeros_hold_while_the_network_trains(pattern: str, share: float | None, graph: bool, tmp_path: Path) -> None:
    net = randomised(NETWORKS["residual"]())
    before = {p.name: p.asnumpy().copy() for p in net.get_parameters()}
    algorithm = Sparsity(pattern, share)
    net_s = algorithm.apply(net, inputs=X[:1])
    masks = {path: layer.weight_quantizer.mask.asnumpy() for path, layer in applied_to(net_s).layers.items()}
    assert "stem" not in masks and "head" not in masks and len(masks) == 6
    train(net_s, algorithm.callbacks(), epochs=1, graph=graph)
    sparse = algorithm.convert(net_s)
    np.testing.assert_allclose(
        forward(sparse, (X,), graph=False)[0], forward(net_s, (X,), graph=False)[0], rtol=1e-5, atol=1e-6
    )
    after = {p.name: p.asnumpy() for p in sparse.get_parameters()}
    assert list(after) == list(before)
    for path, kept in masks.items():
        weight = after[f"{path}.weight"]
        np.testing.assert_array_equal(weight != 0, kept == 1)
        assert not np.array_equal(weight, before[f"{path}.weight"] * kept)
    found = algorithm.zeros(net_s)
    assert found.zeros == sum(int((after[f"{path}.weight"] == 0).sum()) for path in masks)
    assert found.zeros / found.elements == pytest.approx(share or 0.5, abs=1e-3)
    for name, value in before.items():
        np.testing.assert_array_equal({p.name: p for p in net.get_parameters()}[name].asnumpy(), value)
    ms.save_checkpoint(net_s, str(tmp_path / "s.ckpt"))
    again = algorithm.apply(net, inputs=X[:1])
    assert ms.load_param_into_net(again, ms.load_checkpoint(str(tmp_path / "s.ckpt"))) == ([], [])
    for parameter in algorithm.convert(again).get_parameters():
        np.testing.assert_array_equal(parameter.asnumpy(), after[parameter.name])


def test_zeros_grow_by_the_cubic_schedule() -> None:
    algorithm = Sparsity("unstructured", 0.8, ramp=0.5, ends=True)
    net_s = algorithm.apply(randomised(NETWORKS["concatenating"]()), inputs=X[:1])
    look = Look(algorithm, net_s)
    train(net_s, [*algorithm.callbacks(), look])
    expected = [0.8 * (1 - (1 - min(step / 4, 1)) ** 3) for step in range(8)]
    np.testing.assert_allclose(look.seen, expected, atol=1e-3)


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
    with pytest.raises(ValueError, match=r"call apply\(net\) first"):
        Sparsity().callbacks()
    with pytest.raises(ValueError, match="did not come from apply"):
        Sparsity().convert(nn.Dense(2, 2))
    with pytest.raises(TypeError, match="must be a mindspore"):
        Sparsity().apply("net")
