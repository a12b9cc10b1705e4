"""Adaptive rounding: never worse than to nearest, close to the best there is, and the same in every network."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from autocomp.primitives.numerics.adaptive_rounding import WIDE, adaptive_rounding
from autocomp.primitives.numerics.nearest_levels import nearest_halves, odd_levels
from autocomp.primitives.numerics.patches import Hessian
from autocomp.primitives.numerics.plan_compressor import PlanCompressor
from autocomp.primitives.numerics.quantizers import QuantizedWeight, quantize_weight
from autocomp.search_spaces import Plan
from tests.conftest import Subject


def moment(width: int, seed: int = 0, rank: int | None = None) -> np.ndarray:
    """E[x x^T] of correlated x whose sizes differ."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((4 * width if rank is None else rank, width)) @ rng.standard_normal((width, width))
    x *= rng.uniform(0.2, 2, width)
    return x.T @ x / len(x)


def weight_of(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def errors(rounded: QuantizedWeight, weight: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(out,) float64: d H d^T of each row, a row at a time."""
    moments = second.reshape(-1, *second.shape[-2:])
    wanted = weight.reshape(len(weight), -1).astype(np.float64)
    found = rounded.integers.reshape(wanted.shape) * rounded.scale[:, None].astype(np.float64)
    share = len(weight) // len(moments)
    return np.array([d @ moments[i // share] @ d for i, d in enumerate(found - wanted)])


def rounded_twice(weight: np.ndarray, bits: int, second: np.ndarray) -> tuple[QuantizedWeight, QuantizedWeight]:
    return adaptive_rounding(weight, bits, second), quantize_weight(weight, bits)


DEGENERATE = {
    "correlated": moment(36),
    "identity": np.eye(36),
    "zeros": np.zeros((36, 36)),
    "rank 1": moment(36, rank=1),
    "rank 5": moment(36, rank=5),
    "nearly rank 1": np.ones((36, 36)) + 1e-9 * np.eye(36),
    "huge ratios": np.diag(np.logspace(-15, 15, 36)),
    "correlated huge ratios": moment(36) * np.outer(np.logspace(-6, 6, 36), np.logspace(-6, 6, 36)),
    "dead inputs": moment(36) * np.outer(np.arange(36) % 3 > 0, np.arange(36) % 3 > 0),
    "tiny": moment(36) * 1e-30,
    "vast": moment(36) * 1e30,
    "float32": moment(36).astype(np.float32),
}


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("name", DEGENERATE)
def test_never_worse_than_to_nearest(name: str, bits: int) -> None:
    weight, second = weight_of(24, 4, 3, 3), DEGENERATE[name]
    weight[3] = 0
    weight[4] *= 1e-6
    weight[5, 0, 0, 0] = 50  # an outlier
    found, nearest = rounded_twice(weight, bits, second)
    top = 2 ** (bits - 1) - 1
    assert found.integers.dtype == np.int8 and found.scale.dtype == np.float32 and found.bits == bits
    assert found.integers.shape == weight.shape and found.scale.shape == (24,)
    assert np.abs(found.integers).max() <= top
    assert np.isfinite(found.scale).all() and (found.scale > 0).all()
    mine, usual = errors(found, weight, second), errors(nearest, weight, second)
    assert (mine <= usual * (1 + 1e-9)).all()
    assert (errors(adaptive_rounding(weight, bits, second, quick=True), weight, second) <= usual * (1 + 1e-9)).all()
    assert (found.integers[3] == 0).all()


@pytest.mark.parametrize("bits", [1, 2, 3])
@pytest.mark.parametrize("name", DEGENERATE)
def test_levels_around_zero_are_never_worse_than_to_nearest(name: str, bits: int) -> None:
    weight, second = weight_of(24, 4, 3, 3), DEGENERATE[name]
    weight[3] = 0
    weight[4] *= 1e-6
    found, nearest = adaptive_rounding(weight, bits, second, halves=True), nearest_halves(weight, bits)
    for rounded in (found, nearest):
        assert set(np.unique(rounded.integers)) <= set(odd_levels(bits)) and len(odd_levels(bits)) == 2**bits
        assert np.isfinite(rounded.scale).all() and (rounded.scale > 0).all()
    assert (errors(found, weight, second) <= errors(nearest, weight, second) * (1 + 1e-9)).all()
    level = odd_levels(bits)[:, None] * nearest.scale
    distance = np.abs(weight.reshape(1, 24, -1) - level[..., None]).min(0)
    np.testing.assert_allclose(np.abs(nearest.dequantized() - weight).reshape(24, -1), distance, atol=1e-5)


@pytest.mark.parametrize(("bits", "share"), [(2, 0.6), (3, 0.45), (4, 0.35)])
def test_much_better_where_inputs_are_correlated(bits: int, share: float) -> None:
    weight, second = weight_of(32, 144), moment(144)
    found, usual = (errors(one, weight, second).sum() for one in rounded_twice(weight, bits, second))
    assert found < share * usual


@pytest.mark.parametrize(("bits", "halves"), [(2, False), (3, False), (1, True), (2, True)])
def test_close_to_the_best_of_all_roundings(bits: int, halves: bool) -> None:
    """Of every assignment of integers to a row of up to 8 weights, under the scale that was found."""
    top, ratios = 2 ** (bits - 1) - 1, []
    levels = odd_levels(bits) if halves else np.arange(-top, top + 1)
    for seed in range(40):
        width = {1: 4 + seed % 5, 2: 4 + seed % 5, 3: 3 + seed % 3}[bits]
        weight, second = weight_of(1, width, seed=seed), moment(width, seed)
        rounded = adaptive_rounding(weight, bits, second, halves=halves)
        every = np.array(list(itertools.product(levels, repeat=width)))
        difference = every * np.float64(rounded.scale[0]) - weight[0]
        best = ((difference @ second) * difference).sum(1).min()
        nearest = nearest_halves(weight, bits) if halves else quantize_weight(weight, bits)
        found, usual = errors(rounded, weight, second)[0], errors(nearest, weight, second)[0]
        assert best * (1 - 1e-9) <= found <= usual * (1 + 1e-9)
        ratios.append(found / best)
    assert np.mean(np.array(ratios) < 1.001) >= 0.8, np.sort(ratios)
    assert np.quantile(ratios, 0.9) < 1.5, np.sort(ratios)


def test_hardly_any_change_of_a_weight_helps() -> None:
    """Of a single one by one level; a second pass of coordinate descent leaves few of them."""
    weight, second = weight_of(8, 40), moment(40)
    found = adaptive_rounding(weight, 3, second)
    before, helps = errors(found, weight, second), []
    for column, step in itertools.product(range(40), (-1, 1)):
        changed = found.integers.copy()
        changed[:, column] = np.clip(changed[:, column] + step, -3, 3)
        helps.append(errors(QuantizedWeight(changed, found.scale, 3), weight, second) / before)
    assert np.mean(np.array(helps) < 1 - 1e-9) < 0.05
    assert np.min(helps) > 0.7


def test_groups_are_rounded_each_for_its_own_inputs() -> None:
    weight, second = weight_of(12, 4, 3, 3), np.stack([moment(36, seed) for seed in range(3)])
    together = adaptive_rounding(weight, 4, second)
    apart = [adaptive_rounding(weight[4 * i : 4 * i + 4], 4, second[i]) for i in range(3)]
    np.testing.assert_array_equal(together.integers, np.concatenate([one.integers for one in apart]))
    np.testing.assert_allclose(together.scale, np.concatenate([one.scale for one in apart]), rtol=1e-6)


def test_rows_do_not_depend_on_each_other() -> None:
    weight, second = weight_of(16, 60), moment(60)
    some = np.arange(16) % 3 == 0
    whole, part = adaptive_rounding(weight, 4, second), adaptive_rounding(weight[some], 4, second)
    np.testing.assert_array_equal(whole.integers[some], part.integers)


def test_a_factor_of_the_weight_is_a_factor_of_the_scale() -> None:
    weight, second = weight_of(16, 60), moment(60)
    one, other = adaptive_rounding(weight, 4, second), adaptive_rounding(weight * 4, 4, second * 16)
    np.testing.assert_array_equal(one.integers, other.integers)
    np.testing.assert_allclose(one.scale * 4, other.scale, rtol=1e-6)


def test_wide_layers_too() -> None:
    width = WIDE + 100
    weight, rng = weight_of(4, width), np.random.default_rng(0)
    x = rng.standard_normal((2 * width, width)) + rng.standard_normal((2 * width, 1))
    second = x.T @ x / len(x)
    error, quickly = (errors(adaptive_rounding(weight, 4, second, quick), weight, second) for quick in (False, True))
    usual = errors(quantize_weight(weight, 4), weight, second)
    assert (error < quickly).all() and (quickly < 0.98 * usual).all() and (error < 0.9 * usual).all()


def test_numbers_that_are_not_finite_leave_rounding_to_nearest() -> None:
    weight = weight_of(4, 10)
    for value in (np.nan, np.inf):
        second = moment(10)
        second[2, 3] = value
        found, nearest = rounded_twice(weight, 4, second)
        np.testing.assert_array_equal(found.integers, nearest.integers)
        np.testing.assert_array_equal(found.scale, nearest.scale)


@pytest.mark.parametrize("shape", [(9, 9), (36, 35), (5, 36, 36), (2, 18, 18)])
def test_moments_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"hessian must be .*weight of shape \(24, 4, 3, 3\)"):
        adaptive_rounding(weight_of(24, 4, 3, 3), 4, np.zeros(shape))


def test_bits_are_checked() -> None:
    with pytest.raises(ValueError, match=r"bits must be in 2\.\.8"):
        adaptive_rounding(weight_of(4, 10), 9, moment(10))


# In a network ---------------------------------------------------------------------------------------------------------


def compressor_of(subject: Subject, adapted: bool = True) -> PlanCompressor:
    there = subject.evaluator.compressor
    return PlanCompressor(
        subject.space, subject.parameters, there.ranges, there.moments, there.patches if adapted else None
    )


def all_layers(subject: Subject, chosen: str) -> Plan:
    return Plan({f"format/{layer}": chosen for layer in subject.graph.layers})


def test_layers_come_closer_to_what_they_were(subject: Subject) -> None:
    """On the images that were calibrated on, each layer alone, and on other images the whole network."""
    adapted, nearest = (compressor_of(subject, on)(all_layers(subject, "w4")).layers for on in (True, False))
    for layer, patches in subject.evaluator.compressor.patches.items():
        weight = subject.parameters[subject.graph.nodes[subject.graph.layers[layer]].weight]
        found, usual = adapted[layer].quantized, nearest[layer].quantized
        assert found is not None and usual is not None
        second = patches.damped(centred=True)
        assert errors(found, weight, second).sum() < errors(usual, weight, second).sum(), layer
    assert set(subject.evaluator.compressor.patches) == set(subject.graph.layers)


def test_eight_bits_are_rounded_to_nearest(subject: Subject) -> None:
    for state, other in zip(
        compressor_of(subject)(all_layers(subject, "w8")).layers.values(),
        compressor_of(subject, False)(all_layers(subject, "w8")).layers.values(),
        strict=True,
    ):
        assert state.quantized is not None and other.quantized is not None
        np.testing.assert_array_equal(state.quantized.integers, other.quantized.integers)
        assert (state.bias is None) == (other.bias is None)
        if state.bias is not None and other.bias is not None:
            np.testing.assert_array_equal(state.bias, other.bias)


def test_cut_rows_are_sliced_and_cut_columns_rounded_anew(named_subject: Callable[[str], Subject]) -> None:
    subject = named_subject("residual")
    whole = compressor_of(subject)(Plan({"format/stem": "w4", "format/blocks.0.conv1": "w4"})).layers
    cut = compressor_of(subject)(Plan({"format/stem": "w4", "format/blocks.0.conv1": "w4", "keep/stem": 0.5})).layers
    stem, reader, uncut = cut["stem"], cut["blocks.0.conv1"], whole["stem"]
    assert stem.quantized is not None and reader.quantized is not None and uncut.quantized is not None
    assert stem.rows.sum() == 8 and reader.columns.sum() == 8
    np.testing.assert_array_equal(stem.quantized.integers, uncut.quantized.integers[stem.rows])
    np.testing.assert_array_equal(stem.weight, uncut.weight[stem.rows])

    there = subject.evaluator.compressor
    weight, _ = compressor_of(subject)._read(
        subject.graph.nodes[subject.graph.layers["blocks.0.conv1"]], reader.columns
    )
    patches = there.patches["blocks.0.conv1"].of(np.repeat(reader.columns, 9))
    wanted = adaptive_rounding(weight, 4, patches.damped(centred=True))
    np.testing.assert_array_equal(reader.quantized.integers, wanted.integers)


def test_the_bias_takes_in_the_shift_of_the_mean(named_subject: Callable[[str], Subject]) -> None:
    """Where no BatchNorm does: of the head's outputs, the mean over what was calibrated on stays where it was."""
    subject = named_subject("residual")
    inputs = subject.evaluator.engine.layer_inputs(subject.evaluator.compress(Plan()), (subject.x,))["head"][0]
    before = inputs @ subject.parameters["head.weight"].T + subject.parameters["head.bias"]
    state = compressor_of(subject)(Plan({"format/head": "w4"})).layers["head"]
    after = inputs @ state.weight.T + state.bias
    np.testing.assert_allclose(after.mean(0), before.mean(0), atol=1e-5)
    unmoved = inputs @ state.weight.T + subject.parameters["head.bias"]
    assert np.abs(unmoved.mean(0) - before.mean(0)).max() > 1e-3


def test_a_layer_before_batchnorm_keeps_its_bias(named_subject: Callable[[str], Subject]) -> None:
    subject = named_subject("concatenating")
    state = compressor_of(subject)(all_layers(subject, "w4")).layers["hidden"]
    assert state.bias is not None
    np.testing.assert_array_equal(state.bias, subject.parameters["hidden.bias"])


def test_a_layer_without_moments_is_rounded_to_nearest(named_subject: Callable[[str], Subject]) -> None:
    subject = named_subject("residual")
    there = subject.evaluator.compressor
    patches: dict[str, Hessian] = {"head": there.patches["head"]}
    compressor = PlanCompressor(subject.space, subject.parameters, there.ranges, there.moments, patches)
    layers = compressor(all_layers(subject, "w4")).layers
    for layer, state in layers.items():
        weight = subject.parameters[subject.graph.nodes[subject.graph.layers[layer]].weight]
        assert state.quantized is not None
        same = np.array_equal(state.quantized.integers, quantize_weight(weight, 4).integers)
        assert same == (layer != "head")


def test_plans_come_closer_to_the_float_network(subject: Subject) -> None:
    other = np.random.default_rng(9).standard_normal(subject.x.shape).astype(np.float32)
    engine = subject.evaluator.engine
    expected = engine.outputs(subject.evaluator.compress(Plan()), (other,))[0]
    distances = [
        np.linalg.norm(engine.outputs(compressor_of(subject, on)(all_layers(subject, "w4")), (other,))[0] - expected)
        for on in (True, False)
    ]
    assert distances[0] < distances[1]
