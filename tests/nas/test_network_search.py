"""The search for networks: budgets, finalists, trained weights, continued searches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autocomp
from autocomp import nas
from autocomp.errors import BudgetError
from autocomp.evaluators.fine_tuning import FineTuning
from autocomp.nas.training import outputs_of

from .declared_networks import Declared

RNG = np.random.default_rng(0)
Y = RNG.integers(0, 3, 160)
X = (RNG.standard_normal((160, 1, 8, 8)) * 0.2).astype(np.float32)
X[np.arange(160), 0, 2 * Y] += 1  # a bright row for each class
DATA = autocomp.Data(train=(X[:96], Y[:96]), evaluate=(X[96:], Y[96:]))
SHORT = FineTuning(steps=6, batch=32, rate=0.1)


def search(**given: Any) -> Any:
    usual = {"budget": "macs<60%", "device": "ascend-310p3", "data": DATA, "trials": 4, "train": SHORT, "proxy": None}
    return nas.search_network(Declared, **{**usual, "progress": False, **given})


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("networks") / "search.db"


@pytest.fixture(scope="module")
def found(storage: Path) -> Any:
    return search(storage=storage)


def test_the_front_is_within_the_budget(found: Any) -> None:
    dearest = found.evaluated[0].costs["macs"]
    assert len(found.evaluated) == 4 and found.objectives == ("macs",)
    assert 1 <= len(found) <= 3 and all(one.costs["macs"] < 0.6 * dearest for one in found)
    assert "networks from 4 evaluations" in str(found) and "width=" in str(found[0])


def test_a_point_gives_its_network_with_the_trained_weights(found: Any) -> None:
    net = found[0].network()
    right = float(np.mean(outputs_of(net, X[96:]).argmax(1) == Y[96:]))
    assert right == found[0].accuracy
    assert autocomp.estimate(net, "ascend-310p3", X[:1]).macs == found[0].costs["macs"]


def test_a_training_learns(found: Any) -> None:
    assert max(one.accuracy for one in found.evaluated) > 0.6, "chance is a third"


def test_a_continued_search_trains_nothing_again(found: Any, storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autocomp.nas.training.train", None)
    again = search(storage=storage)
    assert [(one.choices, one.accuracy) for one in again.evaluated] == [
        (one.choices, one.accuracy) for one in found.evaluated
    ]
    assert again[0].network() is not None


def test_a_lost_file_is_trained_again(found: Any) -> None:
    point = found[0]
    before = {p.name: p.asnumpy().copy() for p in point.network().get_parameters()}
    point.evaluator.path(point.choices, point.settings).unlink()
    assert all(np.array_equal(p.asnumpy(), before[p.name]) for p in point.network().get_parameters())


def test_a_budget_that_nothing_meets_names_the_nearest() -> None:
    with pytest.raises(BudgetError, match="macs"):
        search(budget="macs<1%")


class Untrained:
    """Stands for the training: the accuracy is a sum over choices, more after a longer training."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.trained: list[tuple[Any, FineTuning]] = []
        monkeypatch.setattr("autocomp.nas.training.NetworkEvaluator.network", self.network)
        monkeypatch.setattr("autocomp.nas.training.outputs_of", self.outputs)

    def network(self, choice: Any, settings: FineTuning) -> Any:
        self.trained.append((choice, settings))
        return choice, settings

    def outputs(self, net: Any, x: np.ndarray) -> np.ndarray:
        choice, settings = net
        right = 20 + 2 * choice["width"] + 5 * choice["two"] + 3 * choice["two.0"] + settings.epochs
        return np.eye(3)[np.where(np.arange(64) < right, Y[96:], (Y[96:] + 1) % 3)]


def test_finalists_are_trained_again_and_the_front_has_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = Untrained(monkeypatch)
    found = search(budget=None, trials=24, train=1, finalists=4)
    epochs = [settings.epochs for _, settings in stand_in.trained]
    assert epochs.count(1) == 24 and 1 <= epochs.count(4) <= 8
    assert {one.settings.epochs for one in found} == {4}
    assert found.objectives == ("latency", "size")


def test_the_first_networks_are_those_that_look_best_untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that likes wide networks."""
    stand_in = Untrained(monkeypatch)
    space = nas.NetworkSpace(Declared)

    def width_of(net: Any, x: np.ndarray, y: np.ndarray) -> float:
        assert x.shape == (32, 1, 8, 8) and y.shape == (32,)
        return float(net.stem.conv.out_channels)

    nas.search_network(space, None, "ascend-310p3", DATA, trials=7, train=1, proxy=width_of, progress=False)
    assert [choice["width"] for choice, _ in stand_in.trained[1:]] == [8] * 6
