"""The numbers of quantizers that train, against the papers' formulas and against other code."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from autocomp.primitives.cells.fake_quant import assign, rounded, within_reach
from autocomp.primitives.cells.training_callbacks import AtStep, Schedule
from autocomp.primitives.numerics.adaptive_rounding import adaptive_rounding
from autocomp.primitives.numerics.calibrators import CALIBRATIONS, fit_range
from autocomp.primitives.numerics.nearest_levels import best_scale
from autocomp.primitives.numerics.quantizers import ActivationQuantizer, QuantizedWeight, quantize_weight
from autocomp.primitives.quantization.lsq import LearnedScaleInput, LearnedScaleWeight
from autocomp.primitives.quantization.pact import ClippedInput
from autocomp.primitives.quantization.simqat import MaxScaledWeight, ObservedInput
from autocomp.primitives.quantization.slb import SLB, ChosenWeight, levels_of
from autocomp.primitives.tracing.platform import execution_mode, forward, load_mindspore

ms = load_mindspore()

from mindspore import nn, ops  # noqa: E402

RNG = np.random.default_rng(0)
X = RNG.normal(0, 1, (8, 40)).astype(np.float32)
WEIGHT = RNG.normal(0, 0.3, (6, 4, 3, 3)).astype(np.float32)


def gradient(cell: Any, x: np.ndarray, weights: Any, sensitivity: np.ndarray, graph: bool = True) -> list[np.ndarray]:
    """Of sum(cell(x) * sensitivity) in x and the weights."""

    class Sum(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.by = cell, ms.Tensor(sensitivity)

        def construct(self, x: Any) -> Any:
            return (self.cell(x) * self.by).sum()

    of = ops.GradOperation(get_all=True, get_by_list=True)
    with execution_mode(graph):
        inputs, parameters = of(Sum(), ms.ParameterTuple(weights))(ms.Tensor(x))
    return [inputs[0].asnumpy(), *(p.asnumpy() for p in parameters)]


def through_onnx(x: np.ndarray, scale: float, zero_point: int, bits: int) -> np.ndarray:
    """QuantizeLinear and DequantizeLinear of onnxruntime, after clipping to fewer levels."""
    low, high = -zero_point * scale, (2**bits - 1 - zero_point) * scale
    nodes = [
        helper.make_node("Clip", ["x", "low", "high"], ["c"]),
        helper.make_node("QuantizeLinear", ["c", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    constants = {"low": np.float32(low), "high": np.float32(high), "s": np.float32(scale), "z": np.uint8(zero_point)}
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


INPUTS: dict[str, Callable[[bool], Any]] = {
    "observed": lambda positive: ObservedInput(positive, "ema", False, 0.01),
    "observed symmetric": lambda positive: ObservedInput(positive, "minmax", True, 0.01),
    "learned": LearnedScaleInput,
    "clipped": ClippedInput,
}


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("form", list(INPUTS))
def test_inputs_round_as_onnxruntime(form: str, positive: bool, bits: int) -> None:
    x = np.abs(X) if positive else X
    cell = INPUTS[form](positive).set_train(False)
    cell.set_bits(bits)
    cell.start(fit_range([x], bits))
    quantizer = cell.quantizer()
    found = forward(cell, (x,), graph=False)[0]
    expected = through_onnx(x, quantizer.scale, quantizer.zero_point, bits)
    ties = np.abs(np.abs(x / quantizer.scale) % 1 - 0.5) < 1e-3
    np.testing.assert_allclose(found[~ties], expected[~ties], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(quantizer(x)[~ties], found[~ties], rtol=1e-5, atol=1e-6)
    assert len(np.unique(found.round(5))) <= 2**bits
    assert ((found - x) ** 2).mean() < x.var() * {2: 0.45, 4: 0.03, 8: 3e-4}[bits]


@pytest.mark.parametrize("form", list(INPUTS))
def test_inputs_without_bits_pass(form: str) -> None:
    cell = INPUTS[form](False).set_train(False)
    np.testing.assert_array_equal(forward(cell, (X,), graph=False)[0], X)
    cell.set_bits(4)
    cell.set_bits(32)
    np.testing.assert_array_equal(forward(cell, (X,), graph=False)[0], X)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(
    "cell",
    [lambda: MaxScaledWeight(WEIGHT, True), lambda: MaxScaledWeight(WEIGHT, False),
     lambda: LearnedScaleWeight(WEIGHT, True), lambda: LearnedScaleWeight(WEIGHT, False)],
    ids=["max channel", "max tensor", "learned channel", "learned tensor"],
)  # fmt: skip
def test_weights_round_to_the_integers_that_are_stored(cell: Callable[[], Any], bits: int) -> None:
    found = cell()
    found.set_bits(bits, WEIGHT)
    stored = found.quantized(WEIGHT)
    assert stored is not None
    np.testing.assert_allclose(forward(found, (WEIGHT,), graph=False)[0], stored.dequantized(), rtol=1e-5, atol=1e-6)
    if bits == 2 and isinstance(found, LearnedScaleWeight):
        assert set(np.unique(stored.integers)) == {-3, -1, 1, 3}
        best = quantize_weight(WEIGHT, bits)
        assert ((stored.dequantized() - WEIGHT) ** 2).mean() < 0.8 * ((best.dequantized() - WEIGHT) ** 2).mean()
        return
    assert stored.bits == bits and np.abs(stored.integers).max() <= 2 ** (bits - 1) - 1
    if found.per_channel:
        best = quantize_weight(WEIGHT, bits)
        np.testing.assert_allclose(stored.scale, best.scale, rtol=1e-5)
        assert (stored.integers != best.integers).mean() < 0.01
    else:
        assert len(np.unique(stored.scale)) == 1


def test_a_folded_batchnorm_is_rounded_as_it_is_deployed() -> None:
    """One scale for the tensor: of gamma / sigma times the weight, not of the weight."""
    norm = nn.BatchNorm2d(6)
    norm.gamma.set_data(ms.Tensor(np.array([0.5, 1, 2, -1, 3, 0.1], np.float32)))
    norm.moving_variance.set_data(ms.Tensor(np.array([1, 4, 0.5, 2, 1, 9], np.float32)))
    factor = norm.gamma.asnumpy() / np.sqrt(norm.moving_variance.asnumpy() + norm.eps)
    cell = MaxScaledWeight(WEIGHT, False, norm)
    cell.set_bits(8, WEIGHT)
    folded = forward(cell, (WEIGHT,), graph=False)[0] * factor.reshape(-1, 1, 1, 1)
    scale = np.abs(WEIGHT * factor.reshape(-1, 1, 1, 1)).max() / 127
    levels = folded / scale
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-3)
    assert np.abs(levels).max() == pytest.approx(127, abs=1e-2)
    stored = cell.quantized(WEIGHT)
    assert stored is not None
    np.testing.assert_allclose(np.abs(stored.scale * factor), scale, rtol=1e-5)
    np.testing.assert_allclose(stored.dequantized() * factor.reshape(-1, 1, 1, 1), folded, rtol=1e-4, atol=1e-6)


class Rounds(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.scale = ms.Parameter(ms.Tensor(np.float32(0.3)), name="scale")

    def construct(self, x: Any) -> Any:
        return rounded(x, self.scale, -3, 4, 1.0)


@pytest.mark.parametrize("graph", [True, False])
def test_the_gradient_passes_straight_through_inside_the_bounds(graph: bool) -> None:
    sensitivity = RNG.normal(size=X.shape).astype(np.float32)
    in_x, in_scale = gradient(cell := Rounds(), X, [cell.scale], sensitivity, graph)
    levels = X / np.float32(0.3)
    inside = (levels > -3) & (levels < 4)
    np.testing.assert_allclose(in_x, sensitivity * inside, rtol=1e-5, atol=1e-6)
    per_number = np.where(inside, np.rint(levels) - levels, np.clip(np.rint(levels), -3, 4))  # LSQ, eq. 3
    assert float(in_scale) == pytest.approx(float((sensitivity * per_number).sum()), rel=1e-4)


def test_lsq_scales_the_gradient_of_its_step() -> None:
    cell = LearnedScaleInput(positive=False)
    cell.set_bits(4)
    assign(cell.scale, 0.2)
    (_, found) = gradient(cell, X, [cell.scale], np.ones_like(X))
    levels = X / np.float32(0.2)
    per_number = np.where((levels > -8) & (levels < 7), np.rint(levels) - levels, np.clip(np.rint(levels), -8, 7))
    assert float(found) == pytest.approx(float(per_number.sum()) / np.sqrt(X.shape[1] * 7), rel=1e-3)

    weight = LearnedScaleWeight(WEIGHT, per_channel=True)
    weight.set_bits(3, WEIGHT)
    (_, found) = gradient(weight, WEIGHT, [weight.scale], np.ones_like(WEIGHT))
    levels = WEIGHT / weight.scale.asnumpy()
    per_number = np.where(np.abs(levels) < 3, np.rint(levels) - levels, np.clip(np.rint(levels), -3, 3))
    expected = per_number.reshape(6, -1).sum(1) / np.sqrt(WEIGHT[0].size * 3)
    np.testing.assert_allclose(found.reshape(-1), expected, rtol=1e-3, atol=1e-4)

    weight.set_bits(2, WEIGHT)  # eq. 3 with the levels -1.5, -0.5, 0.5, 1.5
    (_, found) = gradient(weight, WEIGHT, [weight.scale], np.ones_like(WEIGHT))
    levels = WEIGHT / weight.scale.asnumpy()
    nearest = np.clip(np.rint(levels - 0.5), -2, 1) + 0.5
    expected = (nearest - np.where(np.abs(levels) < 1.5, levels, 0)).reshape(6, -1).sum(1) / np.sqrt(WEIGHT[0].size)
    np.testing.assert_allclose(found.reshape(-1), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("positive", [True, False])
def test_pact_moves_its_clipping_level_where_numbers_are_clipped(positive: bool) -> None:
    cell = ClippedInput(positive)
    cell.set_bits(4)
    assign(cell.alpha, 0.8)
    x = np.abs(X) if positive else X
    sensitivity = RNG.normal(size=X.shape).astype(np.float32)
    in_x, in_alpha = gradient(cell, x, [cell.alpha], sensitivity)
    lowest = 0 if positive else -8 / 7  # the lowest level, as a share of alpha
    above, below = x >= 0.8, x <= lowest * 0.8
    expected = float((sensitivity * above).sum() + lowest * (sensitivity * below).sum())
    assert float(in_alpha) == pytest.approx(expected, rel=1e-4)
    np.testing.assert_allclose(in_x, sensitivity * ~(above | below), rtol=1e-5, atol=1e-6)


def test_observers() -> None:
    batches = [RNG.normal(0, size, (4, 50)).astype(np.float32) for size in (1, 3, 2, 0.5)]
    average, extremes = (ObservedInput(False, kind, False, 0.25) for kind in ("ema", "minmax"))
    low = high = 0.0
    for i, batch in enumerate(batches):
        for cell in (average, extremes):
            cell.set_train(True)
            cell(ms.Tensor(batch))
        share = max(1 / (i + 1), 0.25)
        low, high = low + share * (batch.min() - low), high + share * (batch.max() - high)
    assert float(average.low.asnumpy()) == pytest.approx(low, rel=1e-5)
    assert float(average.high.asnumpy()) == pytest.approx(high, rel=1e-5)
    assert float(extremes.low.asnumpy()) == pytest.approx(min(b.min() for b in batches))
    assert float(extremes.high.asnumpy()) == pytest.approx(max(b.max() for b in batches))
    average.freeze()
    average(ms.Tensor(100 * batches[0]))
    assert float(average.high.asnumpy()) == pytest.approx(high, rel=1e-5)
    average.set_train(False)
    average(ms.Tensor(100 * batches[0]))
    assert float(average.high.asnumpy()) == pytest.approx(high, rel=1e-5)


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_slb_chooses_among_few_values(bits: int) -> None:
    cell = ChosenWeight(WEIGHT, bits)
    cell.set_bits(bits, WEIGHT)
    levels, scale = levels_of(bits), cell.scale.asnumpy()
    assert len(levels) == (2**bits if bits <= 2 else 2**bits - 1) and levels[0] == -levels[-1]
    nearest = levels[np.abs(WEIGHT[..., None] / scale[..., None] - levels).argmin(-1)] * scale
    deployed = forward(cell, (WEIGHT,), graph=False)[0]  # evaluation: the likeliest
    np.testing.assert_allclose(deployed, nearest, rtol=1e-6)
    stored = cell.quantized(WEIGHT)
    assert stored is not None
    np.testing.assert_array_equal(stored.dequantized(), deployed)
    cell.set_train(True)
    logits = cell.logits.asnumpy().astype(np.float64)
    distances = []
    for temperature in (1.0, 0.1, 1e-4):
        assign(cell.temperature, temperature)
        shares = np.exp((logits - logits.max(0)) / temperature)
        shares /= shares.sum(0)
        expected = (shares * levels.reshape(-1, 1, 1, 1, 1)).sum(0) * scale
        found = cell(ms.Tensor(WEIGHT)).asnumpy()
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        distances.append(float(np.abs(found - deployed).max()))
    assert distances[0] > distances[1] > 100 * distances[2]


@pytest.mark.parametrize("graph", [True, False])
def test_slb_moves_logits_by_what_moves_the_weight(graph: bool) -> None:
    """The softmax's gradient, times 2 / scale^2."""
    cell = ChosenWeight(WEIGHT, 2)
    cell.set_bits(2, WEIGHT)
    cell.set_train(True)
    sensitivity = RNG.normal(size=WEIGHT.shape).astype(np.float32)
    logits, scale = cell.logits.asnumpy().astype(np.float64), cell.scale.asnumpy()
    (_, found) = gradient(cell, WEIGHT, [cell.logits], sensitivity, graph)
    shares = np.exp(logits - logits.max(0))
    shares /= shares.sum(0)
    levels = levels_of(2).reshape(-1, 1, 1, 1, 1)
    expected = sensitivity * scale * shares * (levels - (shares * levels).sum(0)) * 2 / scale**2
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_slb_starts_at_the_scale_of_least_error() -> None:
    for bits in (1, 2, 3, 4):
        levels = levels_of(bits)
        found = best_scale(WEIGHT, levels).reshape(-1)
        for row, scale in zip(WEIGHT.reshape(6, -1), found, strict=True):

            def error(s: float, row: np.ndarray = row, levels: np.ndarray = levels) -> float:
                return float(((levels[np.abs(row[:, None] / s - levels).argmin(1)] * s - row) ** 2).sum())

            tried = min(error(s) for s in np.linspace(0.02, 1.0, 400))
            assert error(float(scale)) <= 1.03 * tried
    np.testing.assert_allclose(
        best_scale(WEIGHT, levels_of(1)).reshape(-1), np.abs(WEIGHT).reshape(6, -1).mean(1), rtol=1e-5
    )


@pytest.mark.parametrize(("form", "bits"), [("lsq", 2), ("lsq", 3), ("slb", 1), ("slb", 2), ("slb", 4)])
def test_weights_begin_as_the_output_asks(form: str, bits: int) -> None:
    """At the levels of adaptive rounding, safely within their bins, and no further from the float weight than that."""
    x = RNG.normal(size=(400, 36)) @ RNG.normal(size=(36, 36))
    moment = x.T @ x / len(x)
    halves = bits <= 2
    found = adaptive_rounding(WEIGHT, bits, moment, halves=halves)
    cell = LearnedScaleWeight(WEIGHT, per_channel=True) if form == "lsq" else ChosenWeight(WEIGHT, bits)
    cell.set_bits(bits, WEIGHT)
    weight = cell.adapted(WEIGHT, moment, quick=False)
    stored = cell.quantized(weight)
    assert stored is not None
    np.testing.assert_array_equal(stored.integers, found.integers)
    np.testing.assert_allclose(stored.scale, found.scale, rtol=1e-6)
    if form == "lsq":
        step = (2 if halves else 1) * found.scale.reshape(-1, 1, 1, 1)
        beyond = np.abs(found.integers) == np.abs(found.integers).max()
        assert (np.abs(weight - found.dequantized()) <= 0.4001 * step)[~beyond].all()
        moved = weight != WEIGHT
        assert 0 < moved.mean() < 0.9
        assert (np.abs(weight - found.dequantized()) < np.abs(WEIGHT - found.dequantized()))[moved].all()


def test_bins_are_closed_where_no_weight_has_the_highest_level() -> None:
    found = QuantizedWeight(np.array([[1, -1, 1]], np.int8), np.array([0.5], np.float32), 3)
    weight = np.array([[5, -5, 0]], np.float32)  # of levels -3, -1, 1, 3: scale 0.5, steps of 1
    np.testing.assert_allclose(within_reach(weight, found, top=3, step=2), [[0.9, -0.9, 0.1]], rtol=1e-6)
    np.testing.assert_allclose(within_reach(weight, found, top=1, step=2), [[5, -5, 0.1]], rtol=1e-6)


def test_slb_cools_after_its_warm_up() -> None:
    algorithm = SLB(warm_up=0.2, settled=0.6, sharpest=100)
    assert [algorithm.temperature(p) for p in (0.0, 0.1, 0.2)] == [1.0, 1.0, 1.0]
    assert algorithm.temperature(0.4) == pytest.approx(0.1)
    assert algorithm.temperature(0.6) == algorithm.temperature(1.0) == pytest.approx(0.01)
    target = ms.Parameter(ms.Tensor(np.float32(1)), name="t")
    schedule = Schedule([target], algorithm.temperature)
    seen = []
    for step in range(1, 12):
        arguments = SimpleNamespace(epoch_num=1, batch_num=11, cur_step_num=step)
        schedule.on_train_step_begin(SimpleNamespace(original_args=lambda a=arguments: a))
        seen.append(float(target.asnumpy()))
    np.testing.assert_allclose(seen, [algorithm.temperature(i / 10) for i in range(11)], rtol=1e-5)


def test_what_happens_at_a_step_happens_once() -> None:
    calls: list[int] = []
    callback = AtStep(3, lambda arguments: calls.append(arguments.cur_step_num))
    for step in range(1, 8):
        arguments = SimpleNamespace(cur_step_num=step)
        callback.on_train_step_begin(SimpleNamespace(original_args=lambda a=arguments: a))
    assert calls == [4]


class TestCalibration:
    SPIKED = np.concatenate([RNG.normal(0, 1, 50_000), [40.0]]).astype(np.float32)

    @pytest.mark.parametrize("method", CALIBRATIONS)
    def test_every_method_holds_the_bulk(self, method: Any) -> None:
        quantizer = fit_range([self.SPIKED[:30_000], self.SPIKED[30_000:]], 8, method)
        bulk = self.SPIKED[np.abs(self.SPIKED) < 2]
        assert np.abs(quantizer(bulk) - bulk).max() <= quantizer.scale * 0.51

    def test_what_each_does_with_an_outlier(self) -> None:
        found = {method: fit_range([self.SPIKED], 4, method) for method in CALIBRATIONS}
        ends = {method: quantizer.bounds[1] * quantizer.scale for method, quantizer in found.items()}
        assert ends["minmax"] == pytest.approx(40, rel=0.1)
        assert ends["percentile"] < 6 and ends["kl"] < 20 and ends["mse"] < 20

    def test_unknown_method(self) -> None:
        with pytest.raises(ValueError, match="calibration must be one of mse, minmax, percentile, kl, but got 'max'"):
            fit_range([X], 8, "max")  # type: ignore[arg-type]

    def test_nothing_but_zeros(self) -> None:
        for method in CALIBRATIONS:
            assert isinstance(fit_range([np.zeros(10, np.float32)], 8, method), ActivationQuantizer)
