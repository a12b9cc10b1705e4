"""Rounding: the formulas, onnxruntime's rounding, packing, clipping, folding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import TensorProto, helper, numpy_helper

from autocomp.primitives.numerics.folding import batchnorm_factors, fold
from autocomp.primitives.numerics.plan_compressor import LayerState
from autocomp.primitives.numerics.quantizers import (
    ActivationQuantizer,
    fit_activation,
    quantize_weight,
    with_room_for_bias,
)

BITS = range(2, 9)
weights = arrays(
    np.float32,
    st.tuples(st.integers(1, 6), st.integers(1, 5), st.integers(1, 3)),
    elements=st.floats(-100, 100, width=32, allow_subnormal=False),
)
integers = arrays(np.int8, st.tuples(st.integers(1, 5), st.integers(1, 7)), elements=st.integers(-8, 7))


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def run(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """The last node's output "y" of a small ONNX model with the input "x"."""
    import onnxruntime

    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


class TestWeights:
    @pytest.mark.parametrize("bits", BITS)
    def test_formula(self, bits: int) -> None:
        """scale = max|w| / (2^(b-1) - 1) of each output channel, q = clip(round(w / scale))."""
        weight, top = noise(5, 4, 3, 3), 2 ** (bits - 1) - 1
        found = quantize_weight(weight, bits, search_clip=False)
        scale = np.array([np.float32(np.abs(row).max() / top) for row in weight])
        np.testing.assert_allclose(found.scale, scale, rtol=1e-6)
        wanted = np.stack([np.clip(np.rint(row / s), -top, top) for row, s in zip(weight, found.scale, strict=True)])
        np.testing.assert_array_equal(found.integers, wanted)
        assert found.integers.dtype == np.int8 and found.integers.shape == weight.shape
        assert np.abs(found.integers.reshape(5, -1)).max(1).tolist() == [top] * 5
        np.testing.assert_array_equal(found.dequantized(), found.integers * found.scale.reshape(5, 1, 1, 1))

    @given(weight=weights, bits=st.integers(2, 8))
    def test_error_is_at_most_half_a_step(self, weight: np.ndarray, bits: int) -> None:
        found = quantize_weight(weight, bits, search_clip=False)
        error = np.abs(found.dequantized() - weight).reshape(len(weight), -1).max(1)
        assert (error <= 0.5 * found.scale * (1 + 1e-4)).all()

    @given(weight=weights, bits=st.integers(2, 8))
    def test_clip_search_is_never_worse(self, weight: np.ndarray, bits: int) -> None:
        def errors(search: bool) -> np.ndarray:
            found = quantize_weight(weight, bits, search)
            difference = found.dequantized().astype(np.float64) - weight
            return np.asarray((difference**2).reshape(len(weight), -1).sum(1))

        assert (errors(True) <= errors(False) * (1 + 1e-5) + 1e-12).all()

    def test_clip_search_gains_where_values_lie_far_out(self) -> None:
        weight = noise(8, 500)
        weight[:, 0] = 8
        error = [((quantize_weight(weight, 4, search).dequantized() - weight) ** 2).sum() for search in (True, False)]
        assert error[0] < 0.8 * error[1]

    def test_below_8_bits_clipping_is_searched_unless_said(self) -> None:
        weight = noise(3, 40)
        for bits, search in ((8, False), (4, True)):
            np.testing.assert_array_equal(
                quantize_weight(weight, bits).scale, quantize_weight(weight, bits, search).scale
            )

    def test_channel_of_zeros(self) -> None:
        weight = noise(2, 9)
        weight[1] = 0
        found = quantize_weight(weight, 4)
        assert found.scale[1] == 1 and not found.integers[1].any()
        assert np.isfinite(found.dequantized()).all()

    @pytest.mark.parametrize("bits", [1, 9, 0])
    def test_bits_out_of_range(self, bits: int) -> None:
        with pytest.raises(ValueError, match=rf"bits must be in 2..8, but got bits={bits}"):
            quantize_weight(noise(2, 2), bits)

    def test_onnxruntime_reads_the_same_weights(self) -> None:
        weight = noise(6, 10)
        found = quantize_weight(weight, 8)
        node = [
            helper.make_node("DequantizeLinear", ["q", "s"], ["w"], axis=0),
            helper.make_node("Add", ["w", "x"], ["y"]),
        ]
        read = run(node, {"q": found.integers, "s": found.scale}, np.zeros((6, 10), np.float32))
        np.testing.assert_array_equal(read, found.dequantized())


class TestActivations:
    @pytest.mark.parametrize("bits", BITS)
    def test_formula(self, bits: int) -> None:
        """q = clip(round(x / scale) + zero point, 0, 2^b - 1), x' = (q - zero point) * scale."""
        quantizer = ActivationQuantizer(0.037, 2 ** (bits - 1) - 1, bits)
        x = np.concatenate([noise(500), [-1e9, 1e9, 0]]).astype(np.float32)
        scale = np.float32(0.037)
        q = np.clip(np.rint(x / scale) + quantizer.zero_point, 0, 2**bits - 1)
        np.testing.assert_array_equal(quantizer(x), ((q - quantizer.zero_point) * scale).astype(np.float32))
        assert len(np.unique(quantizer(x))) <= 2**bits
        assert quantizer(np.zeros(1, np.float32))[0] == 0

    @pytest.mark.parametrize("zero_point", [0, 77, 255])
    def test_onnxruntime_rounds_the_same(self, zero_point: int) -> None:
        """Halves too: both round them to even."""
        quantizer = ActivationQuantizer(0.25, zero_point, 8)
        halves = (np.arange(-600, 600) * 0.125).astype(np.float32)
        x = np.concatenate([halves, 30 * noise(2000)])
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
        ]
        read = run(nodes, {"s": np.array(0.25, np.float32), "z": np.array(zero_point, np.uint8)}, x)
        np.testing.assert_array_equal(read, quantizer(x))

    def test_mindspore_rounds_the_same(self) -> None:
        from autocomp.primitives.cells.layers import ElasticInput, RoundedInput, nn
        from autocomp.primitives.tracing.platform import forward

        quantizer = ActivationQuantizer(0.25, 77, 8)
        x = np.concatenate([(np.arange(-600, 600) * 0.125).astype(np.float32), 30 * noise(2000)]).astype(np.float32)
        elastic = ElasticInput(nn.Identity())
        np.testing.assert_array_equal(forward(elastic, (x,), graph=False)[0], x)
        elastic.set(quantizer)
        np.testing.assert_array_equal(forward(elastic, (x,), graph=False)[0], quantizer(x))
        np.testing.assert_array_equal(forward(RoundedInput(quantizer), (x,), graph=False)[0], quantizer(x))
        elastic.set(None)
        np.testing.assert_array_equal(forward(elastic, (x,), graph=False)[0], x)

    @pytest.mark.parametrize("bits", [2, 4, 8])
    def test_the_elastic_input_rounds_otherwise_at_ties_alone(self, bits: int) -> None:
        """It multiplies by the step's reciprocal, so that a number within a rounding error of a half may differ."""
        from autocomp.primitives.cells.layers import ElasticInput, nn
        from autocomp.primitives.tracing.platform import forward

        quantizer = fit_activation(x := 30 * noise(20_000), float(x.min()), float(x.max()), bits)
        elastic, never_below = ElasticInput(nn.Identity()), ElasticInput(nn.Identity(), bounded_below=False)
        elastic.set(quantizer)
        tie = np.abs(np.abs(x / np.float32(quantizer.scale)) % 1 - 0.5) < 1e-4
        assert tie.mean() < 1e-2
        np.testing.assert_array_equal(forward(elastic, (x,), graph=False)[0][~tie], quantizer(x)[~tie])
        huge = np.array([-3e30, -1e8, 1e8, 3e30], np.float32)
        np.testing.assert_array_equal(forward(elastic, (huge,), graph=False)[0], quantizer(huge))
        positive = fit_activation(np.abs(x), 0.0, float(x.max()), bits)
        never_below.set(positive)
        found = forward(never_below, (np.abs(x[~tie]),), graph=False)[0]
        assert np.abs(found - positive(np.abs(x[~tie]))).max() <= positive.scale * 1.001
        assert (found == positive(np.abs(x[~tie]))).mean() > 0.99

    @given(
        samples=arrays(np.float32, st.integers(1, 50), elements=st.floats(-1000, 1000, width=32)),
        bits=st.integers(2, 8),
    )
    def test_fitted_range_holds_zero_and_never_loses_to_the_whole_range(self, samples: np.ndarray, bits: int) -> None:
        low, high = float(samples.min()), float(samples.max())
        found = fit_activation(samples, low, high, bits)
        assert 0 <= found.zero_point <= 2**bits - 1 and found.scale > 0
        assert found(np.zeros(1, np.float32))[0] == 0
        span = max(high, 0) - min(low, 0)
        if span > 1e-30:
            scale = np.float32(span / (2**bits - 1))
            whole = ActivationQuantizer(float(scale), int(np.rint(-min(low, 0.0) / scale)), bits)
            errors = [float(np.mean((one(samples) - samples) ** 2)) for one in (found, whole)]
            assert errors[0] <= errors[1] * (1 + 1e-6)

    @given(
        samples=arrays(np.float32, st.integers(1, 50), elements=st.floats(-1000, 1000, width=32)),
        bits=st.integers(2, 8),
    )
    def test_a_range_around_zero_has_signed_levels_without_a_zero_point(self, samples: np.ndarray, bits: int) -> None:
        found = fit_activation(samples, float(samples.min()), float(samples.max()), bits, symmetric=True)
        assert found.symmetric and found.scale > 0
        low, high = found.bounds
        assert (low, high) == (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        assert np.abs(found(samples)).max() <= max(np.abs(samples).max(), 1e-6) * (high + 1) / high * 1.001

    def test_tensor_that_is_all_zero(self) -> None:
        found = fit_activation(np.zeros(10, np.float32), 0, 0, 8)
        np.testing.assert_array_equal(found(np.zeros(3, np.float32)), np.zeros(3))


class TestFolding:
    @pytest.mark.parametrize("bits", [8, 4])
    def test_integers_stay(self, bits: int) -> None:
        weight, factor, shift = noise(6, 3, 3, 3), noise(6, seed=1), noise(6, seed=2)
        assert (factor < 0).any() and (factor > 0).any()
        quantized = quantize_weight(weight, bits)
        every = np.ones(6, bool), np.ones(3, bool)
        folded = fold(LayerState(*every, quantized.dequantized(), noise(6, seed=3), quantized), factor, shift)
        assert folded.quantized is not None
        np.testing.assert_array_equal(folded.quantized.integers, quantized.integers)
        np.testing.assert_allclose(folded.quantized.scale, quantized.scale * factor, rtol=1e-6)
        np.testing.assert_array_equal(folded.weight, folded.quantized.dequantized())

    @pytest.mark.parametrize("bias", [None, noise(6, seed=3)])
    def test_computes_the_same(self, bias: Any) -> None:
        weight, x = noise(6, 10), noise(20, 10, seed=4)
        gamma, beta, mean, variance = (noise(6, seed=seed) for seed in (5, 6, 7, 8))
        variance = variance**2 + 0.1
        every = np.ones(6, bool), np.ones(10, bool)
        folded = fold(LayerState(*every, weight, bias), *batchnorm_factors(gamma, beta, mean, variance, 1e-5))
        y = x @ weight.T + (0 if bias is None else bias)
        wanted = gamma * (y - mean) / np.sqrt(variance + 1e-5) + beta
        assert folded.bias is not None
        np.testing.assert_allclose(x @ folded.weight.T + folded.bias, wanted, rtol=1e-4, atol=1e-4)

    def test_what_can_be_folded(self, named_subject: Callable[[str], Any]) -> None:
        from autocomp.search_spaces import foldable

        assert foldable(named_subject("residual").graph) == {
            "blocks.0.bn1": "blocks.0.conv1",
            "blocks.0.bn2": "blocks.0.conv2",
            "blocks.0.shortcut.1": "blocks.0.shortcut.0",
            "blocks.1.bn1": "blocks.1.conv1",
            "blocks.1.bn2": "blocks.1.conv2",
            "blocks.1.shortcut.1": "blocks.1.shortcut.0",
        }
        # BatchNorm1d reshapes (n, c) to (n, c, 1, 1) first.
        assert foldable(named_subject("concatenating").graph)["norm"] == "hidden"


@settings(max_examples=60, deadline=None)
@given(
    arrays(np.float32, 4, elements=st.floats(-100, 100, width=32)),
    arrays(np.float32, 4, elements=st.sampled_from([np.float32(f) for f in (1, -1, 1e-6, 1e-20, -1e-37, 0)])),
    st.floats(1e-6, 10),
)
def test_a_bias_fits_into_32_bits_whatever_batchnorm_leaves(
    bias: np.ndarray, factor: np.ndarray, input_scale: float
) -> None:
    """The weights are as before, but where they are nothing beside the bias."""
    weight = quantize_weight(noise(4, 8, 3, 3), 8).times(factor)
    found = with_room_for_bias(weight, bias, input_scale)
    steps = np.float32(input_scale) * found.scale
    assert np.all(found.scale > 0) and np.all(np.abs(bias) / steps <= 2.0**30 * 1.001)
    error = np.abs(found.dequantized() - weight.dequantized()).max((1, 2, 3))
    assert np.all(error <= np.maximum(np.abs(bias) / input_scale / 2**30, 1e-20))
    wide = found.scale == np.abs(weight.scale)
    assert np.array_equal(found.dequantized()[wide], weight.dequantized()[wide])
