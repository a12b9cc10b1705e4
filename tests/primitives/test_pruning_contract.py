"""What holds for everything that prunes units: apply, train with callbacks, convert."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autocomp.errors import NoEffectError
from autocomp.primitives import SCOP, ChannelPruner
from autocomp.primitives.applied import applied_to
from autocomp.primitives.convert import convert
from autocomp.primitives.export import norm_error
from autocomp.primitives.platform import execution_mode, forward, load_mindspore
from autocomp.primitives.realise import Realiser, parameters_of
from autocomp.primitives.refit import refitted
from autocomp.primitives.trace import trace
from autocomp.primitives.trained_pruning import KEPT, input_moments
from autocomp.search_spaces import SearchSpace
from tests.networks import NETWORKS, images, randomised

from .planted import planted_network

ms = load_mindspore()

import mindspore.dataset as ds  # noqa: E402
from mindspore import nn  # noqa: E402

FORMS: dict[str, Callable[..., Any]] = {
    "taylor": lambda **more: ChannelPruner("taylor", rounds=1, **{"flops": 0.6, **more}),
    "batchnorm-scale": lambda **more: ChannelPruner(
        "batchnorm_scale", **{"parameters": 0.6, "granularity": 4, "per_layer": True, **more}
    ),
    "scop": lambda **more: SCOP(steps=2, **{"flops": 0.6, **more}),
}
TRAINED = ("scop",)  # the others differ in their scores alone, and are pruned by hand
X, Y = images(64), np.random.default_rng(1).integers(0, 5, 64).astype(np.int32)


def loss_function() -> Any:
    return nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")


def train(net: Any, algorithm: Any, graph: bool = True) -> None:
    dataset = ds.NumpySlicesDataset((X, Y), ["image", "label"], shuffle=False).batch(32)
    optimizer = nn.Momentum(net.trainable_params(), 0.01, 0.9)
    with execution_mode(graph):
        ms.Model(net, loss_function(), optimizer).train(2, dataset, algorithm.callbacks(), dataset_sink_mode=False)


def values(net: Any) -> dict[str, np.ndarray]:
    return {p.name: p.asnumpy().copy() for p in net.get_parameters()}


@dataclass
class Pruned:
    algorithm: Any
    net: Any
    before: dict[str, np.ndarray]
    net_p: Any
    smaller: Any


@pytest.fixture(scope="module", params=list(FORMS))
def pruned(request: pytest.FixtureRequest) -> Pruned:
    net = randomised(NETWORKS["residual"]())
    before = values(net)
    algorithm = FORMS[request.param]()
    net_p = algorithm.apply(net, inputs=X[:1])
    if request.param in TRAINED:
        train(net_p, algorithm)
    else:
        algorithm.prune(net_p, [(X[:32], Y[:32]), (X[32:], Y[32:])], loss_function())
    return Pruned(algorithm, net, before, net_p, algorithm.convert(net_p))


def test_the_network_is_untouched(pruned: Pruned) -> None:
    after = values(pruned.net)
    assert list(after) == list(pruned.before)
    for name, value in pruned.before.items():
        np.testing.assert_array_equal(after[name], value)
    assert set(values(pruned.net_p)) == {*pruned.before, KEPT}
    assert [p.name for p in pruned.net_p.trainable_params()] == [p.name for p in pruned.net.trainable_params()]


def test_channels_are_really_gone_and_the_count_is_what_was_promised(pruned: Pruned) -> None:
    cut, whole = pruned.algorithm.cut(pruned.net_p), trace(pruned.net, (X[:1],))
    assert trace(pruned.smaller, (X[:1],)).macs == cut.macs < 0.9 * whole.macs
    assert sum(p.size for p in pruned.smaller.get_parameters()) == cut.parameters
    assert type(pruned.smaller) is type(pruned.net)
    assert {p.name for p in pruned.smaller.get_parameters()} == set(pruned.before)
    share = pruned.algorithm.share
    if share.flops is not None:
        assert cut.macs <= share.flops * whole.macs
    if share.parameters is not None:
        assert cut.parameters <= share.parameters * sum(value.size for value in pruned.before.values())


def test_the_smaller_network_computes_the_same(pruned: Pruned) -> None:
    """In graph mode, where net_p was trained in it, as in PyNative mode."""
    graph = pruned.algorithm.name == "scop"
    expected = forward(pruned.net_p, (X,), graph=graph)[0]
    np.testing.assert_allclose(forward(pruned.smaller, (X,), graph=False)[0], expected, rtol=1e-4, atol=1e-5)
    assert norm_error(forward(pruned.net, (X,), graph=False)[0], expected) > 1e-3


def test_the_checkpoint_loads_again(pruned: Pruned, tmp_path: Path) -> None:
    ms.save_checkpoint(pruned.net_p, str(tmp_path / "p.ckpt"))
    again = pruned.algorithm.apply(pruned.net, inputs=X[:1])
    missing, unread = ms.load_param_into_net(again, ms.load_checkpoint(str(tmp_path / "p.ckpt")))
    assert not missing and not unread
    smaller = values(pruned.algorithm.convert(again))
    for name, value in values(pruned.smaller).items():
        np.testing.assert_array_equal(smaller[name], value)


@pytest.mark.parametrize("pruned", ["scop"], indirect=True)
def test_the_exported_file_computes_the_same(pruned: Pruned, tmp_path: Path) -> None:
    ms.export(pruned.smaller, ms.Tensor(X[:4]), file_name=str(tmp_path / "d"), file_format="MINDIR")
    loaded = nn.GraphCell(ms.load(str(tmp_path / "d.mindir")))
    with execution_mode(graph=True):
        found = loaded(ms.Tensor(X[:4])).asnumpy()
    np.testing.assert_allclose(found, forward(pruned.smaller, (X[:4],))[0], rtol=1e-5, atol=1e-6)


def test_trains_in_pynative_mode_where_channels_are_joined() -> None:
    algorithm, net = FORMS["scop"](), randomised(NETWORKS["concatenating"]())
    net_p = algorithm.apply(net, inputs=X[:1])
    train(net_p, algorithm, graph=False)
    smaller = algorithm.convert(net_p)
    np.testing.assert_allclose(
        forward(smaller, (X,), graph=False)[0], forward(net_p, (X,), graph=False)[0], rtol=1e-4, atol=1e-5
    )
    cut = algorithm.cut(net_p)
    assert trace(smaller, (X[:1],)).macs == cut.macs <= 0.6 * trace(net, (X[:1],)).macs
    assert sum(p.size for p in smaller.get_parameters()) == cut.parameters


def test_what_the_kept_units_tell_of_the_pruned_ones_is_taken_in() -> None:
    """Half of the stem's channels are twice the other half, behind a ReLU: without them nothing is lost."""
    net = randomised(NETWORKS["residual"]())
    for parameter in (net.stem.weight, net.stem.bias):
        value = parameter.asnumpy().copy()
        value[8:] = 2 * value[:8]
        parameter.set_data(ms.Tensor(value))
    errors = {}
    for reconstruct in (False, True):
        algorithm = ChannelPruner("magnitude", keep_ratio=0.5, reconstruct=reconstruct)
        net_p = algorithm.apply(net, inputs=X[:1])
        group = applied_to(net_p).graph.group("stem")
        kept = np.ones(len(algorithm.cut(net_p).kept), bool)
        kept[group.start + 8 : group.stop] = False
        algorithm.keep(net_p, kept, [(X, Y)])
        errors[reconstruct] = norm_error(forward(net_p, (X,), graph=False)[0], forward(net, (X,), graph=False)[0])
    assert errors[True] < 0.01 and errors[False] > 0.1


def test_layers_are_fitted_to_what_they_gave_in_the_whole_network() -> None:
    """Beyond what reconstruction alone brings; on other images than those fitted on."""
    planted, errors = planted_network(), {}
    x, expected = planted.batches[3][0], forward(planted.net, (planted.batches[3][0],), graph=False)[0]
    algorithm = ChannelPruner("magnitude", keep_ratio=0.5)
    net_p = algorithm.apply(planted.net, inputs=X[:1])
    graph, parameters = applied_to(net_p).graph, parameters_of(net_p)
    kept = np.ones(graph.unit_count, bool)
    for name, useless in planted.useless.items():
        group = graph.group(name)
        useful = [unit for unit in range(group.units) if unit not in useless]
        kept[[group.start + unit for unit in useful[::3]]] = False
    images = [batch[:1] for batch in planted.batches[:3]]
    moments = input_moments(planted.net, graph, images)
    realisation = Realiser(SearchSpace(graph, ()), parameters, moments=moments).of(kept, {})
    for name, found in (("reconstructed", realisation), ("fitted", refitted(planted.net, graph, realisation, images))):
        smaller = convert(planted.net, graph, parameters, found, folds=False)
        errors[name] = norm_error(forward(smaller, (x,), graph=False)[0], expected)
    assert errors["fitted"] < 0.8 * errors["reconstructed"]


@pytest.mark.parametrize("form", ["taylor", "scop"])
def test_what_cannot_be_done_is_refused(form: str) -> None:
    algorithm = FORMS[form]()
    with pytest.raises(NoEffectError, match=f"{algorithm.name} found no channel group to cut: it has no nn.Conv2d"):
        algorithm.apply(nn.SequentialCell(nn.ReLU(), nn.MaxPool2d(2, 2)), inputs=X[:1])
    with pytest.raises(NoEffectError, match="found no channel group to cut: it is an output of the network"):
        algorithm.apply(nn.SequentialCell(nn.Conv2d(3, 4, 3)), inputs=X[:1])
    with pytest.raises(TypeError, match="must be a mindspore"):
        algorithm.apply("net")
    with pytest.raises(ValueError, match="did not come from apply"):
        algorithm.convert(nn.Dense(2, 2))
    with pytest.raises(ValueError, match=r"call apply\(net\) first"):
        FORMS[form]().callbacks()
    with pytest.raises(ValueError, match="has pruned nothing yet"):
        algorithm.convert(algorithm.apply(NETWORKS["concatenating"](), inputs=X[:1]))
