"""Embeddings as places of the search: their tables in 8 and 4 bits, in every form of a plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from autocomp.errors import ExportError
from autocomp.hardware_models import device
from autocomp.primitives.cells.conversion import convert
from autocomp.primitives.cells.elastic import ElasticNetwork
from autocomp.primitives.choices import Choices
from autocomp.primitives.export.ascend.deployable import deployable_model
from autocomp.primitives.export.files import EXACT, ROUNDED, export_mindir, norm_error, run_mindir, run_onnx
from autocomp.primitives.export.onnx_network import onnx_network
from autocomp.primitives.export.onnx_writer import Style
from autocomp.primitives.numerics.plan_compressor import CompressedWeights, PlanCompressor, parameters_of
from autocomp.primitives.quantization.rtn import RTN
from autocomp.primitives.registry import search_space
from autocomp.primitives.restrictions import Restrict
from autocomp.primitives.tracing.exclusion import excluded_layers
from autocomp.primitives.tracing.nodes import looks_up
from autocomp.primitives.tracing.platform import forward
from autocomp.primitives.tracing.tracer import trace
from autocomp.problem.unrounded import stays_float
from autocomp.samplers.papers.agents import Layer, layer_of
from autocomp.search_spaces import Format, NetworkGraph, Node, NodeAttributes, Plan, SearchSpace
from tests.networks import LENGTH, WORDS, nn, ops, randomised

WIDTH = 16
PLANS = {
    "w8": {"format/words": "w8"},
    "w4": {"format/words": "w4@rtn", "format/places": "w4@rtn"},
    "all": {"format/words": "w4@rtn", "format/places": "w8", "format/query": "w8a8", "format/head": "w4"},
}


@pytest.fixture(scope="module")
def subject(named_subject: Callable[[str], Any]) -> Any:
    return named_subject("tokens")


@pytest.fixture(scope="module")
def elastic(subject: Any) -> ElasticNetwork:
    return ElasticNetwork(subject.net, subject.graph)


def written(subject: Any, plan: Plan) -> onnx.ModelProto:
    compressed = subject.evaluator.compress(plan)
    return onnx_network(subject.graph, subject.parameters, compressed, Style(integer_weights=True))


def test_each_embedding_has_a_knob_with_formats_of_weights_alone(subject: Any) -> None:
    found = {knob.name: knob.values for knob in subject.space.knobs if knob.layers[0] in ("words", "places")}
    assert found == dict.fromkeys(("format/words", "format/places"), ("float", "w8", "w4@rtn"))
    assert not subject.graph.embeddings.keys() & subject.graph.layers.keys()


@pytest.mark.parametrize("name", PLANS)
def test_every_form_agrees(subject: Any, elastic: ElasticNetwork, tmp_path: Path, name: str) -> None:
    plan, x = Plan(PLANS[name]), (subject.x[:4],)
    compressed = subject.evaluator.compress(plan)
    elastic.set(compressed)
    (expected,) = elastic(x)
    assert norm_error(expected, subject.evaluator.plain_outputs[0][:4]) > 1e-4, "the plan changes nothing"
    net = convert(subject.net, subject.graph, subject.parameters, compressed)
    export_mindir(net, x, tmp_path / "net.mindir")
    (tmp_path / "net.onnx").write_bytes(written(subject, plan).SerializeToString())
    evaluated = subject.evaluator.engine.outputs(compressed, x)
    found = [evaluated, run_mindir(tmp_path / "net.mindir", x), run_onnx(tmp_path / "net.onnx", x)]
    errors = [norm_error(outputs[0], expected) for outputs in (forward(net, x, graph=False), *found)]
    assert max(errors) <= (ROUNDED if name == "all" else EXACT), errors


def test_the_elastic_network_comes_back_from_a_plan(subject: Any, elastic: ElasticNetwork) -> None:
    for plan in (Plan(PLANS["w4"]), Plan()):
        elastic.set(subject.evaluator.compress(plan))
    assert norm_error(elastic((subject.x[:4],))[0], subject.evaluator.plain_outputs[0][:4]) <= EXACT


def test_rows_are_rounded_to_the_nearest_levels_of_their_own(subject: Any) -> None:
    table, rounded = subject.parameters["words.embedding_table"], subject.evaluator.compress(Plan(PLANS["w8"]))
    found = rounded.tables["words"]
    assert set(rounded.tables) == {"words"} and found.scale.shape == (WORDS,)
    np.testing.assert_allclose(found.scale, np.abs(table).max(1) / 127, rtol=1e-6)
    assert (np.abs(found.dequantized() - table) <= found.scale[:, None] * 0.5001).all()


@pytest.mark.parametrize(("name", "width", "dtype"), [("w8", WIDTH, np.int8), ("w4", WIDTH // 2, np.uint8)])
def test_a_file_holds_integers_and_makes_floats_of_the_rows_that_are_read(
    subject: Any, name: str, width: int, dtype: Any
) -> None:
    graph = written(subject, Plan(PLANS[name])).graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    table = stored["words.embedding_table"]
    assert table.shape == (WORDS, width) and table.dtype == dtype
    assert [node.op_type for node in graph.node if "words.embedding_table" in node.input] == ["Gather"]
    assert not any(array.size >= WORDS * WIDTH for array in stored.values() if array.dtype == np.float32)


@pytest.mark.parametrize(("name", "width"), [("w8", WIDTH), ("w4", WIDTH // 2)])
def test_a_converted_network_holds_integers(subject: Any, name: str, width: int) -> None:
    compressed = subject.evaluator.compress(Plan(PLANS[name]))
    net = convert(subject.net, subject.graph, subject.parameters, compressed)
    table = net.words.embedding_table.asnumpy()
    assert table.shape == (WORDS, width) and table.dtype == np.int8


@pytest.mark.parametrize("form", ["onnx", "mindir"])
def test_the_size_that_is_predicted_is_that_of_the_file(subject: Any, tmp_path: Path, form: str) -> None:
    def size_of(plan: Plan) -> int:
        compressed = subject.evaluator.compress(plan)
        if form == "onnx":
            return len(written(subject, plan).SerializeToString())
        net = convert(subject.net, subject.graph, subject.parameters, compressed)
        export_mindir(net, (subject.x[:1],), tmp_path / "net.mindir")
        return (tmp_path / "net.mindir").stat().st_size

    cpu = device("cpu")
    chip = replace(cpu, data={**cpu.data, "container": form})
    plans = [Plan(), *(Plan({"format/words": value}) for value in ("w8", "w4@rtn"))]
    vectors = np.stack([subject.space.encode(plan) for plan in plans])
    predicted = 1e6 * chip.costs(subject.space.workload(vectors)).size_mb
    sizes = [size_of(plan) for plan in plans]
    for i in (1, 2):
        assert sizes[0] - sizes[i] == pytest.approx(predicted[0] - predicted[i], abs=40)


def test_memory_weights_and_traffic_are_those_of_the_integers(subject: Any) -> None:
    plans = [Plan({"format/words": value}) if value else Plan() for value in ("", "w8", "w4@rtn")]
    chip, vectors = device("cpu"), np.stack([subject.space.encode(plan) for plan in plans])
    cost = chip.costs(subject.space.workload(vectors))
    numbers, scales = WORDS * WIDTH, 4 * WORDS
    assert 1e6 * (cost.memory_mb[0] - cost.memory_mb[1]) == pytest.approx(numbers * 3 - scales)
    assert 1e6 * (cost.memory_mb[0] - cost.memory_mb[2]) == pytest.approx(numbers * 3.5 - scales)
    assert cost.weight_bytes[0] - cost.weight_bytes[1] == pytest.approx(numbers * 3)
    assert cost.params[0] == cost.params[1] == cost.params[2]
    rows = [chip.cost_table(subject.space.workload(vector[None])) for vector in vectors]
    read = [next(row.bytes for row in table if row.name == "words") for table in rows]
    assert read[0] - read[1] == 3 * LENGTH * WIDTH  # of the words that are read


def test_four_bits_are_offered_where_files_hold_them(subject: Any) -> None:
    forms = [Format.parse(text) for text in ("float", "w8", "w4")]

    def offered(bits: tuple[int, ...]) -> Any:
        space = search_space(subject.graph, subject.parameters, Choices(forms, 4, table_bits=bits))
        return {knob.name: knob.values for knob in space.knobs}

    assert offered((8, 4))["format/words"] == ("float", "w8", "w4@rtn")
    assert offered((8,))["format/words"] == ("float", "w8") and "format/words" not in offered(())
    bits = {name: device(name).table_bits for name in ("cpu", "ascend", "ascend-910b1:mindspore", "nvidia-a10")}
    assert bits == {"cpu": (8, 4), "ascend": (8,), "ascend-910b1:mindspore": (8, 4), "nvidia-a10": (8,)}


def test_a_quantizer_that_trains_rounds_the_embeddings_of_its_plan(subject: Any) -> None:
    rtn, x = RTN(), (subject.x[:4],)
    plan = {"format/words": "w4", "format/places": "w8", "format/head": "w8a8"}
    deployed = rtn.convert(rtn.apply(subject.net, calibrate=subject.x, plan=plan))
    assert deployed.words.embedding_table.asnumpy().shape == (WORDS, WIDTH // 2)
    assert deployed.places.embedding_table.asnumpy().dtype == np.int8
    changed = forward(deployed, x, graph=False)[0], subject.evaluator.plain_outputs[0][:4]
    assert EXACT < norm_error(*changed) < 0.3
    with pytest.raises(ValueError, match=r"layers: query, .*, words, places"):
        rtn.apply(subject.net, calibrate=subject.x, plan={"format/word": "w8"})


def test_an_agent_sees_the_size_of_an_embedding(subject: Any) -> None:
    knob = next(knob for knob in subject.space.knobs if knob.name == "format/words")
    assert layer_of(subject.space, knob) == Layer(channels_in=WORDS, channels_out=WIDTH, params=WORDS * WIDTH)


def test_an_embedding_stays_in_float_where_the_user_says_so(subject: Any) -> None:
    graph, forms = subject.graph, [Format.parse(text) for text in ("float", "w8", "w8a8")]
    excluded = excluded_layers(subject.net, graph, "words")
    restricted = ((frozenset({"places"}), Restrict("places", formats=["w8a8"])),)
    choices = Choices(forms, 4, "rtn", excluded=excluded, restrictions=restricted)
    space = search_space(graph, subject.parameters, choices)
    assert excluded == {"words"} and {knob.layers[0] for knob in space.knobs} == set(graph.layers)
    assert "words (Embedding)" in stays_float(subject.net, space)[0]


def test_a_row_of_odd_width_has_no_halves() -> None:
    def places(width: int) -> list[tuple[Any, ...]]:
        attributes = NodeAttributes(parameters=("t",), parameter_shapes=((7, width),), table="t")
        node = Node("words", "slice", "Gather", (0,), (1, 3, width), "words", attributes=attributes)
        graph = NetworkGraph((Node("x", "input", "Input", (), (1, 3)), node), (1,))
        return [knob.values for knob in RTN().knobs(graph, {}, [Format(8), Format(4)], 1, {})]

    assert places(6) == [("float", "w8", "w4")] and places(5) == [("float", "w8")]


class Others(nn.Cell):
    """Embeddings, one of them with a table that a head and another lookup read, too."""

    def __init__(self) -> None:
        super().__init__()
        self.lookup, self.plain = nn.EmbeddingLookup(20, 4), nn.Embedding(20, 4)
        self.tied, self.dense = nn.Embedding(20, 4), nn.Dense(4, 4)

    def construct(self, ids: Any) -> Any:
        x = self.lookup(ids) + self.plain(ids) + self.tied(ids)
        heads = ops.matmul(self.dense(x), self.tied.embedding_table.T)
        return heads, ops.gather(self.tied.embedding_table, ids * 0, 0)


@dataclass
class Kinds:
    net: Any
    graph: NetworkGraph
    parameters: dict[str, np.ndarray]
    space: SearchSpace

    def compressed(self, **chosen: str) -> CompressedWeights:
        plan = Plan({f"format/{path}": value for path, value in chosen.items()})
        return PlanCompressor(self.space, self.parameters)(plan)

    def written(self, **chosen: str) -> bytes:
        model = onnx_network(self.graph, self.parameters, self.compressed(**chosen), Style(integer_weights=True))
        return bytes(model.SerializeToString())


@pytest.fixture(scope="module")
def kinds() -> Kinds:
    net, x = randomised(Others()), np.arange(6, dtype=np.int32).reshape(2, 3)
    graph, parameters = trace(net, (x[:1],)), parameters_of(net)
    forms = [Format.parse(text) for text in ("float", "w8", "w4")]
    return Kinds(net, graph, parameters, search_space(graph, parameters, Choices(forms, 1, "rtn")))


def test_cells_that_give_rows_alone_are_embeddings(kinds: Kinds) -> None:
    nodes = kinds.graph.nodes
    found = {path: nodes[i].attributes.tied for path, i in kinds.graph.embeddings.items()}
    assert found == {"lookup": False, "plain": False, "tied": True}
    others = nn.EmbeddingLookup(20, 4, max_norm=1.0), nn.Embedding(20, 4, use_one_hot=True), nn.Dense(4, 4)
    assert looks_up(nn.EmbeddingLookup(20, 4)) and not any(map(looks_up, others))


@pytest.mark.parametrize("tied", ["w8", "w4@rtn"])
def test_a_tied_table_is_rounded_once_for_all_that_read_it(kinds: Kinds, tied: str) -> None:
    x = (np.arange(6, dtype=np.int32).reshape(2, 3),)
    compressed = kinds.compressed(lookup="w4@rtn", plain="w8", tied=tied)
    elastic, converted = (
        ElasticNetwork(kinds.net, kinds.graph),
        convert(kinds.net, kinds.graph, kinds.parameters, compressed),
    )
    elastic.set(compressed)
    expected, evaluated = elastic(x), onnx_network(kinds.graph, kinds.parameters, compressed).SerializeToString()
    file = kinds.written(lookup="w4@rtn", plain="w8", tied=tied)
    forms = (forward(converted, x, graph=False), run_onnx(evaluated, x), run_onnx(file, x))
    for found in forms:
        assert max(norm_error(a, b) for a, b in zip(found, expected, strict=True)) <= EXACT
    assert norm_error(expected[0], forward(kinds.net, x, graph=False)[0]) > 1e-3
    stored = [one for one in onnx.load_from_string(file).graph.initializer if one.name == "tied.embedding_table"]
    assert [one.data_type for one in stored] == [onnx.TensorProto.UINT8 if tied == "w4@rtn" else onnx.TensorProto.INT8]


def test_a_tied_table_saves_bytes_of_the_file_alone(kinds: Kinds) -> None:
    sizes = [len(kinds.written(**chosen)) for chosen in ({}, {"tied": "w8"}, {"tied": "w4@rtn"})]
    vectors = np.stack([kinds.space.encode(Plan({"format/tied": v} if v else {})) for v in ("", "w8", "w4@rtn")])
    cost = device("cpu").costs(kinds.space.workload(vectors))
    for i in (1, 2):
        assert sizes[0] - sizes[i] == pytest.approx(1e6 * (cost.size_mb[0] - cost.size_mb[i]), abs=60)
    assert cost.memory_mb[0] < cost.memory_mb[2] < cost.memory_mb[1]


def test_mindir_holds_no_tied_tables_in_integers(kinds: Kinds) -> None:
    forms = [Format.parse(text) for text in ("float", "w8")]
    space = search_space(kinds.graph, kinds.parameters, Choices(forms, 1, "rtn", tied_tables=False))
    assert {knob.name for knob in space.knobs} == {"format/lookup", "format/plain", "format/dense"}
    assert "tied (Embedding, whose table is read elsewhere, too)" in stays_float(kinds.net, space)[0]
    assert not device("ascend-910b1:mindspore").container.tied_tables and device("cpu").container.tied_tables


def test_a_table_in_half_bytes_has_no_form_for_atc(subject: Any) -> None:
    weights = (subject.graph, subject.parameters)
    with pytest.raises(ExportError, match="BitwiseAnd, which opset 14"):
        deployable_model(*weights, subject.evaluator.compress(Plan(PLANS["w4"])), 1)
