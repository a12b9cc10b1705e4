"""The network that trains for every plan computes what the plan's own network computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from autocomp.evaluators import OnnxEngine
from autocomp.evaluators.elastic.training import sandwich
from autocomp.primitives.cells.elastic_training import RoundingLevels, TrainableElasticNetwork
from autocomp.primitives.numerics.plan_compressor import PlanCompressor
from autocomp.primitives.tracing.platform import execution_mode, forward, load_mindspore
from autocomp.search_spaces import Plan, SearchSpace
from tests.conftest import Subject
from tests.primitives.compilations import counted

ms = load_mindspore()


def choosing(plan: Plan, kind: str) -> Plan:
    return Plan({name: value for name, value in plan.items() if name.startswith(kind)})


def elastic_of(subject: Subject) -> TrainableElasticNetwork:
    return TrainableElasticNetwork(subject.net, subject.space, subject.evaluator.compressor.ranges, symmetric=False)


@pytest.fixture(scope="module", params=["residual", "concatenating", "depthwise", "sounds"])
def pair(request: pytest.FixtureRequest, named_subject: Callable[[str], Subject]) -> tuple[Subject, Any]:
    subject = named_subject(request.param)
    return subject, elastic_of(subject)


def test_a_plan_is_the_plans_own_network(pair: tuple[Subject, Any]) -> None:
    """Kept units, bits of weights and bits of inputs: the numbers are those that a search evaluates and exports.

    Below 8 bits a search finds the best scale of what stays of a weight, and a training that of the whole weight: there
    plans that cut no channels are compared.
    """
    subject, elastic = pair
    images, parameters = subject.x[:16], elastic.parameters()
    assert parameters.keys() == subject.parameters.keys()
    compress = PlanCompressor(subject.space, parameters, {**subject.evaluator.compressor.ranges, **elastic.ranges()})
    engine = OnnxEngine(subject.graph, parameters)
    cuts, formats = ([choosing(plan, kind) for plan in subject.plans(2, seed=3)] for kind in ("keep", "format"))
    eight = Plan({f"format/{layer}": "w8a8" for layer in elastic.inputs})
    for plan in [Plan(), *formats, *(Plan({**eight, **cut}) for cut in cuts)]:
        elastic.set(plan)
        found = forward(elastic.cell.set_train(False), (images,), graph=False)[0]
        expected = engine.outputs(compress(plan), (images,))[0]
        apart = np.abs(found - expected).max(1) / np.abs(expected).max()
        assert np.median(apart) < 2e-3 and apart.max() < 0.05, plan  # a sum at the edge of two levels may round apart


def test_the_network_itself_is_not_changed(pair: tuple[Subject, Any]) -> None:
    subject, _ = pair
    for parameter in subject.net.get_parameters():
        np.testing.assert_array_equal(parameter.asnumpy(), subject.parameters[parameter.name])


def test_no_plan_compiles_the_step_again(named_subject: Callable[[str], Subject]) -> None:
    subject = named_subject("residual")
    elastic, images = elastic_of(subject), ms.Tensor(subject.x[:8])
    loss = ms.nn.WithLossCell(elastic.cell, ms.nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean"))
    step = ms.nn.TrainOneStepCell(loss, ms.nn.SGD(elastic.cell.trainable_params(), 0.0)).set_train()
    labels, losses = ms.Tensor(np.arange(8) % 5, ms.int32), []
    plans = sandwich(subject.space, 0)
    with execution_mode(graph=True):
        elastic.set(next(plans))
        losses.append(float(step(images, labels)))
        with counted() as compiled:
            for _ in range(4):
                elastic.set(next(plans))
                losses.append(float(step(images, labels)))
    assert not compiled
    assert losses[0] == pytest.approx(losses[4], rel=1e-5), "the largest plan again, at rate 0"
    assert len(set(losses)) == 4, "each other plan is another network"


def test_the_sandwich(named_subject: Callable[[str], Subject]) -> None:
    space = named_subject("residual").space
    plans = sandwich(space, 0)
    first, again = [next(plans) for _ in range(8)], sandwich(space, 0)
    assert first == [next(again) for _ in range(8)]
    assert first[0] == first[4] == Plan() and first[2] == first[6]
    assert all(space.encode(first[2]) == space.sizes - 1)
    assert len({first[i] for i in (1, 3, 5, 7)}) == 4


def test_levels_of_one_bit_have_no_zero() -> None:
    found = RoundingLevels.of_weights((1, 2, 8))
    assert (found.low + found.shift).tolist() == [-0.5, -1, -127]
    assert (found.high + found.shift).tolist() == [0.5, 1, 127]


def test_without_knobs_there_is_one_plan(named_subject: Callable[[str], Subject]) -> None:
    subject = named_subject("residual")
    elastic = TrainableElasticNetwork(subject.net, SearchSpace(subject.graph, ()), {}, symmetric=False)
    elastic.set(Plan())
    found = forward(elastic.cell.set_train(False), (subject.x[:4],), graph=False)[0]
    np.testing.assert_allclose(found, forward(subject.net, (subject.x[:4],), graph=False)[0], rtol=1e-4, atol=1e-5)
