"""What a report shows beside the front, of a real search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autocomp
from autocomp.deployment.inspection.profiler import Profiler
from autocomp.results.front import ParetoSet
from autocomp.search_spaces import Plan
from tests import searching


@pytest.fixture(scope="module")
def found() -> ParetoSet:
    result: ParetoSet = searching.search(trials=16, sampler="auto", fine_tune=0)
    return result


@pytest.fixture
def evaluator(found: ParetoSet) -> Any:
    return found.deployer.evaluator  # type: ignore[union-attr]


def test_uniform_plans_are_measured(found: ParetoSet, evaluator: Any) -> None:
    details = found.details
    assert details is not None and {"w8", "w8a8"} <= {one.name for one in details.uniform}
    for one in details.uniform:
        assert set(one.plan.values()) == {one.name} and len(one.plan) > 5
        assert one.accuracy == evaluator.evaluate(Plan(one.plan)).accuracy and one.samples == 300
        assert one.cost["size_mb"] < found.float_point.cost.size_mb


def test_tensors_of_the_most_sensitive_layers(found: ParetoSet, evaluator: Any) -> None:
    details = found.details
    assert details is not None and 5 < len(details.tensors) <= 10
    worst = [max(one.sensitivity.values()) for one in details.tensors]
    assert worst == sorted(worst, reverse=True)
    for one in details.tensors:
        assert one.inputs is not None and sum(one.weights.counts) > 0
        quantizer = evaluator.compressor.ranges[one.layer, 8]
        levels = one.input_levels["w8a8"]
        assert (levels.low, levels.step, levels.count) == (
            -quantizer.zero_point * quantizer.scale,
            quantizer.scale,
            256,
        )
        assert {levels.count for levels in one.weight_levels.values()} <= {255, 15}
        assert one.weight_levels["w8"].count == 255
        assert one.weight_levels["w8"].low == pytest.approx(-1, abs=1e-3)


def test_sensitivities_are_those_of_the_scores(found: ParetoSet) -> None:
    details, resolver = found.details, found.resolver
    assert details is not None and resolver is not None
    vector = np.array([found.knee.vector])
    nats = [details.nats(found.knee.plan, layer) or 0.0 for layer in found.deployer.evaluator.space.graph.layers]  # type: ignore[union-attr]
    assert sum(nats) == pytest.approx(float(resolver.scores(vector)[0]), rel=0.02)  # type: ignore[attr-defined]


def test_losses_of_the_knee(found: ParetoSet, evaluator: Any) -> None:
    details, plan = found.details, found.knee.plan
    assert details is not None and details.losses is not None and details.losses.plan == plan.key
    profiled = Profiler(evaluator, autocomp.device(searching.DEVICE), 1)(plan, 16)
    assert details.losses.layers == {
        layer.name: layer.accumulated_db for layer in profiled.layers if layer.accumulated_db is not None
    }
    assert details.losses.classes == profiled.classes and sum(one.samples for one in details.losses.classes) == 300


def test_they_are_made_once_and_saved(found: ParetoSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = found.details
    saved = found.save(tmp_path)
    assert ParetoSet.load(saved).details == known
    assert (saved / "report.html").stat().st_size < 3_000_000
    loaded = autocomp.load(saved, searching.network())
    monkeypatch.setattr(type(loaded.deployer), "details", lambda *_: pytest.fail("they are known"))
    assert loaded.details == known


def test_what_takes_long_is_not_evaluated(found: ParetoSet, evaluator: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluator, "plain_seconds", 60.0)
    monkeypatch.setattr(evaluator, "evaluate", lambda _: pytest.fail("it would take a minute"))
    details = found.deployer.details(None, (), found.knee)  # type: ignore[union-attr]
    assert details is not None and details.uniform == () and details.losses is not None
    assert details.losses.classes == () and details.losses.layers
    assert all(one.sensitivity == {} for one in details.tensors)


def test_the_settings_tell_the_call_and_the_rounds(found: ParetoSet) -> None:
    call = found.settings["call"]
    assert call.startswith("autocomp.search(net=<Residual>, device='ascend-310p3', data=(<ndarray (300, 3, 12, 12)>")
    assert "seed=3" in call and "trials=16" in call and "sampler" not in call and "budget" not in call
    assert found.settings["rounds"][-1] == 16 == len(found.evaluated)
    assert np.all(np.diff(found.settings["rounds"]) > 0) and found.settings["failures"] == {}
