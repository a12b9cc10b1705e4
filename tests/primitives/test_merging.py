"""One knob for each place: what is chosen, and which primitive carries it out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from autocomp.errors import NoEffectError
from autocomp.primitives.choices import Choices
from autocomp.primitives.numerics.plan_compressor import PlanCompressor
from autocomp.primitives.registry import primitives, search_space
from autocomp.search_spaces import Format, Knob, Plan, SearchSpace, carried_out_by, split_value
from tests.conftest import Subject

FORMATS = tuple(map(Format.parse, ("float", "w8", "w8a8", "w4", "w4a8")))
ORDERS = ("channel-pruning", "magnitude", "taylor")


@pytest.fixture
def subject(named_subject: Callable[[str], Subject]) -> Subject:
    return named_subject("residual")


def space_of(subject: Subject, *names: str, trains: bool = False) -> SearchSpace:
    importance = {"taylor": np.arange(subject.graph.unit_count, dtype=float)}
    choices = Choices(FORMATS, 4, names or "auto", trains=trains, importance=importance)
    return search_space(subject.graph, subject.parameters, choices, subject.evaluator.compressor.moments)


def knob_of(space: SearchSpace, kind: str) -> Knob:
    return next(knob for knob in space.knobs if knob.kind == kind)


@pytest.mark.parametrize("value", ["w4a8", "float", 0.5, "rank-0.5", "2:4"])
def test_a_value_and_its_primitive_are_told_apart(value: str | float) -> None:
    assert split_value(carried_out_by(value, "lsq")) == (value, "lsq") and split_value(value) == (value, "")


class TestFormats:
    def test_each_algorithm_rounds_in_its_own_way(self, subject: Subject) -> None:
        spaces = {name: space_of(subject, name) for name in ("rtn", "adaround", "simqat", "lsq", "pact")}
        values = {name: knob_of(space, "format").values for name, space in spaces.items()}
        assert values["rtn"] == ("float", "w8", "w8a8", "w4@rtn", "w4a8@rtn")
        assert values["adaround"] == ("float", "w8", "w8a8", "w4", "w4a8")
        assert values["lsq"] == ("float", *(f"{value}@lsq" for value in ("w8", "w8a8", "w4", "w4a8")))
        assert len(set(values.values())) == len(values)

    def test_of_two_that_cost_the_same_the_better_one_is_offered(self, subject: Subject) -> None:
        for names in (("rtn", "adaround"), ("adaround", "rtn"), ("post-training",)):
            knob = knob_of(space_of(subject, *names), "format")
            assert knob.values == ("float", "w8", "w8a8", "w4", "w4a8")
            first = names[0].replace("post-training", "rtn")
            assert [*map(knob.primitive_of, knob.values[1:])] == [first, first, "adaround", "adaround"]

    def test_to_nearest_is_not_for_the_least_error_of_the_output(self, subject: Subject) -> None:
        known = subject.evaluator.compressor
        nodes = subject.graph.nodes
        layer = next(path for path, i in subject.graph.layers.items() if path in known.patches and nodes[i].groups == 1)
        rounded = {}
        for name in ("rtn", "adaround"):
            space = space_of(subject, name)
            compress = PlanCompressor(space, subject.parameters, known.ranges, known.moments, known.patches)
            value = next(v for v in space.knobs[0].values if split_value(v)[0] == "w4")
            rounded[name] = compress(Plan({f"format/{layer}": value})).layers[layer].weight
        weight = PlanCompressor(SearchSpace(subject.graph, ()), subject.parameters)(Plan()).layers[layer].weight
        damped = known.patches[layer].damped(centred=True)
        hessian = damped.reshape(-1, *damped.shape[-2:])[0]
        errors = {name: (w - weight).reshape(len(weight), -1) for name, w in rounded.items()}
        loss = {name: float(np.einsum("oi,ij,oj->", e, hessian, e)) for name, e in errors.items()}
        assert loss["adaround"] < 0.99 * loss["rtn"]

    def test_trainers_carry_out_what_others_offer(self, subject: Subject) -> None:
        space = space_of(subject, "rtn", "adaround", "lsq", "slb", trains=True)
        knob = knob_of(space, "format")
        assert knob.values == ("float", "w8", "w8a8", "w4", "w4a8") and knob.trainers == ("lsq", "slb")
        plain, trained = Plan({knob.name: "w4a8"}), Plan({knob.name: "w4a8@lsq"})
        assert (space.encode(plain) == space.encode(trained)).all()
        assert space.formats(plain) == space.formats(trained)
        assert (space.primitives(plain), space.primitives(trained)) == ({knob.name: "adaround"}, {knob.name: "lsq"})
        with pytest.raises(ValueError, match=r"knob format/\S+ takes float, .*, but got 'w4a8@pact'"):
            space.encode(Plan({knob.name: "w4a8@pact"}))

    def test_auto_trains_where_there_are_samples_to_train_on(self, subject: Subject) -> None:
        assert knob_of(space_of(subject, trains=True), "format").trainers == ("lsq", "slb")
        assert knob_of(space_of(subject), "format").trainers == ()
        assert space_of(subject, trains=True).key == space_of(subject).key, "the same plans are evaluated first"


class TestOrders:
    def test_each_ratio_in_each_order(self, subject: Subject) -> None:
        space = space_of(subject, *ORDERS)
        (alone,) = (knob_of(space_of(subject, "channel-pruning"), "keep"),)
        knob = knob_of(space, "keep")
        assert len(knob.values) == 1 + 3 * (len(alone.values) - 1)
        ratios = [float(split_value(value)[0]) for value in knob.values]
        assert ratios == sorted(ratios, reverse=True)
        for value in knob.values[1:]:
            ratio, name = split_value(value)
            units = knob.kept[knob.index(value)]
            expected = alone.kept[alone.index(ratio)] if not name else None
            assert units.sum() == alone.kept[alone.index(ratio)].sum()
            assert expected is None or (units == expected).all()
            assert knob.primitive_of(value) == (name or "channel-pruning")

    def test_the_most_important_units_stay(self, subject: Subject) -> None:
        knob = knob_of(space_of(subject, *ORDERS), "keep")
        value = next(v for v in knob.values if split_value(v)[1] == "taylor")
        kept = knob.kept[knob.index(value)]
        assert kept[-1] and not kept[0] and (np.diff(kept.astype(int)) >= 0).all(), "importance rises with the unit"

    def test_plans_of_two_orders_differ_in_numbers_alone(self, subject: Subject) -> None:
        space = space_of(subject, *ORDERS)
        knob = knob_of(space, "keep")
        plans = [space.encode(Plan({knob.name: value})) for value in knob.values if split_value(value)[0] == 0.5]
        assert len(plans) == 3
        workload = space.workload(np.stack(plans))
        assert (workload.channels == workload.channels[0]).all()

    def test_a_rating_needs_labelled_samples(self, subject: Subject) -> None:
        with pytest.raises(NoEffectError, match=r"scop rates channels by the loss of labelled samples: give data="):
            space_of(subject, "scop")


def test_groups_are_names_for_several(subject: Subject) -> None:
    space = space_of(subject, "post-training", "channel-pruning")
    assert space.key == space_of(subject, "rtn", "adaround", "channel-pruning").key
    assert {"scop", "taylor", "unipruning", "magnitude", "geometric-median"} <= set(primitives())
