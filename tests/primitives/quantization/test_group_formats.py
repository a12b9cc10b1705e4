"""Weights with a scale for each group of inputs: as choices, in numbers, in files and in costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from mindspore import nn

import autocomp
from autocomp.hardware_models import CostTables, device
from autocomp.measurement.processor import TEMPLATE
from autocomp.primitives.cells.conversion import convert
from autocomp.primitives.cells.elastic import ElasticNetwork
from autocomp.primitives.choices import Choices
from autocomp.primitives.export.files import EXACT, norm_error, run_onnx
from autocomp.primitives.export.onnx_network import onnx_network
from autocomp.primitives.export.onnx_writer import Style
from autocomp.primitives.numerics.sequential_rounding import sequential_rounding
from autocomp.primitives.numerics.weight_grids import fit_grid
from autocomp.primitives.tracing.platform import forward
from autocomp.primitives.tracing.tracer import trace
from autocomp.problem.jobs import evaluator_of
from autocomp.search_spaces import Format, Plan

INPUTS, WIDE = 256, 384  # weights of 65,536 numbers and more are multiplied as they are stored
LAYERS = ("0", "2")


@pytest.fixture(scope="module")
def net() -> Any:
    """Weights of neighbouring inputs are of one size, which differs from group to group."""
    made = nn.SequentialCell(nn.Dense(INPUTS, WIDE), nn.ReLU(), nn.Dense(WIDE, 200), nn.ReLU(), nn.Dense(200, 5))
    for layer in LAYERS:
        weight = made[int(layer)].weight
        sizes = np.repeat(2.0 ** -(np.arange(weight.shape[1] // 32) % 4), 32)
        weight.set_data(autocomp_tensor(weight.asnumpy() * sizes))
    return made.set_train(False)


def autocomp_tensor(values: np.ndarray) -> Any:
    from mindspore import Tensor

    return Tensor(values.astype(np.float32))


@pytest.fixture(scope="module")
def evaluator(net: Any) -> Any:
    chip, x = device(TEMPLATE), np.random.default_rng(0).normal(size=(64, INPUTS)).astype(np.float32)
    names = ("channel-pruning", "rtn", "adaround", "gptq", "awq")
    choices = Choices(chip.formats, 8, names, quantizes_tensors=True, group_formats=chip.group_formats())
    return evaluator_of(net, trace(net, (x[:1],)), choices, (x,), None, (x,))


def plan_of(value: str, **more: Any) -> Plan:
    return Plan({f"format/{layer}": value for layer in LAYERS} | more)


def noise(evaluator: Any, value: str) -> float:
    (outputs,) = evaluator.engine.outputs(evaluator.compress(plan_of(value)), evaluator.inputs)
    return norm_error(outputs, evaluator.plain_outputs[0])


class TestFormat:
    def test_text_and_back(self) -> None:
        for text, expected in (("w4g32", Format(4, group=32)), ("w3g128", Format(3, group=128)), ("w4", Format(4))):
            assert Format.parse(text) == expected and str(expected) == text
        assert not Format.parse("w4g32").in_integers

    @pytest.mark.parametrize("text", ["w4g0", "w4g", "g32", "w4g32a8", "w4a8g32", "w9g32", "w4g-8", "w4g3.5"])
    def test_what_is_none(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"or 'w<bits>g<inputs that share a scale>', but got"):
            Format.parse(text)


class TestChoices:
    def test_they_stand_before_the_format_with_one_scale(self, evaluator: Any) -> None:
        knobs = {knob.name: knob.values for knob in evaluator.space.knobs}
        values = [v for v in knobs["format/0"] if str(v).startswith("w4") and "a8" not in str(v)]
        expected = ["w4g32@gptq", "w4g32@awq", "w4g128@gptq", "w4g128@awq", "w4", "w4@gptq", "w4@awq"]
        assert values == expected

    def test_not_where_groups_do_not_divide_the_inputs(self, evaluator: Any) -> None:
        last = next(knob for knob in evaluator.space.knobs if knob.name == "format/4")
        assert not any(some.group for some in last.formats), "200 inputs are no multiple of 32"

    def test_only_a_device_that_lists_sizes_offers_them(self) -> None:
        assert [str(some) for some in device("cpu").group_formats()] == ["w4g32", "w4g128"]
        assert device("ascend").group_formats() == device("gpu").group_formats() == ()


class TestNumbers:
    def test_gptq_rounds_on_the_grid_of_groups(self, net: Any, evaluator: Any) -> None:
        state = evaluator.compress(plan_of("w4g32@gptq")).layers["0"]
        weight = net[0].weight.asnumpy()
        grid = fit_grid(weight, 4, INPUTS // 32)
        found = sequential_rounding(weight, grid, evaluator.compressor.patches["0"].damped(centred=True)[0])
        np.testing.assert_array_equal(state.quantized.integers, grid.stored(found).integers)
        assert state.quantized.scale.shape == (WIDE, INPUTS // 32)

    def test_groups_lose_less_than_one_scale(self, evaluator: Any) -> None:
        for name in ("gptq", "awq"):
            assert noise(evaluator, f"w4g32@{name}") < 0.8 * noise(evaluator, f"w4@{name}")

    def test_of_cut_inputs_groups_are_the_largest_that_divide_them(self, evaluator: Any) -> None:
        keep = next(knob for knob in evaluator.space.knobs if knob.kind == "keep" and 0.5 in knob.values)
        state = evaluator.compress(plan_of("w4g128@gptq", **{keep.name: 0.5})).layers["2"]
        assert state.weight.shape[1] == WIDE // 2 and state.quantized.scale.shape == (200, 2)


class TestFiles:
    @pytest.mark.parametrize("value", ["w4g32@gptq", "w4g128@awq"])
    def test_every_form_computes_the_same(self, net: Any, evaluator: Any, tmp_path: Path, value: str) -> None:
        graph, compressed, x = evaluator.space.graph, evaluator.compress(plan_of(value)), evaluator.inputs[0][:1]
        (expected,) = evaluator.engine.outputs(compressed, (x,))
        elastic = ElasticNetwork(net, graph)
        elastic.set(compressed)
        found = [elastic((x,))[0]]
        found += forward(convert(net, graph, evaluator.parameters, compressed), (x,), graph=False)
        for packed in (True, False):
            model = onnx_network(graph, evaluator.parameters, compressed, Style(True, packed_dense=packed))
            (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
            found += run_onnx(tmp_path / "net.onnx", (x,))
        for one in found:
            assert norm_error(one, expected) < EXACT

    @pytest.mark.parametrize(("value", "block"), [("w4g32@gptq", 32), ("w4g128@awq", 128), ("w4", 128)])
    def test_one_row_is_multiplied_as_stored_and_the_size_is_predicted(
        self, evaluator: Any, value: str, block: int
    ) -> None:
        plan = plan_of(value)
        style = Style(integer_weights=True, packed_dense=True)
        model = onnx_network(evaluator.space.graph, evaluator.parameters, evaluator.compress(plan), style)
        blocks = [
            onnx.helper.get_attribute_value(one)
            for node in model.graph.node
            if node.op_type == "MatMulNBits"
            for one in node.attribute
            if one.name == "block_size"
        ]
        assert blocks == [block, block]
        (cost,) = CostTables(device(TEMPLATE), evaluator.space, 1)(evaluator.space.encode(plan)[None])
        assert 1e6 * cost.size_mb == pytest.approx(len(model.SerializeToString()), rel=0.002)

    def test_what_they_cost(self, evaluator: Any) -> None:
        costs = CostTables(device(TEMPLATE), evaluator.space, 1)
        small, large, one, whole = (
            costs(evaluator.space.encode(plan)[None])[0]
            for plan in (plan_of("w4g32@gptq"), plan_of("w4g128@gptq"), plan_of("w4"), Plan())
        )
        assert whole.size_mb > small.size_mb > large.size_mb > one.size_mb - 1e-9
        assert whole.latency_ms > small.latency_ms == one.latency_ms and small.memory_mb > large.memory_mb

    def test_rebuilt_from_a_plan(self, net: Any) -> None:
        made = nn.SequentialCell(nn.Dense(INPUTS, 8)).set_train(False)
        found = autocomp.rebuild(made, {"format/0": "w4g32@gptq"}, np.zeros((1, INPUTS), np.float32))
        assert found[0].weight.scale.shape == (8, INPUTS // 32, 1)
