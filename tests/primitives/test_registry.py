"""What holds for every registered primitive as a part of the search space, and for the example of a primitive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from autocomp.errors import NoEffectError
from autocomp.evaluators.skippable import skippable_blocks
from autocomp.primitives import register, registry
from autocomp.primitives.choices import Choices
from autocomp.primitives.numerics.plan_compressor import parameters_of
from autocomp.primitives.pruning.rated_pruning import RatedPruning
from autocomp.primitives.quantization.format_knobs import TrainedFormats
from autocomp.primitives.quantization.named_formats import NamedFormats
from autocomp.primitives.quantization.product_knobs import CACHE, PRODUCTS
from autocomp.primitives.registry import DEPTH, automatic, primitive, primitives, rated, search_space, trainers
from autocomp.primitives.tracing.tracer import trace
from autocomp.search_spaces import Format, Knob, NetworkGraph
from tests import third_party as third_party_examples
from tests.conftest import Subject
from tests.primitives.heads import Heads
from tests.primitives.quantization.small_llama import LENGTH, small_llama


class Renamed(TrainedFormats):
    """The knobs of SimQAT under another name."""

    def __init__(self) -> None:
        super().__init__("third-party", "SimQAT")


FORMATS = tuple(map(Format.parse, ("float", "w8", "w8a8", "w4", "w4a8")))
EMPTY = NetworkGraph((), ())


@pytest.fixture
def third_party(monkeypatch: pytest.MonkeyPatch) -> None:
    third_party_examples.add_primitive(monkeypatch)


def _with_blocks(subject: Subject) -> Subject:
    blocks = skippable_blocks(subject.net, subject.graph, (subject.x[:2],))
    return replace(subject, graph=replace(subject.graph, blocks=blocks))


def _with_heads(subject: Subject) -> Subject:
    net = Heads()
    return replace(subject, net=net, graph=trace(net, (subject.x[:1],)), parameters=parameters_of(net))


def _that_generates(subject: Subject) -> Subject:
    net = small_llama()
    graph = trace(net, (np.zeros((1, LENGTH), np.int32),))
    return replace(subject, net=net, graph=graph, parameters=parameters_of(net))


@pytest.fixture(params=(*primitives(), third_party_examples.PRIMITIVE))
def knobs(
    request: pytest.FixtureRequest, named_subject: Callable[[str], Subject], third_party: None
) -> tuple[Subject, tuple[Knob, ...]]:
    subject = _with_blocks(named_subject("deep")) if request.param in DEPTH else named_subject("residual")
    subject = named_subject("curved") if request.param == "activations" else subject
    subject = _with_heads(subject) if request.param in ("head-pruning", PRODUCTS) else subject
    subject = _that_generates(subject) if request.param == CACHE else subject
    made = primitive(request.param)
    if request.param in rated():
        made = RatedPruning(request.param, np.arange(subject.graph.unit_count, dtype=float))
    found = made.knobs(subject.graph, subject.parameters, FORMATS, 4, {})
    assert all(knob.primitive == made.name == request.param for knob in found)
    return subject, found


def test_knobs_bind_layers_of_the_graph(knobs: tuple[Subject, tuple[Knob, ...]]) -> None:
    subject, found = knobs
    assert found and len({knob.name for knob in found}) == len(found)
    for knob in found:
        assert knob.layers and set(knob.layers) <= set(subject.graph.multiplying)
        assert len(knob.values) > 1 and knob.values[0] in ("float", 1.0, "dense", "whole", "kept"), (
            "the first leaves the network as it is"
        )


def test_a_plan_of_any_values_can_be_carried_out(knobs: tuple[Subject, tuple[Knob, ...]]) -> None:
    subject, found = knobs
    name, importance = found[0].primitive, np.arange(subject.graph.unit_count, dtype=float)
    known = {name: importance} if name in rated() else {}
    choices = Choices(FORMATS, 4, name, importance=known, quantizes_tensors=True, ranges_of_rows=True, context=64)
    space = search_space(subject.graph, subject.parameters, choices)
    plan = space.decode(space.random(np.random.default_rng(0), 1)[0])
    assert space.kept(plan).any() and set(space.formats(plan)) <= set(subject.graph.multiplying)


def test_the_trained_ones_name_their_algorithm() -> None:
    for name in primitives():
        made = primitive(name)
        if isinstance(made, TrainedFormats):
            untrained = name == "adaround" or isinstance(made, NamedFormats)
            assert made.trains == (name in trainers()) != untrained
            found = made.algorithm(weight_bits=4, activation_bits=8)
            _, _, setting = name.partition("smooth-quant-")
            assert found.name == name.removesuffix(f"-{setting}")
            assert not setting or (found.dynamic if setting == "dynamic" else found.alpha == float(setting))


def test_slb_reaches_four_bits_at_most(named_subject: Callable[[str], Subject]) -> None:
    subject = named_subject("residual")
    found = primitive("slb").knobs(subject.graph, subject.parameters, FORMATS, 4, {})
    assert found[0].values == ("float", "w4", "w4a8")
    with pytest.raises(NoEffectError, match="slb found no number format"):
        primitive("slb").knobs(subject.graph, subject.parameters, FORMATS[:3], 4, {})


def test_auto_takes_what_needs_no_training(named_subject: Callable[[str], Subject]) -> None:
    subject = named_subject("residual")
    space = search_space(subject.graph, subject.parameters, Choices(FORMATS, 4))
    used = {name for knob in space.knobs for name in knob.every_primitive}
    assert used == set(automatic()) == {"channel-pruning", "rtn", "adaround"}


@pytest.mark.parametrize("included", [True, False])
def test_auto_takes_what_was_registered_after_import(
    included: bool, named_subject: Callable[[str], Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = named_subject("residual")
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    monkeypatch.setattr(registry, "_AUTOMATIC", ["channel-pruning"])
    register(Renamed(), automatic=included)
    space = search_space(subject.graph, subject.parameters, Choices(FORMATS, 4))
    assert ("third-party" in {name for knob in space.knobs for name in knob.every_primitive}) == included
    with pytest.raises(ValueError, match="a primitive called 'third-party' is already registered"):
        register(Renamed())


@pytest.mark.parametrize("name", [*primitives(), third_party_examples.PRIMITIVE])
def test_nothing_to_do_is_said(name: str, third_party: None) -> None:
    with pytest.raises(NoEffectError, match=name):
        primitive(name).knobs(EMPTY, {}, FORMATS, 4, {})


def test_unknown_names() -> None:
    with pytest.raises(ValueError, match=r"unknown primitive 'x'; known: .*rtn"):
        primitive("x")
