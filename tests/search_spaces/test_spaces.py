"""Plans, knobs and spaces as data."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autocomp.search_spaces import (
    Argument,
    ChannelGroup,
    Convolution,
    Format,
    Knob,
    NetworkGraph,
    Node,
    NodeAttributes,
    Normalization,
    Plan,
    SearchSpace,
    kept_units,
)
from autocomp.search_spaces.quantized_tensors import Condition

values = st.one_of(st.sampled_from(["w8", "w4a8", "float"]), st.floats(0.1, 1), st.integers(0, 9))
plans = st.dictionaries(st.text(min_size=1, max_size=8), values, max_size=6)


class TestPlan:
    @settings(deadline=None)
    @given(plan=plans)
    def test_json_is_identity(self, plan: dict[str, str | float | int]) -> None:
        one, other = Plan(plan), Plan(dict(reversed(plan.items())))
        assert one == other and hash(one) == hash(other) and one.key == other.key
        assert Plan.parse(str(one)) == one and dict(one) == plan

    def test_key_is_stable(self) -> None:
        """A ledger of an older run must be found again."""
        plan = Plan({"keep/conv1": 0.5, "format/conv1": "w8a8"})
        assert str(plan) == '{"format/conv1":"w8a8","keep/conv1":0.5}'
        code = f"from autocomp.search_spaces import Plan; print(Plan.parse({str(plan)!r}).key)"
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert run.stdout.strip() == plan.key == "29da0fce487a8ed2"

    @pytest.mark.parametrize("text", ["[]", "3", '"x"'])
    def test_what_is_no_plan(self, text: str) -> None:
        with pytest.raises(ValueError, match="a plan is a JSON object of knob names and values, but got"):
            Plan.parse(text)


class TestFormat:
    @pytest.mark.parametrize(
        ("text", "bits"), [("float", (32, 32)), ("w8", (8, 32)), ("w8a8", (8, 8)), ("w4a8", (4, 8)), ("w2", (2, 32))]
    )
    def test_parse(self, text: str, bits: tuple[int, int]) -> None:
        found = Format.parse(text)
        assert (found.weight_bits, found.activation_bits) == bits and str(found) == text

    @pytest.mark.parametrize("text", ["w0", "w1a1", "w9", "a8", "int8", "w8a", ""])
    def test_what_is_none(self, text: str) -> None:
        with pytest.raises(ValueError, match=f"a format is 'float', .* but got {text!r}"):
            Format.parse(text)


class TestKeptUnits:
    @settings(deadline=None)
    @given(units=st.integers(1, 500), ratio=st.floats(0.01, 1), channel_divisor=st.integers(1, 32))
    def test_multiples(self, units: int, ratio: float, channel_divisor: int) -> None:
        kept = kept_units(units, ratio, channel_divisor)
        assert 1 <= kept <= units
        assert kept in (units,) or kept % channel_divisor == 0
        assert kept == units or abs(kept - ratio * units) <= max(
            channel_divisor / 2 + 1e-6, channel_divisor - ratio * units
        )

    @pytest.mark.parametrize("ratio", [0, -0.5, 1.5])
    def test_out_of_range(self, ratio: float) -> None:
        with pytest.raises(ValueError, match=rf"keep_ratio must be in \(0, 1\], but got keep_ratio={ratio}"):
            kept_units(16, ratio)


def space() -> SearchSpace:
    """Two layers; the first's 8 channels, in importance 7, 6, .. 0, are read by the second."""
    group = ChannelGroup("a", ("a",), 0, 8)
    weights = ((8, 3, 3, 3), (4, 8, 1, 1))
    nodes = (
        Node("x", "input", "Input", (), (1, 3, 6, 6), units=np.full(3, -1)),
        Node("a", "conv", "Conv2D", (0,), (1, 8, 6, 6), "a", weights[0], units=np.arange(8)),
        Node("b", "conv", "Conv2D", (1,), (1, 4, 6, 6), "b", weights[1], units=np.full(4, -1)),
    )
    graph = NetworkGraph(nodes, (2,), (group,))
    keep = Knob("keep/a", "p", ("a",), (1.0, 0.5, 0.25), group, np.arange(8)[::-1])
    return SearchSpace(graph, (Knob("format/a", "rtn", ("a",), ("float", "w8", "w4a8")), keep))


class TestSpace:
    def test_every_plan_there_and_back(self) -> None:
        one = space()
        seen = set()
        for vector in np.ndindex(*one.sizes):
            plan = one.decode(vector)
            assert tuple(one.encode(plan)) == vector
            seen.add(plan)
        assert len(seen) == 9 and one.log10_size == pytest.approx(np.log10(9))
        assert one.decode((0, 0)) == Plan()

    def test_random_vectors_are_of_the_space_and_seeded(self) -> None:
        one = space()
        drawn = one.random(np.random.default_rng(0), 500)
        assert drawn.shape == (500, 2) and drawn.min() == 0 and (drawn.max(0) == one.sizes - 1).all()
        np.testing.assert_array_equal(drawn, one.random(np.random.default_rng(0), 500))

    def test_most_important_units_are_kept(self) -> None:
        one = space()
        assert np.flatnonzero(one.kept(Plan({"keep/a": 0.25}))).tolist() == [6, 7]
        assert one.kept(Plan({"format/a": "w8"})).all()

    def test_formats(self) -> None:
        assert space().formats(Plan({"format/a": "w4a8", "keep/a": 0.5})) == {"a": Format(4, 8)}

    def test_workload(self) -> None:
        work = space().workload(np.array([[0, 0], [2, 1], [1, 2]]), batch=4)
        np.testing.assert_array_equal(work.channels, [[3, 8, 4], [3, 4, 4], [3, 2, 4]])
        np.testing.assert_array_equal(work.weight_bits, [[32, 32, 32], [32, 4, 32], [32, 8, 32]])
        np.testing.assert_array_equal(work.activation_bits, [[32, 32, 32], [32, 8, 32], [32, 32, 32]])
        assert len(work) == 3 and work.batch == 4

    def test_macs_of_the_float_network(self) -> None:
        assert space().graph.macs == 36 * (8 * 3 * 9 + 4 * 8)

    def test_unknown_knob_and_value(self) -> None:
        with pytest.raises(ValueError, match=r"unknown knob 'keep/b'; known: format/a, keep/a"):
            space().encode(Plan({"keep/b": 0.5}))
        with pytest.raises(ValueError, match=r"knob keep/a takes 1.0, 0.5, 0.25, but got 0.6"):
            space().encode(Plan({"keep/a": 0.6}))

    def test_knobs_stand_once(self) -> None:
        one = space()
        with pytest.raises(ValueError, match="may be in a search space once, but these are in it twice: format/a"):
            SearchSpace(one.graph, (one.knobs[0], one.knobs[0]))

    def test_values_are_distinct(self) -> None:
        with pytest.raises(ValueError, match="the values of knob format/a must be distinct and at least one"):
            Knob("format/a", "rtn", ("a",), ("w8", "w8"))

    def test_key_changes_with_the_order_of_units(self) -> None:
        one = space()
        knob = one.knobs[1]
        other = Knob(knob.name, knob.primitive, knob.layers, knob.values, knob.group, np.arange(8))
        assert one.key == space().key != SearchSpace(one.graph, (one.knobs[0], other)).key


def test_a_tensor_is_rounded_where_a_layer_of_each_set_runs_in_integers() -> None:
    chosen = {"a": np.array([True, True, False]), "b": np.array([True, False, True])}
    sets = (frozenset({"a"}), frozenset({"b", "elsewhere"}))
    assert Condition(all=sets, readers=frozenset({"a", "b"}))(chosen).tolist() == [True, False, False]
    nothing = Condition(all=(*sets, frozenset()), readers=frozenset({"a"}))(chosen)
    assert not np.any(nothing), "a set without layers never runs in integers"


class TestNodeAttributes:
    def test_a_convolution_has_its_window(self) -> None:
        window = Convolution((3, 1), (2, 2), (1, 1, 0, 0), (1, 2), 4, True)
        node = Node("a", "conv", "Conv2D", (), (1, 8, 4, 4), attributes=NodeAttributes(convolution=window))
        assert node.convolution is window and node.groups == 4 and node.transposed
        plain = Node("b", "conv", "Conv2D", (), (1, 8, 4, 4))
        assert plain.groups == 1 and not plain.transposed
        with pytest.raises(ValueError, match="b must be a convolution with a weight of its own, but it is a Conv2D"):
            plain.convolution  # noqa: B018

    def test_a_batchnorm_names_its_parameters_in_order(self) -> None:
        norm = Normalization("gamma", "beta", "mean", "variance", 1e-3)
        node = Node("bn", "batchnorm", "BatchNorm", (), (1, 8), attributes=NodeAttributes(normalization=norm))
        assert node.normalization is norm and norm.statistics == ("mean", "variance")
        assert norm.parameters == ("gamma", "beta", "mean", "variance")
        with pytest.raises(ValueError, match="layer must be a BatchNorm with statistics"):
            Node("layer", "batchnorm", "BatchNorm", (), (1, 8)).normalization  # noqa: B018

    def test_only_a_node_has_a_part_in_the_plain_form_of_an_argument(self) -> None:
        inner = (Argument("node", 3, 1), Argument("node", 2), Argument("parameter", "w"))
        plain = ("tuple", (("node", 3, 1), ("node", 2, 0), ("parameter", "w")))
        assert Argument("tuple", inner).plain == plain
        assert Argument("constant", (1, 2)).plain == ("constant", (1, 2))

    def test_a_misspelt_attribute_is_an_error(self) -> None:
        with pytest.raises(TypeError, match="kernell"):
            NodeAttributes(kernell=3)  # type: ignore[call-arg]
        with pytest.raises(AttributeError, match="constant"):
            NodeAttributes().constant  # type: ignore[attr-defined]  # noqa: B018

    def test_what_is_stored_and_hashed_stays_plain(self) -> None:
        """Keys of graphs are those of earlier versions, so that stored fronts and storages load."""
        arguments = (Argument("node", 0), Argument("parameter", "w"))
        attributes = NodeAttributes(arguments, (1,), {"group": 1, "x_names": ["a"]})
        nodes = (
            Node("in", "input", "Input", (), (1, 3, 8, 8)),
            Node("c", "conv", "Conv2D", (0,), (1, 4, 8, 8), "c", (4, 3, 1, 1), attributes),
        )
        assert NetworkGraph(nodes, (1,)).key == "617f762b948165228807ac6323ca5b58"
