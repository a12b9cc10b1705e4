"""A network trained once for all plans: plans inherit its weights, are measured, converted and exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autocomp
from autocomp.deployment.elastic import plans as elastic_plans
from autocomp.deployment.elastic.plans import TrainedElastic
from autocomp.evaluators.fine_tuning import FineTuning
from autocomp.primitives.export.files import norm_error
from autocomp.primitives.tracing.platform import forward
from tests.networks import NETWORKS, randomised
from tests.primitives.contract import X, Y

NET = randomised(NETWORKS["residual"]())
SETTINGS = FineTuning(steps=8, batch=16)


def trained(storage: Path | None = None, **given: Any) -> TrainedElastic:
    data = autocomp.Data(calibrate=X, evaluate=(X, Y), train=(X, Y))
    usual = {"train": SETTINGS, "storage": storage, "progress": False, **given}
    return autocomp.train_elastic(NET, "ascend-310p3", data, **usual)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("elastic") / "net.npz"


@pytest.fixture(scope="module")
def elastic(storage: Path) -> TrainedElastic:
    return trained(storage)


@pytest.fixture(scope="module")
def plan(elastic: TrainedElastic) -> autocomp.Plan:
    space = elastic.space
    return space.decode(space.random(np.random.default_rng(1), 1)[0])


def test_what_it_measures_is_what_the_network_does(elastic: TrainedElastic, plan: autocomp.Plan) -> None:
    for some in (plan, autocomp.Plan()):
        found = float((forward(elastic.network(some), (X,), graph=False)[0].argmax(1) == Y).mean())
        measured = elastic.evaluate(some)
        assert measured.accuracy == pytest.approx(found, abs=2 / len(X))
        assert measured.fidelity == "64 samples, weights of an elastic network after 8 steps"
    of_net = float((forward(elastic.net, (X,), graph=False)[0].argmax(1) == Y).mean())
    assert elastic.evaluate({}).accuracy == pytest.approx(of_net, abs=2 / len(X)), "net is the largest plan"


def test_it_has_trained(elastic: TrainedElastic) -> None:
    before = {p.name: p.asnumpy() for p in NET.get_parameters()}
    after = {p.name: p.asnumpy() for p in elastic.net.get_parameters()}
    assert before.keys() == after.keys() and type(elastic.net) is type(NET)
    assert all((before[name] != value).any() for name, value in after.items() if "weight" in name)
    assert elastic.steps == 8


def test_the_same_call_reads_it(
    elastic: TrainedElastic, plan: autocomp.Plan, storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*_: Any) -> None:
        raise AssertionError("nothing is to be trained")

    monkeypatch.setattr(elastic_plans, "train_shared", train)
    again = trained(storage)
    assert again.evaluate(plan).accuracy == elastic.evaluate(plan).accuracy and again.steps == 8
    with pytest.raises(AssertionError, match="nothing is to be trained"):
        trained(storage, train=FineTuning(steps=9, batch=16))
    storage.with_name("broken.npz").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(ValueError, match="must hold an elastic network, but it cannot be read"):
        trained(storage.with_name("broken.npz"))


def test_a_plan_is_exported(elastic: TrainedElastic, plan: autocomp.Plan, tmp_path: Path) -> None:
    report = elastic.export(plan, tmp_path / "net.onnx")
    assert report.max_relative_error < 0.05
    found = autocomp.load_deployed(tmp_path / "net.onnx").run(X)[0]
    assert norm_error(found, forward(elastic.network(plan), (X,), graph=False)[0]) < 0.05


def test_plans_of_another_space(elastic: TrainedElastic) -> None:
    with pytest.raises(ValueError, match="unknown knob 'format/none'"):
        elastic.evaluate({"format/none": "w8a8"})
    with pytest.raises(TypeError, match=r"^plan must be"):
        elastic.evaluate("w8a8")  # type: ignore[arg-type]


def test_without_samples_to_train_on() -> None:
    with pytest.raises(ValueError, match=r"^train_elastic needs samples to train on"):
        autocomp.train_elastic(NET, "ascend-310p3", autocomp.Data(evaluate=(X, Y)))
