"""Layers of a plan's network, fitted towards what the whole network has behind them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from autocomp.evaluators import OnnxEngine
from autocomp.primitives.choices import Choices
from autocomp.primitives.numerics.plan_compressor import PlanCompressor
from autocomp.primitives.registry import search_space
from autocomp.primitives.verification.layer_tail import LayerTail
from autocomp.primitives.verification.refit import sampled
from autocomp.primitives.verification.refit_plan import at_places, refitted_plan
from autocomp.search_spaces import Format, Plan, SearchSpace, Value
from tests.conftest import Subject
from tests.networks import images

SEEN, OTHERS = images(64), images(64, seed=7)


@pytest.fixture(scope="module")
def residual(named_subject: Callable[[str], Subject]) -> Subject:
    return named_subject("residual")


@pytest.fixture(scope="module")
def space(residual: Subject) -> SearchSpace:
    return search_space(
        residual.graph, residual.parameters, Choices([Format.parse("w8")], 4, ("operators", "channel-pruning"))
    )


def test_what_stands_behind_a_convolution_is_what_runs(residual: Subject) -> None:
    """At the same random places: of the patches, of the shortcut, and of the tensor behind."""
    graph, engine, kinds = residual.graph, OnnxEngine(residual.graph, residual.parameters), set()
    plain = PlanCompressor(SearchSpace(graph, ()), residual.parameters)(Plan())
    seen = engine.layer_inputs(plain, (SEEN,))
    for layer, i in graph.layers.items():
        node = graph.nodes[i]
        if node.kind != "conv":
            continue
        tail, last = LayerTail.of(graph, i, residual.parameters, plain, len(plain.layers[layer].rows)), i
        while graph.nodes[last].kind != "activation":
            (last,) = graph.consumers[last]
        weight = plain.layers[layer].weight
        outputs = sampled(node, seen[layer], 0)[:, 0] @ weight.reshape(len(weight), -1).T
        outputs = outputs if node.bias is None else outputs + residual.parameters[node.bias]
        places = {last} | ({tail.shortcut} if tail.shortcut is not None else set())
        found = {at: at_places(node, values) for at, values in engine.node_outputs(plain, (SEEN,), places).items()}
        made = tail.behind(outputs, None if tail.shortcut is None else found[tail.shortcut])
        np.testing.assert_allclose(np.maximum(made, 0), found[last], atol=1e-3)
        change = np.random.default_rng(0).standard_normal(made.shape)
        moved = tail.behind(outputs + tail.before(change), None) - tail.behind(outputs, None)
        np.testing.assert_allclose(moved, change, atol=0.2)
        kinds.add((tail.shortcut is not None, tail.rectified))
    assert kinds == {(False, True), (True, True)}


@pytest.mark.parametrize("value", ["rank0.5@low-rank", "groups2@grouped", "kernel1@smaller-kernel"])
@pytest.mark.parametrize("cuts", [False, True])
def test_the_block_s_output_is_a_better_target_than_the_layer_s(
    residual: Subject, space: SearchSpace, value: str, cuts: bool
) -> None:
    engine, compress = OnnxEngine(residual.graph, residual.parameters), PlanCompressor(space, residual.parameters)
    plain = compress(Plan())
    chosen: dict[str, Value] = {knob.name: value for knob in space.knobs if value in knob.values}
    chosen |= {knob.name: knob.values[1] for knob in space.knobs if cuts and knob.kind == "keep"}
    bare, expected = compress(Plan(chosen)), engine.outputs(plain, (OTHERS,))[0]
    errors = []
    ways: tuple[Any, ...] = (None, lambda *_: {}, engine.node_outputs)
    for nodes_of in ways:
        how = (residual.graph, residual.parameters, plain, bare, engine.layer_inputs, [(SEEN,)])
        found = refitted_plan(*how, nodes_of)
        errors.append(float(np.square(engine.outputs(found, (OTHERS,))[0] - expected).mean()))
    assert errors[0] == errors[1] < 0.2 * float(np.square(engine.outputs(bare, (OTHERS,))[0] - expected).mean())
    assert errors[2] < errors[0] * (1.05 if cuts else 1), "where channels are cut, too, no worse"
