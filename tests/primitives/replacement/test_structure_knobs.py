"""Knobs for the structure of layers: where there are some, what they exclude, what excludes them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from autocomp.errors import NoEffectError
from autocomp.hardware_models import device
from autocomp.primitives.choices import Choices
from autocomp.primitives.numerics.first_last_layers import first_and_last
from autocomp.primitives.numerics.layer_fits.factorisation import OutputBasis, factorised
from autocomp.primitives.numerics.layer_fits.ghost_fit import ghosted
from autocomp.primitives.registry import expanded, primitive, search_space
from autocomp.primitives.restrictions import Restrict
from autocomp.problem.gains import device_gains, not_offered
from autocomp.search_spaces import Format, LayerChain, NetworkGraph, Plan, SearchSpace
from tests.conftest import Subject

FORMATS = tuple(map(Format.parse, ("float", "w8", "w8a8", "w4", "w4a8")))
RANK = "rank0.5@low-rank"


@pytest.fixture(scope="module")
def residual(named_subject: Callable[[str], Subject]) -> Subject:
    return named_subject("residual")


def _space(subject: Subject, choices: Choices) -> SearchSpace:
    return search_space(subject.graph, subject.parameters, choices)


def test_layers_that_are_cheaper_as_two_have_a_knob(named_subject: Callable[[str], Subject]) -> None:
    subject = named_subject("depthwise")
    knobs = {knob.layers[0]: knob for knob in primitive("low-rank").knobs(subject.graph, {}, FORMATS, 4, {})}
    groups = {layer: subject.graph.nodes[i].groups for layer, i in subject.graph.layers.items()}
    assert knobs and all(groups[layer] == 1 for layer in knobs) and set(groups.values()) != {1}
    for layer, knob in knobs.items():
        assert knob.values[0] == "whole" and knob.primitive == "low-rank" and knob.kind == "structure"
        macs = [sum(node.macs for node in knob.chains[value].nodes) for value in knob.values[1:]]
        assert subject.graph.nodes[subject.graph.layers[layer]].macs > macs[0]
        assert macs == sorted(macs, reverse=True), "from mild to strong"


def test_a_network_without_such_layers_is_refused(residual: Subject) -> None:
    with pytest.raises(NoEffectError, match="low-rank found no layer that is cheaper as a product of two"):
        primitive("low-rank").knobs(NetworkGraph((), ()), {}, FORMATS, 4, {})


def test_a_group_needs_one_member_that_finds_something(named_subject: Callable[[str], Subject]) -> None:
    assert set(expanded(["operators"])) == {
        "low-rank",
        "ghost",
        "smaller-kernel",
        "grouped",
        "separable",
        "activations",
    }
    flat = named_subject("sounds")
    knobs = _space(flat, Choices(FORMATS, 4, "operators")).knobs
    assert knobs and {knob.primitive for knob in knobs} == {"low-rank"}
    with pytest.raises(NoEffectError, match="ghost found no convolution"):
        _space(flat, Choices(FORMATS, 4, ("low-rank", "ghost")))


def test_values_that_a_device_does_not_gain_from_are_not_offered(residual: Subject) -> None:
    chip, names = device("cpu"), ("low-rank", "ghost")
    gains = device_gains(chip, residual.graph, 1, names)
    offered = _space(residual, Choices(FORMATS, 4, names, gains=gains))
    assert {knob.name: set(knob.values[1:]) for knob in offered.knobs} == {k: set(v) for k, v in gains.items()}
    every = _space(residual, Choices(FORMATS, 4, names))
    left = {(knob.layers[0], value) for knob in every.knobs for value in knob.values[1:]}
    left -= {(knob.layers[0], value) for knob in offered.knobs for value in knob.values[1:]}
    assert left, "a stem of three channels does not gain"
    (note,) = not_offered(chip, residual.graph, gains, names)
    assert note.startswith("not offered, since they make the network neither faster nor smaller on cpu: ")
    assert all(layer in note for layer, _ in left)
    assert not not_offered(chip, residual.graph, {knob.name: knob.values for knob in every.knobs}, names)
    with pytest.raises(NoEffectError, match="no other layers make this network faster or smaller here"):
        _space(residual, Choices(FORMATS, 4, names, gains={}))
    with_formats = _space(residual, Choices(FORMATS, 4, ("ghost", "rtn"), gains={}))
    assert {knob.kind for knob in with_formats.knobs} == {"format"}


def test_excluded_and_restricted_layers_stay_whole(residual: Subject) -> None:
    restrictions = ((frozenset(["stem"]), Restrict("stem", primitives=["rtn"])),)
    space = _space(
        residual, Choices(FORMATS, 4, ("rtn", "low-rank"), excluded=frozenset(["head"]), restrictions=restrictions)
    )
    replaced = set(space.chains)
    assert "blocks.0.conv2" in replaced and not replaced & {"head", "stem"}


def test_values_of_a_space_have_keys_of_their_own(residual: Subject) -> None:
    without = _space(residual, Choices(FORMATS, 4, ("rtn",)))
    assert _space(residual, Choices(FORMATS, 4, ("rtn", "low-rank"))).key != without.key


def test_zeros_lie_in_the_layers_of_a_chain(residual: Subject) -> None:
    space = _space(residual, Choices(FORMATS, 4, ("low-rank", "sparsity")))
    plan = Plan({"structure/blocks.0.conv2": RANK, "sparsity/blocks.0.conv2": "2:4"})
    assert space.decode(space.encode(plan)) == plan
    parts = space.structure(plan)["blocks.0.conv2"].layers
    assert space.of_plan(plan).sparse(plan) == set(parts)


def test_a_chain_that_takes_no_zeros_excludes_them(residual: Subject) -> None:
    space = _space(residual, Choices(FORMATS, 4, ("low-rank", "sparsity")))
    position = [knob.name for knob in space.knobs].index("structure/blocks.0.conv2")
    chains = space.knobs[position].chains
    for value, chain in chains.items():
        chains[value] = LayerChain(chain.nodes, sparse=False)  # type: ignore[index]
    plan = {"structure/blocks.0.conv2": RANK, "sparsity/blocks.0.conv2": "2:4", "sparsity/head": "2:4"}
    with pytest.raises(ValueError, match=r"whose structure changes cannot be sparse, but got sparsity/blocks.0.conv2"):
        space.encode(Plan(plan))
    vector = space.encode(Plan({"sparsity/blocks.0.conv2": "2:4", "sparsity/head": "2:4"}))
    vector[position] = space.knobs[position].index(RANK)
    assert space.decode(vector) == Plan({"structure/blocks.0.conv2": RANK, "sparsity/head": "2:4"})
    assert not space.workload(vector).specialised.space.sparse(space.decode(vector)) & {*chains[RANK].layers}


def test_layers_that_plans_cut_to_odd_numbers_have_no_ghost(residual: Subject) -> None:
    by_divisor = {
        divisor: _space(residual, Choices(FORMATS, divisor, ("ghost", "channel-pruning"))).chains for divisor in (4, 3)
    }
    assert {"blocks.0.conv1", "blocks.0.conv2", "blocks.1.conv1", "blocks.1.conv2"} == set(by_divisor[4])
    assert "blocks.0.conv1" not in by_divisor[3]
    alone = _space(residual, Choices(FORMATS, 1, ("ghost", "rtn"))).chains
    assert set(alone) == set(by_divisor[4]), "without cuts every layer has an even number"


def test_ghost_and_zeros_exclude_each_other(residual: Subject) -> None:
    space = _space(residual, Choices(FORMATS, 4, ("ghost", "sparsity")))
    plan = Plan({"structure/blocks.0.conv2": "ghost2@ghost", "sparsity/blocks.0.conv2": "2:4"})
    with pytest.raises(ValueError, match="whose structure changes cannot be sparse"):
        space.encode(plan)


def test_first_and_last_layers_have_no_ghost(named_subject: Callable[[str], Subject]) -> None:
    subject = named_subject("depthwise")
    knobs = primitive("ghost").knobs(subject.graph, {}, FORMATS, 4, {})
    nodes = [subject.graph.nodes[subject.graph.layers[knob.layers[0]]] for knob in knobs]
    assert nodes and all(node.kind == "conv" and node.groups == 1 for node in nodes)
    assert not {knob.layers[0] for knob in knobs} & first_and_last(subject.graph)


def test_ghost_kernels_are_fitted_to_the_outputs() -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((6, 4)).astype(np.float32)
    weight[1] = 2 * weight[0]  # one channel of the first pair is a multiple of the other
    around = (rng.standard_normal((400, 9, 4)) + 1).astype(np.float32)
    wanted = around[:, 4] @ weight.T
    errors = []
    for known in (None, around):
        found = ghosted(weight[:, :, None, None], known, centred=True)
        assert found.first is not None
        computed = np.repeat(around @ found.first[:, :, 0, 0].T, 2, axis=2)
        made = (computed * found.last.reshape(6, 9).T).sum(1) + found.shift
        errors.append(np.square(made - wanted).sum(0))
    assert errors[1][:2].sum() < 1e-3 * np.square(wanted[:, :2]).sum(), "a multiple is made exactly"
    assert errors[1].sum() < 0.9 * errors[0].sum()


def test_samples_make_the_product_nearer_in_the_output() -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((12, 10)).astype(np.float32)
    samples = (rng.standard_normal((500, 10)) * np.linspace(0.1, 3, 10) + 1).astype(np.float32)
    errors = []
    for known in (None, samples):
        found = factorised(weight, 4, known, OutputBasis.of(weight, known, True))
        assert found.first is not None
        outputs = samples @ (found.last @ found.first).T + found.shift
        errors.append(float(np.square(outputs - samples @ weight.T).sum()))
    assert errors[1] < 0.9 * errors[0]
    whole = factorised(weight, 10, samples, OutputBasis.of(weight, samples, False))
    assert whole.first is not None
    np.testing.assert_allclose(whole.last @ whole.first, weight, atol=1e-4)
