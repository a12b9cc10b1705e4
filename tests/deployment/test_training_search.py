"""A search that trains: real trainings of a small network, kept, continued, saved and exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autocomp
from autocomp import driver
from autocomp.deployment import recovery
from autocomp.deployment.deploy import NetworkDeployer
from autocomp.deployment.tuned_files import TrainedWeights
from autocomp.primitives.export.files import norm_error
from autocomp.primitives.tracing.platform import forward
from autocomp.results.front import ParetoSet
from autocomp.search_spaces import split_value
from autocomp.study.executors import InProcess
from tests.networks import Small, randomised
from tests.primitives.contract import X, Y

SMALL = {"POOL": 2, "ROUNDS": 2}  # three trainings
NET = randomised(Small())


def search(storage: Path, **settings: Any) -> ParetoSet:
    data = autocomp.Data(calibrate=X, evaluate=(X, Y), train=(X, Y))
    given: dict[str, Any] = {"trials": 8, "train_budget": 4, "progress": False, "storage": storage, "fine_tune": 1}
    return autocomp.search(NET, "size<60%", "ascend-310p3", data, **given | settings)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("training") / "search.db"


@pytest.fixture(scope="module")
def front(storage: Path) -> ParetoSet:
    with pytest.MonkeyPatch.context() as patched:
        for name, value in SMALL.items():
            patched.setattr(recovery, name, value)
        return search(storage)


def test_points_say_who_trained_them(front: ParetoSet) -> None:
    assert len(front.tuned) == 2
    for point in front.tuned:
        assert {"lsq", "slb"} & set(point.primitives)
        assert all(split_value(v)[1] in ("lsq", "slb") for k, v in point.plan.items() if k.startswith("format/"))
        assert "after " in point.fidelity and " steps of " in point.fidelity


def test_what_it_measured_is_what_the_network_does(front: ParetoSet) -> None:
    for point in front.tuned:
        found = float((forward(point.net, (X,), graph=False)[0].argmax(1) == Y).mean())
        assert found == pytest.approx(point.accuracy, abs=2 / len(X))


def test_nothing_is_trained_again(front: ParetoSet, storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(*_: Any) -> None:
        raise AssertionError("nothing is to be trained")

    for name, value in SMALL.items():
        monkeypatch.setattr(recovery, name, value)
    monkeypatch.setattr(NetworkDeployer, "fine_tune", train)
    again = search(storage)
    assert list(again) == list(front) and again.tuned == front.tuned


def test_two_workers_train_the_same_networks(
    front: ParetoSet, storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In processes of their own: the plans of the first round are not trained in this one."""
    for name, value in SMALL.items():
        monkeypatch.setattr(recovery, name, value)
    here: list[int | None] = []
    train = NetworkDeployer.fine_tune

    def counted(*given: Any) -> Any:
        here.append(given[3].steps)
        return train(*given)

    monkeypatch.setattr(NetworkDeployer, "fine_tune", counted)
    monkeypatch.setattr(driver, "_executor", lambda job, *_: InProcess(job.evaluator))  # to save a start of Ray
    found = search(tmp_path / "search.db", workers=2)
    assert list(found) == list(front) and found.tuned == front.tuned
    assert len(here) == 1, "the last round has one plan, which is trained here"
    stored = list(storage.parent.glob("search.db.tuned/*.npz"))
    assert len(stored) == 3
    for own, other in ((path, tmp_path / "search.db.tuned" / path.name) for path in stored):
        ours, theirs = TrainedWeights.read(own), TrainedWeights.read(other)
        assert ours.steps == theirs.steps and ours.plan == theirs.plan
        for key, array in ours.parameters.items():
            # a worker has fewer threads, which add up in another order
            np.testing.assert_allclose(array, theirs.parameters[key], rtol=1e-5, atol=1e-7)


def test_saved_loaded_and_exported(front: ParetoSet, tmp_path: Path) -> None:
    front.save(tmp_path / "front")
    loaded = autocomp.load(tmp_path / "front", NET)
    assert loaded.tuned == front.tuned
    own, its = front.tuned[0], loaded.tuned[0]
    assert norm_error(forward(its.net, (X,), graph=False)[0], forward(own.net, (X,), graph=False)[0]) < 1e-6
    assert its.export(tmp_path / "net.onnx").max_relative_error < 0.05


def test_without_a_budget_nothing_is_trained(tmp_path: Path) -> None:
    assert not search(tmp_path / "s.db", train_budget=0).tuned
    assert not search(tmp_path / "s.db", primitives=("channel-pruning", "rtn")).tuned, "none of them trains"


def test_rated_by_labelled_samples(tmp_path: Path) -> None:
    names = ("channel-pruning", "taylor", "scop")
    front = search(tmp_path / "s.db", primitives=names, train_budget=0, trials=24, sampler="random")
    used = {name for point in front.evaluated for name in point.primitives}
    assert used == set(names)
    front.save(tmp_path / "front")
    loaded = autocomp.load(tmp_path / "front", NET, (X, Y))
    cut = next(point for point in loaded.evaluated if "scop" in point.primitives)
    assert np.isfinite(forward(cut.net, (X[:2],), graph=False)[0]).all()


def test_an_elastic_network_that_is_not_trained_is_noted(tmp_path: Path) -> None:
    """Cut channels alone have no primitive that trains them, so that there is nothing to check the network on."""
    found = search(tmp_path / "search.db", trials=3, elastic=1, primitives=["channel-pruning"], fine_tune=1)
    assert "no elastic network was trained: no plan is trained that it could be checked on" in found.notes
