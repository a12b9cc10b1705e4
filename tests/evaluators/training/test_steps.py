"""Trainings that go on: from a network that is held, with its compiled step, as from its parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from autocomp.evaluators import PlanEvaluator
from autocomp.evaluators.fine_tuning import FineTuning, Tuned, fine_tune
from autocomp.evaluators.training.steps import LiveTraining, LiveTrainings, Step
from autocomp.primitives.choices import Choices
from autocomp.primitives.numerics.plan_compressor import Parameters
from autocomp.primitives.tracing.platform import forward
from autocomp.primitives.tracing.tracer import trace
from autocomp.problem.jobs import evaluator_of
from autocomp.search_spaces import Format, Plan
from tests.networks import Residual, images, randomised

X, Y = images(96, 3), np.arange(96) % 5
NET = randomised(Residual())
BY_LAYER = ("w4a8@lsq", "w2a8@slb", "w8a8@simqat", "w4a8@pact")


@pytest.fixture(scope="module")
def evaluator() -> PlanEvaluator:
    formats = [Format.parse(text) for text in ("float", "w8a8", "w4a8", "w2a8")]
    choices = Choices(formats, 8, ("rtn", "lsq", "slb", "simqat", "pact"), trains=True)
    return evaluator_of(NET, trace(NET, (X[:1],)), choices, (X,), Y, (X[:32],))


@pytest.fixture(scope="module")
def plan(evaluator: PlanEvaluator) -> Plan:
    """Each quantizer in some layers."""
    layers = list(evaluator.space.graph.layers)
    return Plan({f"format/{layer}": BY_LAYER[i % 4] for i, layer in enumerate(layers)})


def test_it_goes_on_as_from_its_parameters(
    evaluator: PlanEvaluator, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = LiveTrainings()

    def trained(seed: int, steps: int, start: Parameters | None = None, held: LiveTrainings | None = None) -> Tuned:
        settings = FineTuning(steps=steps, batch=32, rate=0.02, seed=seed)
        return fine_tune(NET, evaluator, plan, (X, Y), settings, (X[:32],), None, start, held)

    first = trained(0, 3, held=live)
    begun = {name: value.copy() for name, value in first.parameters.items()}
    fresh = trained(1, 6, begun)
    made: list[Any] = []
    monkeypatch.setattr(Step, "__init__", lambda *given: made.append(given))
    found = trained(1, 6, first.parameters, live)
    assert not made
    for name, value in fresh.parameters.items():
        np.testing.assert_allclose(found.parameters[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
    ours, expected = (forward(one.net, (X,), graph=False)[0] for one in (found, fresh))
    np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-3)
    assert all(np.array_equal(begun[name], value) for name, value in first.parameters.items())
    assert any(np.abs(begun[name] - value).max() > 1e-5 for name, value in found.parameters.items())


class TestHeld:
    """Which networks are at hand."""

    TRAINING = LiveTraining(None, None, (), None)  # type: ignore[arg-type]

    @staticmethod
    def parameters() -> Parameters:
        return {"weight": np.zeros(100, np.float32)}

    def test_only_what_stands_where_the_training_goes_on(self) -> None:
        reached = self.parameters()
        elsewhere = {"weight": np.ones(100, np.float32)}
        for algorithm, start in (("lsq", None), ("lsq", elsewhere), ("simqat", reached), ("lsq", {})):
            live = LiveTrainings()
            live.keep(Plan(), "lsq", self.TRAINING, reached)
            assert live.taken(Plan(), algorithm, start) is None
        live.keep(Plan(), "lsq", self.TRAINING, reached)
        assert live.taken(Plan({"a": 1}), "lsq", reached) is None
        assert live.taken(Plan(), "lsq", self.parameters()) is self.TRAINING  # as a worker gets them
        assert live.taken(Plan(), "lsq", reached) is None

    def test_no_more_than_fit(self) -> None:
        """400 bytes of weights and as many of momentum each."""
        live, reached = LiveTrainings(most=1700), [self.parameters() for _ in range(3)]
        plans = [Plan({"a": i}) for i in range(3)]
        for plan, one in zip(plans, reached, strict=True):
            live.keep(plan, "lsq", self.TRAINING, one)
        assert live.taken(plans[2], "lsq", reached[2]) is None and live.taken(plans[0], "lsq", reached[0]) is not None
        live.keep(plans[2], "lsq", self.TRAINING, reached[2])
        assert live.taken(plans[2], "lsq", reached[2]) is not None
        live.clear()
        assert live.taken(plans[1], "lsq", reached[1]) is None
