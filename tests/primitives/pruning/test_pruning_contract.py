"""What holds for everything that prunes, masks or replaces: apply, train with callbacks, convert."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autocomp.errors import NoEffectError
from autocomp.primitives import SCOP, ChannelPruner, Ghost, HeadPruning, LowRank, Separable, Sparsity, UniPruning
from autocomp.primitives.export.files import norm_error
from autocomp.primitives.pruning.attention import open_attention
from autocomp.primitives.pruning.trained_pruning import TrainedPruning
from autocomp.primitives.replacement.replacing import Replacing
from autocomp.primitives.tracing.platform import forward, load_mindspore
from autocomp.primitives.tracing.tracer import trace
from tests.networks import NETWORKS, Encoder, randomised
from tests.primitives.contract import X, Y, assert_untouched, loss_function, outputs_of_files, train, values
from tests.primitives.heads import Heads

ms = load_mindspore()

from mindspore import nn  # noqa: E402


@dataclass(frozen=True)
class Form:
    """nothing: what is said of a network without layers. other: a second network, on which it trains in PyNative mode.
    by_hand: scored and pruned without a training, as another form trains alike, or, unipruning, in tests of its own.
    adds: parameters that it trains with beside the network's own."""

    make: Callable[[], Any]
    nothing: str
    network: Callable[[], Any] = NETWORKS["residual"]
    other: Callable[[], Any] = NETWORKS["concatenating"]
    by_hand: bool = False
    adds: tuple[str, ...] = ("kept_units",)

    def apply(self, algorithm: Any, net: Any) -> Any:
        return algorithm.apply(net, **({"calibrate": X} if isinstance(algorithm, Replacing) else {"inputs": X[:1]}))


UNCUT, UNMASKED = "found no channel group to cut: it has no nn.Conv2d", r"found no nn\.Conv2d and no nn\.Dense to mask"
DEAR, HEADLESS = "found no layer that is cheaper for being replaced", "found no heads to remove: it has no attention"
GATES = ("kept_units", "log_alpha", "noise", "strength", "on")
FORMS = {
    "taylor": Form(lambda: ChannelPruner("taylor", flops=0.6, rounds=1), UNCUT, by_hand=True),
    "batchnorm-scale": Form(
        lambda: ChannelPruner("batchnorm_scale", parameters=0.6, channel_divisor=4, per_layer=True), UNCUT, by_hand=True
    ),
    "scop": Form(lambda: SCOP(flops=0.6, steps=2), UNCUT),
    "unipruning": Form(lambda: UniPruning(parameters=0.6, channel_divisor=4), UNCUT, by_hand=True),
    "heads": Form(lambda: HeadPruning(keep_ratio=0.5), HEADLESS, Encoder, Heads, adds=GATES),
    "2:4": Form(lambda: Sparsity("2:4"), UNMASKED, adds=("mask",)),
    "unstructured": Form(lambda: Sparsity("unstructured", 0.8, ramp=0.5), UNMASKED, adds=("mask",)),
    "low-rank": Form(lambda: LowRank(macs=0.6), DEAR, adds=("weight", "bias")),
    "ghost": Form(lambda: Ghost(macs=0.7), DEAR, adds=("weight",)),
    "separable": Form(lambda: Separable(macs=0.6), DEAR, adds=("weight",)),
}
RESHAPING = [name for name in FORMS if name not in ("2:4", "unstructured")]


@dataclass
class Compressed:
    form: Form
    algorithm: Any
    net: Any
    before: dict[str, np.ndarray]
    net_a: Any
    smaller: Any


@pytest.fixture(scope="module", params=[name for name in FORMS if name != "unstructured"])  # masked as 2:4 is
def compressed(request: pytest.FixtureRequest) -> Compressed:
    """Trained in graph mode; the tests below run it in both."""
    form = FORMS[request.param]
    algorithm, net = form.make(), randomised(form.network())
    before, net_a = values(net), form.apply(algorithm, net)
    if form.by_hand:
        algorithm.prune(net_a, [(X[:32], Y[:32]), (X[32:], Y[32:])], loss_function())
    else:
        train(net_a, algorithm.callbacks())
    return Compressed(form, algorithm, net, before, net_a, algorithm.convert(net_a))


def test_the_network_is_untouched(compressed: Compressed) -> None:
    assert_untouched(compressed.net, compressed.before)
    added = set(values(compressed.net_a)) - set(values(open_attention(compressed.net)))
    assert added and {name.rpartition(".")[2] for name in added} <= set(compressed.form.adds)


def test_it_computes_the_same_in_both_modes_and_converted(compressed: Compressed) -> None:
    expected = forward(compressed.net_a, (X,), graph=not compressed.form.by_hand)[0]
    for net in (compressed.net_a, compressed.smaller):
        np.testing.assert_allclose(forward(net, (X,), graph=False)[0], expected, rtol=1e-4, atol=1e-5)
    whole = forward(compressed.net, (X,), graph=False)[0]
    assert whole.shape == expected.shape and norm_error(whole, expected) > 1e-3
    assert type(compressed.smaller) is type(compressed.net) and not compressed.smaller.training


@pytest.mark.parametrize("compressed", RESHAPING, indirect=True)
def test_it_is_really_smaller_and_as_small_as_promised(compressed: Compressed) -> None:
    algorithm, whole = compressed.algorithm, trace(open_attention(compressed.net), (X[:1],)).macs
    elements = sum(value.size for value in compressed.before.values())
    promised = (algorithm.cut if isinstance(algorithm, TrainedPruning) else algorithm.size)(compressed.net_a)
    assert trace(compressed.smaller, (X[:1],)).macs == promised.macs < 0.9 * whole
    assert sum(p.size for p in compressed.smaller.get_parameters()) == promised.parameters < elements
    asked = algorithm.share if isinstance(algorithm, TrainedPruning) else algorithm
    assert promised.macs <= (getattr(asked, "flops", None) or getattr(asked, "macs", None) or 1) * whole
    assert promised.parameters <= (getattr(asked, "parameters", None) or 1) * elements


@pytest.mark.parametrize("compressed", ["2:4"], indirect=True)
def test_zeros_are_as_many_as_promised(compressed: Compressed) -> None:
    found, after = compressed.algorithm.zeros(compressed.net_a), values(compressed.smaller)
    assert {name: value.shape for name, value in after.items()} == {
        name: value.shape for name, value in compressed.before.items()
    }
    assert found.zeros == sum(int((value == 0).sum()) for name, value in after.items() if name.endswith("weight"))
    assert 2 * found.zeros == found.elements


def test_the_checkpoint_loads_again(compressed: Compressed, tmp_path: Path) -> None:
    ms.save_checkpoint(compressed.net_a, str(tmp_path / "a.ckpt"))
    again = compressed.form.apply(compressed.algorithm, compressed.net)
    assert ms.load_param_into_net(again, ms.load_checkpoint(str(tmp_path / "a.ckpt"))) == ([], [])
    smaller = values(compressed.algorithm.convert(again))
    for name, value in values(compressed.smaller).items():
        np.testing.assert_array_equal(smaller[name], value)


@pytest.mark.parametrize("compressed", ["scop", "heads", "low-rank", "ghost", "separable"], indirect=True)
def test_its_files_compute_the_same(compressed: Compressed, tmp_path: Path) -> None:
    expected = forward(compressed.smaller, (X[:4],), graph=False)[0]
    for found in outputs_of_files(compressed.smaller, X[:4], tmp_path):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["scop", "heads", "unstructured"])
def test_before_anything_is_chosen_it_is_the_identity(name: str) -> None:
    """As of all that prunes units. 2:4 masks at once; for full ranks see test_low_rank.py; Ghost keeps no layer."""
    net = randomised(FORMS[name].other())
    net_a = FORMS[name].apply(FORMS[name].make(), net)
    np.testing.assert_allclose(forward(net_a, (X,), graph=False)[0], forward(net, (X,), graph=False)[0], atol=1e-5)


@pytest.mark.parametrize("name", ["scop", "heads", "unstructured"])
def test_the_same_seed_gives_the_same_result_in_pynative_mode(name: str) -> None:
    """But for the last bits, which that mode does not hold on the CPU. Scop and head pruning draw random numbers, the
    others none."""
    form, found = FORMS[name], []
    for _ in range(2):
        algorithm = form.make()
        net_a = form.apply(algorithm, randomised(form.other()))
        train(net_a, algorithm.callbacks(), epochs=1, graph=False)
        found.append(forward(algorithm.convert(net_a), (X,), graph=False)[0])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(forward(net_a, (X,), graph=False)[0], found[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FORMS)
def test_what_cannot_be_done_is_refused(name: str) -> None:
    form, algorithm = FORMS[name], FORMS[name].make()
    with pytest.raises(NoEffectError, match=f"{algorithm.name} {form.nothing}"):
        algorithm.apply(nn.SequentialCell(nn.ReLU(), nn.MaxPool2d(2, 2)), inputs=X[:1])
    with pytest.raises(TypeError, match="must be a mindspore"):
        algorithm.apply("net")
    with pytest.raises(ValueError, match="did not come from apply"):
        algorithm.convert(nn.Dense(2, 2))
    with pytest.raises(
        ValueError, match=rf"{algorithm.name}\.callbacks\(\) belongs to a network: call apply\(net\) first"
    ):
        form.make().callbacks()
