"""SmoothQuant, outlier suppression, AWQ and GPTQ as choices of a search, on a transformer with outliers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import autocomp
from autocomp.errors import ExportError, NoEffectError
from autocomp.hardware_models import CostTables, device
from autocomp.measurement.processor import TEMPLATE
from autocomp.primitives.cells.conversion import convert
from autocomp.primitives.cells.elastic import ElasticNetwork
from autocomp.primitives.cells.layers import RowsInput
from autocomp.primitives.choices import Choices
from autocomp.primitives.export.ascend.deployable import deployable_model
from autocomp.primitives.export.files import EXACT, ROUNDED, norm_error, run_onnx
from autocomp.primitives.export.onnx_network import onnx_network
from autocomp.primitives.export.onnx_writer import Style
from autocomp.primitives.numerics.quantizers import quantize_weight
from autocomp.primitives.numerics.scaled_inputs import migration_scales, rounded_rows
from autocomp.primitives.registry import search_space
from autocomp.primitives.tracing.mindir import copy_network
from autocomp.primitives.tracing.platform import forward, load_mindspore
from autocomp.primitives.tracing.tracer import trace
from autocomp.problem.jobs import evaluator_of
from autocomp.problem.scalings import PAYS, scalings_of, with_paying, without_scales
from autocomp.process.deadline import Deadline
from autocomp.search_spaces import Format, Plan, split_value
from tests.networks import Residual, Tokens, images, randomised, tokens

ms = load_mindspore()

from mindspore import nn  # noqa: E402

FORMATS = tuple(map(Format.parse, ("float", "w8", "w8a8", "w4", "w4a8")))
NAMES = ("rtn", "adaround", "gptq", "awq", "smoothing", "outlier-suppression")
LAYERS = ("query", "key", "value", "mix", "head")
X, OTHERS = tokens(48), tokens(8, seed=3)


def one_without_bias() -> Any:
    made = Tokens()
    made.mix = nn.Dense(16, 16, has_bias=False)
    return made


@pytest.fixture(scope="module")
def net() -> Any:
    """Two channels of the attention's input are 20 times the others."""
    made = randomised(one_without_bias())
    for table in (made.words.embedding_table, made.places.embedding_table):
        values = table.asnumpy().copy()
        values[:, 2:4] *= 20
        table.set_data(ms.Tensor(values))
    return made


@pytest.fixture(scope="module")
def graph(net: Any) -> Any:
    return trace(net, (X[:1],))


@pytest.fixture(scope="module")
def evaluator(net: Any, graph: Any) -> Any:
    return evaluator_of(net, graph, Choices(FORMATS, 4, NAMES, ranges_of_rows=True), (X,), None, (X,))


@pytest.fixture(scope="module")
def flowing(net: Any, graph: Any) -> Any:
    """For onnxruntime, which keeps tensors between layers in integers."""
    choices = Choices(FORMATS, 4, NAMES, quantizes_tensors=True, ranges_of_rows=True)
    return evaluator_of(net, graph, choices, (X,), None, (X,))


def file_of(made: Any, graph: Any, value: str) -> onnx.ModelProto:
    return onnx_network(graph, made.parameters, made.compress(plan_of(value)), Style(integer_weights=True))


def plan_of(value: str, layers: tuple[str, ...] = LAYERS) -> Plan:
    return Plan({f"format/{layer}": value for layer in layers})


def noise(evaluator: Any, value: str, layers: tuple[str, ...] = LAYERS) -> float:
    (outputs,) = evaluator.engine.outputs(evaluator.compress(plan_of(value, layers)), (X,))
    return norm_error(outputs, evaluator.plain_outputs[0])


class TestValues:
    def test_each_stands_behind_the_same_format(self, evaluator: Any) -> None:
        knob = next(knob for knob in evaluator.space.knobs if knob.name == "format/query")
        formats = [split_value(value)[0] for value in knob.values]
        order = [str(one) for one in FORMATS]
        assert list(dict.fromkeys(formats)) == ["float", "w8", "w8a8", "w4", "w4a8"]
        assert formats == sorted(formats, key=lambda text: order.index(str(text)))
        assert {"w4@gptq", "w4@awq", "w4a8@gptq", "w8a8@smooth-quant", "w4a8@smooth-quant-0.5"} <= set(knob.values)
        assert not {"w8@smooth-quant", "w8@awq", "w4a8@awq", "w8@gptq"} & set(knob.values), "not made for these"
        assert [knob.divides(v) for v in ("w8a8", "w4@gptq", "w4@awq", "w8a8@smooth-quant-0.75")] == [False] * 2 + [
            True
        ] * 2
        assert knob.primitive_of("w4") == "adaround" and knob.primitive_of("w4@awq") == "awq"

    def test_embeddings_have_none(self, evaluator: Any) -> None:
        words = next(knob for knob in evaluator.space.knobs if knob.name == "format/words")
        assert words.values == ("float", "w8", "w4@rtn")

    def test_alone_they_are_named_too(self, net: Any, graph: Any, evaluator: Any) -> None:
        space = search_space(graph, evaluator.parameters, Choices(FORMATS, 4, "smooth-quant"))
        assert space.knobs[0].values == ("float", "w8a8@smooth-quant", "w4a8@smooth-quant")
        workload = space.workload(np.array([[1] * len(space.knobs)]))
        assert all(workload.divided_of(graph.layers[layer]).all() for layer in LAYERS)

    def test_convolutions_take_no_scales(self) -> None:
        convolutions = randomised(Residual())
        found = trace(convolutions, (images(1),))
        knobs = search_space(found, {}, Choices(FORMATS, 4, ("rtn", "smooth-quant"))).knobs
        divided = {knob.layers[0] for knob in knobs if knob.dividing}
        assert divided and all(found.nodes[found.layers[layer]].kind == "dense" for layer in divided)
        with pytest.raises(NoEffectError, match=r"smooth-quant found no number format that it can reach"):
            search_space(found, {}, Choices(FORMATS[:2], 4, "smooth-quant"))


class TestNumbers:
    def test_scales_are_those_of_the_strength(self, net: Any, evaluator: Any) -> None:
        weights = [np.abs(getattr(net, layer).weight.asnumpy()).max(0) for layer in ("query", "key", "value")]
        state = evaluator.compress(plan_of("w8a8@smooth-quant-0.5")).layers["query"]
        (inputs,) = evaluator.engine.layer_inputs(evaluator.compressor(Plan()), (X,))["query"]
        peaks = np.abs(inputs.reshape(-1, 16)).max(0)
        np.testing.assert_allclose(state.scale, migration_scales(peaks, np.max(weights, 0), 0.5), rtol=1e-4)
        expected = quantize_weight(net.query.weight.asnumpy() * state.scale, 8)
        np.testing.assert_array_equal(state.quantized.integers, expected.integers)
        np.testing.assert_array_equal(
            state.scale, evaluator.compress(plan_of("w8a8@smooth-quant-0.5", ("key",))).layers["key"].scale
        )

    def test_outliers_are_smoothed_away(self, evaluator: Any) -> None:
        smooth, plain = (noise(evaluator, value, LAYERS[:3]) for value in ("w8a8@smooth-quant", "w8a8"))
        assert smooth < 0.6 * plain

    def test_channels_are_centred_and_biases_take_the_shift(self, net: Any, evaluator: Any) -> None:
        state = evaluator.compress(plan_of("w8a8@outlier-suppression")).layers["mix"]
        scaling = evaluator.compressor.scalings["mix", "w8a8", "outlier-suppression"]
        (inputs,) = evaluator.engine.layer_inputs(evaluator.compressor(Plan()), (X,))["mix"]
        rows = inputs.reshape(-1, 16)
        assert not scaling.shift.any() or np.allclose(scaling.shift, (rows.max(0) + rows.min(0)) / 2, atol=1e-5)
        np.testing.assert_allclose(state.bias, net.mix.weight.asnumpy() @ state.shift, rtol=1e-4, atol=1e-6)
        assert (state.scale >= 1).all()
        suppressed, plain = (noise(evaluator, value, LAYERS[:3]) for value in ("w8a8@outlier-suppression", "w8a8"))
        assert suppressed < 0.8 * plain

    @pytest.mark.parametrize("name", ["gptq", "awq"])
    def test_weights_alone_lose_less_than_to_nearest(self, net: Any, evaluator: Any, name: str) -> None:
        compress = evaluator.compressor
        patches = compress.patches["query"].damped(centred=True)[0]

        def loss(value: str) -> float:
            state = compress(plan_of(value)).layers["query"]
            weight = state.weight if state.scale is None else state.weight / state.scale
            error = weight - net.query.weight.asnumpy()
            return float(np.einsum("oi,ij,oj->", error, patches, error))

        nearest = quantize_weight(net.query.weight.asnumpy(), 4).dequantized() - net.query.weight.asnumpy()
        to_nearest = float(np.einsum("oi,ij,oj->", nearest, patches, nearest))
        assert loss(f"w4@{name}") < 0.9 * to_nearest
        assert loss("w4") <= loss(f"w4@{name}") or name == "awq"

    def test_cut_channels_take_their_scales_along(self, net: Any, evaluator: Any) -> None:
        """A layer that reads fewer channels has fewer scales."""
        compress, kept = evaluator.compressor, np.ones(evaluator.space.graph.unit_count, bool)
        knob = next(knob for knob in evaluator.space.knobs if knob.name == "format/mix")
        whole = compress.of(kept, {"mix": Format(8, 8)}, named={"mix": "smooth-quant"}).layers["mix"]
        assert knob.divides("w8a8@smooth-quant") and whole.scale is not None and len(whole.scale) == 16
        plain = compress.of(kept, {"mix": Format(8, 8)}).layers["mix"]
        assert plain.scale is None and plain.activation != whole.activation


class TestForms:
    def test_all_forms_agree_for_random_plans(self, net: Any, graph: Any, evaluator: Any, tmp_path: Path) -> None:
        elastic, inputs, seen = ElasticNetwork(net, graph, by_row=LAYERS, shifted=LAYERS), (OTHERS,), set()
        for vector in evaluator.space.random(np.random.default_rng(2), 6):
            plan = evaluator.space.decode(vector)
            compressed = evaluator.compress(plan)
            seen |= {split_value(value)[1] for value in dict(plan).values()}
            elastic.set(compressed)
            (expected,) = elastic(inputs)
            (converted,) = forward(convert(net, graph, evaluator.parameters, compressed), inputs, graph=False)
            (tmp_path / "net.onnx").write_bytes(
                onnx_network(graph, evaluator.parameters, compressed, Style(integer_weights=True)).SerializeToString()
            )
            found = [
                converted,
                run_onnx(tmp_path / "net.onnx", inputs)[0],
                evaluator.engine.outputs(compressed, inputs)[0],
            ]
            rounded = any(state.activation is not None for state in compressed.layers.values())
            assert (
                norm_error(expected, evaluator.plain_outputs[0][:0].sum() + forward(net, inputs, graph=False)[0]) > 1e-3
            )
            for one in found:
                assert norm_error(one, expected) < (ROUNDED if rounded else EXACT), plan
        assert {"gptq", "awq", "smooth-quant", "outlier-suppression"} <= seen

    def test_layers_with_scales_run_in_integers(self, flowing: Any, graph: Any) -> None:
        """onnxruntime's kernels need zero points of weights; tensors that layers divide first are not rounded."""
        compressed = flowing.compress(plan_of("w8a8@smooth-quant"))
        assert not compressed.tensors and flowing.compress(plan_of("w8a8")).tensors
        model = file_of(flowing, graph, "w8a8@smooth-quant")
        stored = {tensor.name for tensor in model.graph.initializer}
        assert all(f"{layer}.weight.zero_points" in stored for layer in LAYERS)
        divided = [node.output[0] for node in model.graph.node if node.output[0].endswith("#divided")]
        assert divided == ["query#divided", "mix#divided", "head#divided"], "layers that read one tensor share it"

    @pytest.mark.parametrize(
        "value", ["w8a8@smooth-quant", "w8a8@smooth-quant-dynamic", "w4@awq", "w8a8@outlier-suppression"]
    )
    def test_the_file_computes_what_was_evaluated(self, flowing: Any, graph: Any, tmp_path: Path, value: str) -> None:
        (tmp_path / "net.onnx").write_bytes(file_of(flowing, graph, value).SerializeToString())
        (mine,) = flowing.engine.outputs(flowing.compress(plan_of(value)), (OTHERS,))
        assert norm_error(run_onnx(tmp_path / "net.onnx", (OTHERS,))[0], mine) < ROUNDED


class TestRows:
    def test_each_row_has_a_range_of_its_own(self, net: Any, evaluator: Any) -> None:
        state = evaluator.compress(plan_of("w8a8@smooth-quant-dynamic")).layers["query"]
        assert state.row_bits == 8 and state.activation is None and state.scale is not None
        x = np.random.default_rng(0).normal(size=(6, 16)).astype(np.float32) * 10.0 ** np.arange(6)[:, None]
        found = forward(RowsInput(8), (x.astype(np.float32),), graph=False)[0]
        np.testing.assert_allclose(found, rounded_rows(x.astype(np.float32), 8), rtol=1e-6)

    def test_a_row_with_outliers_spoils_no_other(self, net: Any, graph: Any) -> None:
        """One token whose numbers are 200 times those of others."""
        loud = copy_network(net)
        table = loud.words.embedding_table.asnumpy().copy()
        table[7] *= 200
        loud.words.embedding_table.set_data(ms.Tensor(table))
        choices = Choices(FORMATS, 4, ("rtn", "smooth-quant", "smooth-quant-dynamic"), ranges_of_rows=True)
        made = evaluator_of(loud, graph, choices, (X,), None, (X,))
        assert noise(made, "w8a8@smooth-quant-dynamic", LAYERS[:3]) < 0.5 * noise(made, "w8a8@smooth-quant", LAYERS[:3])

    def test_rows_are_multiplied_as_integers(self, flowing: Any, graph: Any) -> None:
        model = file_of(flowing, graph, "w8a8@smooth-quant-dynamic")
        operators = [node.op_type for node in model.graph.node]
        assert operators.count("ReduceMax") == operators.count("QuantizeLinear") == 3
        stored = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
        assert all(stored[f"{layer}.weight"] == onnx.TensorProto.INT8 for layer in LAYERS)

    def test_a_runtime_without_them_is_said(self, graph: Any, evaluator: Any) -> None:
        with pytest.raises(NoEffectError, match=r"smooth-quant-dynamic gives each row .* onnxruntime does"):
            search_space(graph, evaluator.parameters, Choices(FORMATS, 4, ("rtn", "smooth-quant-dynamic")))
        space = search_space(graph, evaluator.parameters, Choices(FORMATS, 4, ("rtn", "smoothing")))
        assert not any(knob.ranging for knob in space.knobs) and any(knob.dividing for knob in space.knobs)

    def test_atc_takes_none(self, graph: Any, evaluator: Any) -> None:
        compressed = evaluator.compress(plan_of("w8a8@smooth-quant-dynamic"))
        with pytest.raises(ExportError, match="query rounds each row of its input with a range of its own"):
            deployable_model(graph, evaluator.parameters, compressed)


class TestCosts:
    @pytest.mark.parametrize("name", ["cpu", "ascend-310p3:mindspore"])
    def test_scales_cost_time_and_bytes(self, evaluator: Any, name: str) -> None:
        costs = CostTables(device(name), evaluator.space, 1)
        plain, smooth, one = (
            costs(evaluator.space.encode(plan)[None])[0]
            for plan in (plan_of("w8a8"), plan_of("w8a8@smooth-quant"), plan_of("w8a8@smooth-quant", ("mix",)))
        )
        assert smooth.latency_ms > plain.latency_ms and smooth.size_mb > plain.size_mb
        assert smooth.macs == plain.macs and one.latency_ms < smooth.latency_ms

    def test_ranges_of_rows_cost_more(self, flowing: Any) -> None:
        costs = CostTables(device(TEMPLATE), flowing.space, 1)
        plain, smooth, rows = (
            costs(flowing.space.encode(plan_of(value))[None])[0].latency_ms
            for value in ("w8a8", "w8a8@smooth-quant", "w8a8@smooth-quant-dynamic")
        )
        assert plain < smooth < rows

    @pytest.mark.parametrize("value", ["w8a8@smooth-quant", "w8a8@smooth-quant-dynamic"])
    def test_files_have_the_size_that_is_predicted(self, graph: Any, flowing: Any, value: str) -> None:
        costs = CostTables(device(TEMPLATE), flowing.space, 1)
        predicted = 1e6 * costs(flowing.space.encode(plan_of(value))[None])[0].size_mb
        assert predicted == pytest.approx(len(file_of(flowing, graph, value).SerializeToString()), rel=0.05)


class TestAutomatically:
    def test_they_are_offered_where_they_pay(self, graph: Any, evaluator: Any) -> None:
        choices = with_paying(Choices(FORMATS, 4), evaluator.compressor.scalings)
        space = search_space(graph, evaluator.parameters, choices)
        gains = {key: scaling.gain for key, scaling in evaluator.compressor.scalings.items()}
        assert choices.paying and gains["query", "w8a8", "smooth-quant"] <= PAYS
        for knob in space.knobs:
            for value in knob.values[1:]:
                some, primitive = split_value(value)
                assert not knob.divides(value) or gains[knob.layers[0], str(some), primitive] <= PAYS
        named = {split_value(value)[1] for knob in space.knobs for value in knob.values}
        assert "smooth-quant" in named and "smooth-quant-0.5" not in named

    def test_where_the_time_is_short_the_last_layers_get_none(self, graph: Any, evaluator: Any) -> None:
        plain, choices = evaluator.compress(Plan()), Choices(FORMATS, 4)
        found = scalings_of(evaluator.engine, graph, plain, (X,), choices, 0, Deadline(0.0))
        assert {layer for layer, _, _ in found} == {"query", "key", "value"}  # they read one tensor
        (note,) = without_scales(graph, found)
        assert (
            note.startswith("the time limit left no time to compare scales for the inputs of ") and "from mix" in note
        )
        assert without_scales(graph, evaluator.compressor.scalings) == ()

    def test_where_nothing_pays_there_are_none(self, graph: Any, evaluator: Any) -> None:
        worse = {key: replace(scaling, gain=0.9) for key, scaling in evaluator.compressor.scalings.items()}
        space = search_space(graph, evaluator.parameters, with_paying(Choices(FORMATS, 4), worse))
        assert not any(knob.dividing for knob in space.knobs)


@pytest.mark.parametrize("name", ["smooth-quant", "outlier-suppression"])
def test_a_search_saves_loads_and_rebuilds_them(net: Any, tmp_path: Path, name: str) -> None:
    front = autocomp.search(net, "size<95%", "cpu", X, primitives=name, trials=4, progress=False)
    point = next(point for point in front if point.plan)
    assert set(point.primitives) == {name}
    report = point.export(tmp_path / "net.onnx")
    assert report.max_relative_error < ROUNDED
    front.save(tmp_path / "front")
    loaded = next(one for one in autocomp.load(tmp_path / "front", net) if one.plan == point.plan)
    np.testing.assert_array_equal(
        forward(loaded.net, (OTHERS,), graph=False)[0], forward(point.net, (OTHERS,), graph=False)[0]
    )
    point.export(tmp_path / "net.safetensors")
    rebuilt = autocomp.rebuild(one_without_bias(), tmp_path / "net.safetensors")
    np.testing.assert_array_equal(
        forward(rebuilt, (OTHERS,), graph=False)[0], forward(point.net, (OTHERS,), graph=False)[0]
    )
