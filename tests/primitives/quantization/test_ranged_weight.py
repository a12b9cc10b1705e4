"""Weights with zero points and with a scale for each part of a row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autocomp.primitives import RTN, SimQAT
from autocomp.primitives.cells.compression_state import state_of
from autocomp.primitives.cells.layers import StoredWeight
from autocomp.primitives.export.files import norm_error
from autocomp.primitives.export.onnx_network import onnx_network
from autocomp.primitives.export.onnx_writer import Style
from autocomp.primitives.numerics.plan_compressor import parameters_of
from autocomp.primitives.numerics.quantizers import quantize_weight
from autocomp.primitives.numerics.weight_grids import parts_of
from autocomp.primitives.quantization.ranged_weight import RangedWeight
from autocomp.primitives.tracing.platform import execution_mode, forward, load_mindspore
from autocomp.search_spaces import FLOAT_BITS
from tests.networks import NETWORKS, images, randomised

ms = load_mindspore()

import mindspore.dataset as ds  # noqa: E402
from mindspore import nn  # noqa: E402

RNG = np.random.default_rng(0)
WEIGHT = (RNG.normal(0, 0.3, (6, 8, 3, 3)) + RNG.normal(0, 0.3, (6, 1, 1, 1))).astype(np.float32)
X = images(32)


@given(inputs=st.integers(1, 200), at_most=st.integers(1, 200))
def test_parts_are_equal_and_no_larger_than_asked_for(inputs: int, at_most: int) -> None:
    parts = parts_of(inputs, at_most)
    assert inputs % parts == 0 and inputs // parts <= at_most
    if inputs % at_most == 0:
        assert inputs // parts == at_most


def from_the_formulas(weight: np.ndarray, bits: int, parts: int) -> np.ndarray:
    """Krishnamoorthi 2018, section 2.1, in float64, a part of a row at a time."""
    parted = weight.astype(np.float64).reshape(len(weight) * parts, -1)
    expected = np.empty_like(parted)
    for i, row in enumerate(parted):
        low, high = min(row.min(), 0), max(row.max(), 0)
        scale = (high - low) / (2**bits - 1)
        zero = np.floor(-low / scale + 0.5)
        expected[i] = (np.clip(np.round(row / scale) + zero, 0, 2**bits - 1) - zero) * scale
    return expected.reshape(weight.shape)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("inputs", [None, 4, 3])
def test_zero_points_follow_the_formulas(bits: int, inputs: int | None) -> None:
    cell = RangedWeight(WEIGHT, symmetric=False, inputs=inputs, clip="max")
    cell.set_bits(bits, WEIGHT)
    parts = {None: 1, 4: 2, 3: 4}[inputs]
    found = forward(cell, (WEIGHT,), graph=False)[0]
    assert norm_error(found, from_the_formulas(WEIGHT, bits, parts)) < 1e-5
    quantized = cell.quantized(WEIGHT)
    assert quantized is not None and quantized.scale.shape == ((6,) if parts == 1 else (6, parts))
    np.testing.assert_allclose(quantized.dequantized(), found, rtol=0, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 8), st.booleans(), st.sampled_from([None, 1, 2, 4]), st.integers(0, 99))
def test_what_is_stored_is_what_was_rounded(bits: int, symmetric: bool, inputs: int | None, seed: int) -> None:
    weight = np.random.default_rng(seed).normal(0.1, 1, (3, 4, 3)).astype(np.float32)
    cell = RangedWeight(weight, symmetric, inputs)
    cell.set_bits(bits, weight)
    quantized = cell.quantized(weight)
    assert quantized is not None and quantized.bits == bits
    if bits < 8:
        assert quantized.integers.min() >= -(2 ** (bits - 1)) and quantized.integers.max() < 2 ** (bits - 1)
    np.testing.assert_allclose(StoredWeight(quantized)().asnumpy(), quantized.dequantized(), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(forward(cell, (weight,), graph=False)[0], quantized.dequantized(), atol=1e-5)


def test_more_freedom_errs_less() -> None:
    def error(**more: Any) -> float:
        cell = RangedWeight(WEIGHT, **more)
        cell.set_bits(3, WEIGHT)
        quantized = cell.quantized(WEIGHT)
        assert quantized is not None
        return float(((quantized.dequantized() - WEIGHT) ** 2).mean())

    plain = float(((quantize_weight(WEIGHT, 3).dequantized() - WEIGHT) ** 2).mean())
    assert error() == pytest.approx(plain, rel=0.1)
    assert error(symmetric=False) < 0.9 * error()
    assert error(inputs=2) < 0.9 * error()
    assert error(symmetric=False, inputs=2) < error(symmetric=False)
    assert error(symmetric=False) <= error(symmetric=False, clip="max")


def test_a_negative_scale_turns_the_integers() -> None:
    cell = RangedWeight(WEIGHT, symmetric=False, inputs=4)
    cell.set_bits(4, WEIGHT)
    quantized = cell.quantized(WEIGHT)
    assert quantized is not None
    factor = np.array([1, -1, 2, -0.5, 1, -3], np.float32)
    to_out_first_layout = quantized.times(factor).with_positive_scale()
    assert (
        (to_out_first_layout.scale > 0).all()
        and to_out_first_layout.integers.min() >= -8
        and to_out_first_layout.integers.max() <= 7
    )
    expected = quantized.dequantized() * factor.reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(to_out_first_layout.dequantized(), expected, rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def grouped() -> tuple[Any, Any, Any]:
    net = randomised(NETWORKS["residual"]())
    rtn = RTN(4, 8, symmetric_weights=False, group_size=4)
    return net, rtn, rtn.apply(net, calibrate=X)


def test_a_network_in_groups_is_converted_and_exported(grouped: tuple[Any, Any, Any], tmp_path: Path) -> None:
    net, rtn, net_q = grouped
    deployed = rtn.convert(net_q)
    stored = {p.name: p.asnumpy() for p in deployed.get_parameters()}
    integers = {name: value for name, value in stored.items() if name.endswith("weight") and value.dtype == np.int8}
    assert len(integers) == len(state_of(net_q).layers)
    expected = forward(net_q, (X,), graph=False)[0]
    assert norm_error(forward(deployed, (X,), graph=False)[0], expected) < 0.05
    assert norm_error(forward(net, (X,), graph=False)[0], expected) > 1e-3
    ms.export(deployed, ms.Tensor(X[:4]), file_name=str(tmp_path / "d"), file_format="MINDIR")
    loaded = nn.GraphCell(ms.load(str(tmp_path / "d.mindir")))
    with execution_mode(graph=True):
        found = loaded(ms.Tensor(X[:4])).asnumpy()
    np.testing.assert_allclose(found, forward(deployed, (X[:4],), graph=False)[0], rtol=1e-5, atol=1e-6)


def test_groups_cost_less_accuracy_than_rows(grouped: tuple[Any, Any, Any]) -> None:
    net = grouped[0]
    expected = forward(net, (X,), graph=False)[0]

    def error(**more: Any) -> float:
        rtn = RTN(3, FLOAT_BITS, first_last_bits=8, **more)
        return norm_error(forward(rtn.convert(rtn.apply(net, inputs=X[:1])), (X,), graph=False)[0], expected)

    assert error(group_size=2) < error()


def test_onnxruntime_computes_the_same(grouped: tuple[Any, Any, Any]) -> None:
    import onnxruntime

    net, rtn, net_q = grouped
    compressed = rtn._algorithm.quantized(net_q)
    model = onnx_network(state_of(net_q).graph, parameters_of(net), compressed, Style(integer_weights=True))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = np.asarray(session.run(None, {session.get_inputs()[0].name: X})[0])
    assert norm_error(found, forward(rtn.convert(net_q), (X,), graph=False)[0]) < 0.05


def test_zero_points_train() -> None:
    net = randomised(NETWORKS["concatenating"]())
    algorithm = SimQAT(4, 8, symmetric_weights=False)
    net_q = algorithm.apply(net, calibrate=X)
    y = np.arange(len(X), dtype=np.int32) % 5
    dataset = ds.NumpySlicesDataset((X, y), ["image", "label"], shuffle=False).batch(16)
    before = forward(net_q, (X,), graph=False)[0]
    loss = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    optimizer = nn.Momentum(net_q.trainable_params(), 0.01, 0.9)
    with execution_mode(graph=True):
        ms.Model(net_q, loss, optimizer).train(1, dataset, algorithm.callbacks(), dataset_sink_mode=False)
    found = forward(net_q, (X,), graph=False)[0]
    assert norm_error(found, before) > 1e-3
    assert norm_error(forward(algorithm.convert(net_q), (X,), graph=False)[0], found) < 0.05


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"group_size": 0}, "group_size must be 1 or more inputs of a channel"),
        ({"group_size": 8, "per_channel": False}, "group_size must be 1 or more inputs of a channel"),
        ({"symmetric_weights": False, "per_channel": False}, "symmetric_weights=False needs per_channel=True"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RTN(**arguments).apply(NETWORKS["concatenating"](), calibrate=X)
