"""What holds for every quantizer that trains: apply, train with callbacks, convert."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autocomp.errors import NoEffectError
from autocomp.primitives import LSQ, PACT, RTN, SLB, AdaRound, SimQAT
from autocomp.primitives.cells.compression_state import state_of
from autocomp.primitives.export.files import norm_error
from autocomp.primitives.numerics.bit_packing import packed_bytes
from autocomp.primitives.numerics.calibrators import fit_range
from autocomp.primitives.tracing.platform import execution_mode, forward, load_mindspore
from autocomp.search_spaces import FLOAT_BITS
from tests.conftest import Twice
from tests.networks import NETWORKS, Small, randomised
from tests.primitives.adversarial import Upsampler
from tests.primitives.compilations import counted
from tests.primitives.contract import X, Y, assert_untouched, loss_function, train, values

ms = load_mindspore()

import mindspore.dataset as ds  # noqa: E402
from mindspore import nn  # noqa: E402
from mindspore.train import Callback  # noqa: E402

FORMS: dict[str, Callable[..., Any]] = {
    "simqat": lambda **more: SimQAT(**{"weight_bits": 4, "activation_bits": 8, **more}),
    "simqat-tensor": lambda **more: SimQAT(
        **{
            "weight_bits": 4,
            "activation_bits": 8,
            "per_channel": False,
            "symmetric": True,
            "observer": "minmax",
            **more,
        }
    ),
    "lsq": lambda **more: LSQ(**{"weight_bits": 3, "activation_bits": 8, **more}),
    "pact": lambda **more: PACT(**{"weight_bits": 4, "activation_bits": 8, **more}),
    "slb": lambda **more: SLB(**{"weight_bits": 2, "activation_bits": 8, **more}),
}


@dataclass
class Trained:
    algorithm: Any
    net: Any
    before: dict[str, np.ndarray]
    net_q: Any
    untrained: dict[str, np.ndarray]
    deployed: Any


@pytest.fixture(scope="module", params=list(FORMS))
def trained(request: pytest.FixtureRequest) -> Trained:
    """On the residual network; the others are trained in one test below."""
    net = randomised(NETWORKS["residual"]())
    before = values(net)
    algorithm = FORMS[request.param]()
    net_q = algorithm.apply(net, inputs=X[:1])
    untrained = values(net_q)
    train(net_q, algorithm.callbacks())
    return Trained(algorithm, net, before, net_q, untrained, algorithm.convert(net_q))


def test_the_network_is_untouched(trained: Trained) -> None:
    assert_untouched(trained.net, trained.before)
    assert not any("quantizer" in name for name, _ in trained.net.cells_and_names())


def test_training_moves_every_weight_and_keeps_every_name(trained: Trained) -> None:
    after = values(trained.net_q)
    assert set(trained.before) <= set(after)
    layers = state_of(trained.net_q).layers
    moved = [name for name in after if not np.array_equal(after[name], trained.untrained[name])]
    for layer in layers.values():
        own = {p.name for p in layer.get_parameters() if p.requires_grad}
        assert own & set(moved), layer.weight.name


def test_ranges_were_calibrated_before_training(trained: Trained) -> None:
    applied = state_of(trained.net_q)
    assert applied.calibrated
    quantizers = [layer.input_quantizer.quantizer() for layer in applied.layers.values()]
    assert all(quantizer is not None and 1e-6 < quantizer.scale < 10 for quantizer in quantizers)


def test_shapes_are_kept_and_the_deployed_network_computes_the_same(trained: Trained) -> None:
    expected = forward(trained.net_q, (X,), graph=False)[0]
    assert expected.shape == forward(trained.net, (X,), graph=False)[0].shape
    found = forward(trained.deployed, (X,), graph=False)[0]
    assert norm_error(found, expected) < 0.05  # numbers at the half of a step: see test_agreement.py
    assert norm_error(forward(trained.net, (X,), graph=False)[0], expected) > 1e-3


def test_graph_and_pynative_agree(trained: Trained) -> None:
    for net in (trained.net_q, trained.deployed):
        graph, pynative = (forward(net, (X,), graph=mode)[0] for mode in (True, False))
        assert norm_error(pynative, graph) < 0.05


def test_the_deployed_network_holds_integers(trained: Trained) -> None:
    stored = {name: value for name, value in values(trained.deployed).items() if value.dtype == np.int8}
    layers = state_of(trained.net_q).layers
    assert len(stored) == len(layers)
    floats = sum(layer.weight.size * 4 for layer in layers.values())
    bits = {path: layer.weight_quantizer.bits for path, layer in layers.items()}
    expected = sum(int(packed_bytes(layer.weight.size, min(bits[path], 8))) for path, layer in layers.items())
    assert sum(value.nbytes for value in stored.values()) == expected < 0.3 * floats


def test_the_checkpoint_loads_again(trained: Trained, tmp_path: Path) -> None:
    ms.save_checkpoint(trained.net_q, str(tmp_path / "q.ckpt"))
    again = trained.algorithm.apply(trained.net, inputs=X[:1])
    missing, unread = ms.load_param_into_net(again, ms.load_checkpoint(str(tmp_path / "q.ckpt")))
    assert not missing and not unread
    expected = forward(trained.net_q, (X,), graph=False)[0]
    np.testing.assert_array_equal(forward(again, (X,), graph=False)[0], expected)
    np.testing.assert_array_equal(
        forward(trained.algorithm.convert(again), (X,), graph=False)[0], forward(trained.deployed, (X,), graph=False)[0]
    )


def test_the_exported_file_computes_the_same(trained: Trained, tmp_path: Path) -> None:
    ms.export(trained.deployed, ms.Tensor(X[:4]), file_name=str(tmp_path / "d"), file_format="MINDIR")
    loaded = nn.GraphCell(ms.load(str(tmp_path / "d.mindir")))
    with execution_mode(graph=True):
        found = loaded(ms.Tensor(X[:4])).asnumpy()
    np.testing.assert_allclose(found, forward(trained.deployed, (X[:4],), graph=False)[0], rtol=1e-5, atol=1e-6)


def test_another_plan_compiles_nothing(trained: Trained) -> None:
    """Bits are parameters: fine-tuning a second plan runs the graph of the first."""
    if isinstance(trained.algorithm, SLB):
        plan = {"format/blocks.0.conv1": "w2a4", "format/head": "w8a8"}
    else:
        plan = {"format/stem": "w8a8", "format/blocks.0.conv1": "w3a4", "format/blocks.1.conv2": "w4"}
    loss = loss_function()
    net_q = trained.algorithm.apply(trained.net, calibrate=X[:32])
    step = nn.TrainOneStepCell(
        nn.WithLossCell(net_q, loss), nn.Momentum(net_q.trainable_params(), 0.01, 0.9)
    ).set_train()
    x, y = ms.Tensor(X[:32]), ms.Tensor(Y[:32])
    with execution_mode(graph=True), counted() as compiled:
        step(x, y)
    assert compiled
    with execution_mode(graph=True), counted() as compiled:
        before = float(step(x, y).asnumpy())
        trained.algorithm.set_plan(net_q, plan)
        with_plan = float(step(x, y).asnumpy())
        trained.algorithm.set_plan(net_q, {})
        in_float = float(step(x, y).asnumpy())
    assert compiled == []
    assert len({before, with_plan, in_float}) == 3 and np.isfinite([before, with_plan, in_float]).all()
    layers = state_of(net_q).layers
    assert {layer.weight_quantizer.bits for layer in layers.values()} == {FLOAT_BITS}


@pytest.mark.parametrize("form", list(FORMS))
def test_ranges_begin_anew_where_another_plan_has_other_bits(form: str) -> None:
    algorithm = FORMS[form]()
    plan = {"format/hidden": "w2a8", "format/head": "w2a8"}
    net_q = algorithm.apply(randomised(NETWORKS["concatenating"]()), calibrate=X[:32], plan=plan)
    quantizers = {path: layer.input_quantizer for path, layer in state_of(net_q).layers.items()}
    quantizers["head"].start(fit_range([X], 8))  # as if trained
    trained = quantizers["head"].quantizer()
    algorithm.set_plan(net_q, {f"format/{path}": "w2a8" if path == "head" else "w2a4" for path in quantizers})
    found = {path: quantizer.quantizer() for path, quantizer in quantizers.items()}
    assert found.pop("head") == trained
    algorithm.calibrate(net_q, (X[:32],))
    assert found == {path: quantizers[path].quantizer() for path in found}


@pytest.mark.parametrize("make", [*FORMS.values(), RTN, lambda: AdaRound(4, 8)], ids=[*FORMS, "rtn", "adaround"])
def test_inputs_are_rounded_around_zero_where_that_is_asked_for(make: Callable[..., Any]) -> None:
    algorithm = make()
    algorithm.signed_inputs = True
    net_q = algorithm.apply(randomised(NETWORKS["residual"]()), calibrate=X[:32])
    found = [layer.input_quantizer.quantizer() for layer in state_of(net_q).layers.values()]
    assert found and all(quantizer is not None and quantizer.symmetric for quantizer in found)


@pytest.mark.parametrize("form", ["simqat", "pact", "slb"])
def test_without_bits_it_is_the_identity(form: str) -> None:
    net = randomised(NETWORKS["concatenating"]())
    net_q = FORMS[form](weight_bits=FLOAT_BITS, activation_bits=FLOAT_BITS).apply(net, calibrate=X[:8])
    np.testing.assert_allclose(
        forward(net_q, (X[:8],), graph=False)[0], forward(net, (X[:8],), graph=False)[0], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("form", ["slb"])
def test_the_same_seed_gives_the_same_result(form: str) -> None:
    def once() -> np.ndarray:
        ms.set_seed(0)
        algorithm = FORMS[form]()
        net_q = algorithm.apply(randomised(Small()), inputs=X[:1])
        train(net_q, algorithm.callbacks(), epochs=1)
        return np.asarray(forward(algorithm.convert(net_q), (X,), graph=False)[0])

    np.testing.assert_array_equal(once(), once())


@pytest.mark.parametrize("form", ["lsq", "slb"])
def test_trains_in_pynative_mode_too(form: str) -> None:
    algorithm = FORMS[form]()
    net_q = algorithm.apply(randomised(NETWORKS["concatenating"]()), inputs=X[:1])
    train(net_q, algorithm.callbacks(), epochs=1, graph=False)
    deployed = forward(algorithm.convert(net_q), (X,), graph=False)[0]
    assert norm_error(deployed, forward(net_q, (X,), graph=False)[0]) < 0.05


def test_a_transposed_convolution_is_rounded_by_its_output_channels() -> None:
    """Its weight lies as (in, out, kh, kw): the second output channel here is a thousand times as large."""
    net = randomised(nn.SequentialCell(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2dTranspose(4, 2, 2, 2)))
    weight = net[2].weight.asnumpy() * np.array([1, 1000], np.float32)[:, None, None]
    net[2].weight.set_data(ms.Tensor(weight))
    algorithm = LSQ(4, 8)
    found = algorithm.quantized(algorithm.apply(net, calibrate=X)).layers["2"].weight
    assert norm_error(found[0], weight[:, 0]) < 0.01 and norm_error(found[1], weight[:, 1]) < 0.01


@pytest.mark.parametrize("form", ["simqat", "slb"])
def test_transposed_convolutions_of_all_kinds_train_rounded(form: str) -> None:
    x = np.random.default_rng(0).standard_normal((4, 3, 16, 16)).astype(np.float32)
    net, algorithm = randomised(Upsampler()), FORMS[form]()
    net_q = algorithm.apply(net, calibrate=x)
    layers = state_of(net_q).layers
    assert list(layers) == ["stem.0", "plain", "grouped", "depthwise", "wide", "image"]
    step = nn.TrainOneStepCell(
        nn.WithLossCell(net_q, nn.MSELoss()), nn.Momentum(net_q.trainable_params(), 1e-3, 0.9)
    ).set_train()
    before, target = values(net_q), ms.Tensor(forward(net, (x,), graph=False)[0])
    with execution_mode(graph=False):
        step(ms.Tensor(x), target)
    after = values(net_q.set_train(False))
    for layer in layers.values():
        own = {p.name for p in layer.get_parameters() if p.requires_grad}
        assert any(not np.array_equal(after[name], before[name]) for name in own), layer.weight.name
    deployed = forward(algorithm.convert(net_q), (x,), graph=False)[0]
    assert norm_error(deployed, forward(net_q, (x,), graph=False)[0]) < 0.05
    assert norm_error(deployed, forward(net, (x,), graph=False)[0]) > 1e-3
    algorithm.set_plan(net_q, {})
    found = forward(net_q, (x,), graph=False)[0]
    np.testing.assert_allclose(found, forward(algorithm.convert(net_q), (x,), graph=False)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", list(FORMS))
def test_a_network_without_layers_is_refused(form: str) -> None:
    with pytest.raises(NoEffectError, match=r"found no nn\.Conv2d and no nn\.Dense"):
        FORMS[form]().apply(nn.SequentialCell(nn.ReLU(), nn.MaxPool2d(2, 2)), inputs=X[:1])
    with pytest.raises(TypeError, match="must be a mindspore"):
        FORMS[form]().apply("net")
    with pytest.raises(ValueError, match="did not come from apply"):
        FORMS[form]().convert(nn.Dense(2, 2))
    with pytest.raises(ValueError, match=r"call apply\(net\) first"):
        FORMS[form]().callbacks()


class Look(Callback):
    """Of each step: a BatchNorm's running mean, the upper end of a layer's input, whether its weight is rounded."""

    def __init__(self, net_q: Any) -> None:
        super().__init__()
        self.layer = state_of(net_q).layers["body.0"]
        self.seen: list[list[float]] = []

    def on_train_step_end(self, run_context: Any) -> None:
        layer = self.layer
        watched = (layer.norm.moving_mean, layer.input_quantizer.high, layer.weight_quantizer.fake_quant_enabled)
        self.seen.append([float(parameter.asnumpy().reshape(-1)[0]) for parameter in watched])


@pytest.mark.parametrize(
    ("settings", "mean_moves", "range_moves", "rounds"),
    [
        ({}, [1, 1, 1], [1, 1, 1], [1, 1, 1, 1]),
        ({"freeze_batchnorm": 2}, [1, 0, 0], [1, 1, 1], [1, 1, 1, 1]),
        ({"freeze_observers": 2}, [1, 1, 1], [1, 0, 0], [1, 1, 1, 1]),
        ({"delay": 2}, [1, 1, 1], [1, 1, 1], [0, 0, 1, 1]),
    ],
)
def test_simqat_keeps_its_schedule_in_a_compiled_network(
    settings: dict[str, int], mean_moves: list[int], range_moves: list[int], rounds: list[int]
) -> None:
    """What is set after the first step must reach the graph that was compiled for it."""
    algorithm = SimQAT(4, 4, **settings)  # type: ignore[arg-type]
    net_q = algorithm.apply(randomised(Small()), calibrate=X)
    dataset = ds.NumpySlicesDataset((X, Y), ["image", "label"], shuffle=False).batch(16)
    look, optimizer = Look(net_q), nn.Momentum(net_q.trainable_params(), 0.01, 0.9)
    with execution_mode(graph=True):
        ms.Model(net_q, loss_function(), optimizer).train(
            1, dataset, [*algorithm.callbacks(), look], dataset_sink_mode=False
        )
    means, ends, on = zip(*look.seen, strict=True)
    assert [a != b for a, b in pairwise(means)] == [bool(moves) for moves in mean_moves]
    assert [a != b for a, b in pairwise(ends)] == [bool(moves) for moves in range_moves]
    assert list(on) == rounds


def test_slb_takes_the_statistics_of_the_likeliest_values() -> None:
    algorithm = SLB(2, 8, calibration_batches=0)
    net_q = algorithm.apply(randomised(Small()), calibrate=X)
    layer = state_of(net_q).layers["body.0"]
    before = layer.norm.moving_mean.asnumpy().copy()
    train(net_q, algorithm.callbacks(), epochs=1)
    np.testing.assert_array_equal(layer.norm.moving_mean.asnumpy(), layer.state.moving_mean.asnumpy())
    np.testing.assert_array_equal(layer.norm.moving_variance.asnumpy(), layer.state.moving_variance.asnumpy())
    assert not np.array_equal(layer.norm.moving_mean.asnumpy(), before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weight_bits": 9}, "weight_bits must be 2 to 8, or 32 for none, but got weight_bits=9"),
        ({"activation_bits": 1}, "activation_bits must be 2 to 8"),
        ({"observer": "median"}, "observer must be 'ema' or 'minmax'"),
        ({"momentum": 0.0}, "momentum must be in"),
        ({"delay": -1}, "delay must be a number of steps"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SimQAT(**arguments)


def test_a_plan_for_a_layer_that_is_not_there() -> None:
    net_q = (algorithm := LSQ()).apply(randomised(NETWORKS["concatenating"]()), inputs=X[:1])
    with pytest.raises(ValueError, match=r"sets 'format/<layer>', but got 'format/nothing'; layers: stem\.0"):
        algorithm.set_plan(net_q, {"format/nothing": "w4"})


class TestRTN:
    """Without training: apply and convert."""

    @pytest.mark.parametrize(
        "settings",
        [
            {},
            {"per_channel": False},
            {"clip": "max", "calibration": "minmax"},
            {"symmetric": True},
            {"symmetric_weights": False, "group_size": 4},
        ],
    )
    def test_eight_bits_are_near_the_float_network(self, settings: dict[str, Any]) -> None:
        net = randomised(NETWORKS["residual"]())
        rtn = RTN(8, 8, **settings)
        net_q = rtn.apply(net, calibrate=X)
        deployed = rtn.convert(net_q)
        found, expected = forward(deployed, (X,), graph=False)[0], forward(net, (X,), graph=False)[0]
        assert 1e-4 < norm_error(found, expected) < 0.1
        assert norm_error(found, forward(net_q, (X,), graph=False)[0]) < 0.05
        assert {value.dtype for name, value in values(deployed).items() if name.endswith("weight")} == {
            np.dtype(np.int8)
        }

    def test_a_layer_that_runs_twice_has_the_range_of_both_calls(self, normalised_twice: Twice) -> None:
        rtn, x = RTN(FLOAT_BITS, 8), normalised_twice.x
        net_q = rtn.apply(normalised_twice.net, calibrate=x)
        assert (
            norm_error(forward(net_q, (x,), graph=False)[0], forward(normalised_twice.net, (x,), graph=False)[0]) < 0.03
        )

    def test_fewer_bits_hurt_more(self) -> None:
        net = randomised(NETWORKS["concatenating"]())
        net_q = (rtn := RTN(weight_bits=8, activation_bits=FLOAT_BITS)).apply(net, inputs=X[:1])
        expected, errors = forward(net, (X,), graph=False)[0], []
        for bits in (8, 4, 2):
            rtn.set_plan(net_q, {f"format/{path}": f"w{bits}" for path in state_of(net_q).layers})
            errors.append(norm_error(forward(rtn.convert(net_q), (X,), graph=False)[0], expected))
        assert errors[0] < errors[1] < errors[2] and errors[0] < 0.03

    def test_what_it_needs_is_said(self) -> None:
        with pytest.raises(ValueError, match=r"apply\(net, calibrate=images\)"):
            RTN().apply(randomised(NETWORKS["concatenating"]()))
        with pytest.raises(ValueError, match="clip must be 'mse' or 'max'"):
            RTN(clip="kl").apply(NETWORKS["concatenating"](), calibrate=X)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="calibration must be one of"):
            RTN(calibration="best").apply(NETWORKS["concatenating"](), calibrate=X)  # type: ignore[arg-type]
