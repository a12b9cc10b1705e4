"""A search at several resolutions: points of networks behind scaled images, like any other points."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import autocomp
from autocomp.deployment.deploy import NetworkDeployer
from autocomp.deployment.resolutions import searches
from autocomp.deployment.resolutions.networks import measured
from autocomp.deployment.resolutions.searches import ResolutionSearch
from autocomp.errors import BudgetError, NoEffectError
from autocomp.evaluators import PlanEvaluator
from autocomp.evaluators.fine_tuning import FineTuning, TrainingSamples
from autocomp.primitives import Resolution
from autocomp.primitives.export.files import norm_error, run_mindir, run_onnx
from autocomp.primitives.tracing.platform import forward
from autocomp.results.front import ParetoSet, Point
from autocomp.search_spaces import RESOLUTION, Plan
from tests.networks import Small, Tokens, randomised, tokens

NET = randomised(Small(), 4)


def smooth(count: int, seed: int) -> np.ndarray:
    """Images of which a lower resolution keeps much."""
    rng = np.random.default_rng(seed)
    x = gaussian_filter(rng.standard_normal((count, 3, 12, 12)), (0, 0, 1, 1))
    return (x / x.std((1, 2, 3), keepdims=True) + rng.standard_normal((count, 3, 1, 1))).astype(np.float32)


def labelled(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    x = smooth(count, seed)
    return x, forward(NET, (x,), graph=False)[0].argmax(1).astype(np.int32)


X, Y = labelled(240, 1)
GIVEN: dict[str, Any] = {
    "device": "nvidia-t4", "data": autocomp.Data(evaluate=(X, Y), calibrate=smooth(64, 2)), "trials": 24,
    "inputs": (64, 3, 12, 12), "progress": False, "patience": None, "primitives": ["rtn", "channel-pruning"],
}  # fmt: skip
RATIO, BUDGET = 0.75, "accuracy>70%, macs<100%, size<100%"


def lower(front: ParetoSet) -> list[Point]:
    return [point for point in front.joined if RESOLUTION in point.plan]


@pytest.fixture(scope="module")
def front() -> ParetoSet:
    return autocomp.search(NET, BUDGET, resolutions=(RATIO, 0.1), exclude="head", **GIVEN)


@pytest.fixture(scope="module")
def point(front: ParetoSet) -> Point:
    """One with rounded layers and fewer channels."""
    kinds = ("keep/", "format/", RESOLUTION)
    return next(one for one in lower(front) if all(any(name.startswith(kind) for name in one.plan) for kind in kinds))


def test_the_front_has_points_of_both(front: ParetoSet) -> None:
    own = [one for one in front if RESOLUTION not in one.plan]
    assert own and len(lower(front)) >= 3 and set(front) - set(own) <= set(front.joined)
    assert {one.plan[RESOLUTION] for one in lower(front)} == {RATIO}
    assert len(front.evaluated) <= 8  # a third of the trials
    assert all(one.name.startswith("resolution 0.75") and "resolution" in one.primitives for one in lower(front))
    (searched,) = [note for note in front.notes if note.startswith("resolution 0.75: ")]
    assert "at 9 x 9 pixels" in searched
    assert any(note.startswith("resolution 0.1 was not searched: ") for note in front.notes)


def test_what_is_excluded_stays_so(front: ParetoSet) -> None:
    assert all("head" not in name for one in front for name in one.plan)


def test_accuracy_is_that_of_the_network_on_the_same_images(point: Point) -> None:
    found = forward(point.net, (X,), graph=False)[0].argmax(1)
    assert point.observed == pytest.approx(np.mean(found == Y), abs=1 / len(X))
    assert point.reference is not None and point.reference.accuracy == 1.0 and point.reference.plan == Plan()


def test_costs_are_those_of_the_smaller_network(front: ParetoSet) -> None:
    plain = next((one for one in lower(front) if set(one.plan) == {RESOLUTION}), lower(front)[0])
    assert plain.cost.macs < 0.7 * front.float_point.cost.macs and plain.ratio("macs") < 0.7
    assert all(one.cost.macs <= plain.cost.macs for one in lower(front))


def test_files_agree(point: Point, tmp_path: Path) -> None:
    x = X[:64]
    expected = forward(point.net, (x,), graph=False)
    for name, run in (("a.mindir", run_mindir), ("a.onnx", run_onnx)):
        report = point.export(tmp_path / name)
        assert norm_error(run(report.path, (x,))[0], expected[0]) < 1e-2
        assert report.predicted_mb == pytest.approx(report.size_mb, rel=0.03)
    weights = point.export(tmp_path / "a.safetensors").path
    again = autocomp.rebuild(randomised(Small(), 5), weights)
    np.testing.assert_array_equal(forward(again, (x,), graph=False)[0], expected[0])


def test_it_is_stored_and_loaded(front: ParetoSet, point: Point, tmp_path: Path) -> None:
    loaded = autocomp.load(front.save(tmp_path / "front"), NET, GIVEN["data"])
    assert str(loaded) == str(front) and loaded.joined == front.joined
    again = next(one for one in loaded.joined if one.plan == point.plan)
    _same(again, point)
    other = autocomp.Data(evaluate=labelled(80, 7))
    assert again.evaluate(other).accuracy == point.evaluate(other).accuracy
    assert loaded.evaluate(point.plan).plan == point.plan
    with pytest.raises(ValueError, match=r"^evaluate takes plans at the network's own resolution"):
        loaded.evaluate(Plan({RESOLUTION: 0.5}))
    alone = autocomp.load(tmp_path / "front")
    assert str(alone) == str(front)
    with pytest.raises(ValueError, match=r"autocomp\.load\(folder, net\)"):
        _ = alone.joined[0].net


def test_without_labels_it_is_compared_with_the_whole_network() -> None:
    given = GIVEN | {"data": X, "trials": 8}
    found = autocomp.search(NET, "accuracy>50%, macs<99%", resolutions=0.5, **given)
    assert found.joined and max(one.accuracy for one in found.joined) < 0.999
    plain = forward(NET, (X,), graph=False)[0].argmax(1)
    for one in found.joined[:2]:
        same = forward(one.net, (X,), graph=False)[0].argmax(1) == plain
        assert one.metric == "agreement" and one.observed == pytest.approx(same.mean(), abs=1 / len(X))


class TestTrained:
    """With training samples the network learns the lower resolution before it is searched."""

    @pytest.fixture(scope="class")
    def given(self) -> dict[str, Any]:
        data = autocomp.Data(evaluate=(X, Y), calibrate=smooth(64, 2), train=labelled(512, 3))
        settings = FineTuning(epochs=6, batch=64, rate=0.02)
        return GIVEN | {"data": data, "fine_tune": settings, "train_budget": 0, "trials": 12}

    @pytest.fixture(scope="class")
    def storage(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return tmp_path_factory.mktemp("search") / "search.db"

    @pytest.fixture(scope="class")
    def trained(self, given: dict[str, Any], storage: Path) -> ParetoSet:
        return autocomp.search(NET, BUDGET, resolutions=0.5, storage=storage, **given)

    def test_it_gains_by_that(self, trained: ParetoSet) -> None:
        (at,) = _deployer(trained).lower
        assert isinstance(at, ResolutionSearch)
        untrained = measured(Resolution(0.5).apply(NET, X[:1]), _deployer(trained).evaluator)
        assert at.scaled.measurement.accuracy > untrained.accuracy + 0.02

    def test_a_point_is_trained_further(self, trained: ParetoSet, given: dict[str, Any], tmp_path: Path) -> None:
        """By hand, and one that the search at the resolution itself has trained."""
        (at,) = _deployer(trained).lower
        assert isinstance(at, ResolutionSearch)
        inner = next(one for one in at.front if any(name.startswith("format/") for name in one.plan))
        tuned = inner.fine_tune(labelled(256, 3), epochs=1, batch=64)
        at.front.add(tuned)
        at.join(trained)
        told = at.scaled.lower.told(tuned.plan)
        point = next(one for one in trained.tuned if one.plan == told)
        found = forward(point.net, (X,), graph=False)[0].argmax(1)
        assert point.accuracy == pytest.approx(np.mean(found == Y), abs=1 / len(X))
        assert point.fidelity == tuned.fidelity and "after 1 epoch" in point.fidelity
        loaded = autocomp.load(trained.save(tmp_path), NET, given["data"])
        _same(next(one for one in loaded.tuned if one.plan == told), point)
        by_hand = next(one for one in trained.joined if any(name.startswith("format/") for name in one.plan))
        other = by_hand.fine_tune(labelled(256, 3), epochs=1, batch=64)
        trained.add(other)
        found = forward(other.net, (X,), graph=False)[0].argmax(1)
        assert other.accuracy == pytest.approx(np.mean(found == Y), abs=1 / len(X)) and other.plan == by_hand.plan

    def test_the_same_call_trains_nothing_again(
        self, trained: ParetoSet, given: dict[str, Any], storage: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        evaluated = _counted(monkeypatch, PlanEvaluator, "evaluate")
        trainings = _counted(monkeypatch, TrainingSamples, "train")
        again = autocomp.search(NET, BUDGET, resolutions=0.5, storage=storage, **given)
        known = {(one.plan, one.observed) for one in (*trained.evaluated, *trained.joined)}
        assert {(one.plan, one.observed) for one in again if not one.tuned} <= known
        assert not trainings and all(not plan for _, plan in evaluated)


def _deployer(front: ParetoSet) -> NetworkDeployer:
    assert isinstance(front.deployer, NetworkDeployer)
    return front.deployer


def _same(one: Point, other: Point) -> None:
    found, expected = (forward(point.net, (X[:9],), graph=False)[0] for point in (one, other))
    np.testing.assert_array_equal(found, expected)


def _counted(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> list[Any]:
    calls: list[Any] = []
    inner: Callable[..., Any] = getattr(owner, name)

    def counting(*given: Any) -> Any:
        calls.append(given)
        return inner(*given)

    monkeypatch.setattr(owner, name, counting)
    return calls


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (BudgetError("out of reach"), "out of reach"),
        (RuntimeError("no kernel\n----\nC++ call stack"), "no kernel"),
        (KeyboardInterrupt(), "interrupted"),
    ],
)
def test_what_fails_at_a_resolution_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, said: str
) -> None:
    def fail(*given: Any) -> Any:
        raise error

    monkeypatch.setattr(searches, "scaled_network", fail)
    found = autocomp.search(NET, "size<60%", resolutions=0.75, **(GIVEN | {"trials": 6}))
    assert len(found) > 0 and not found.joined
    assert f"resolution 0.75 was not searched: {said}" in found.notes


def test_what_was_joined_before_an_interruption_can_be_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Points are read through the resolution that the front was saved with."""
    inner = ResolutionSearch.join

    def interrupted(self: ResolutionSearch, front: ParetoSet) -> None:
        inner(self, front)
        raise KeyboardInterrupt

    monkeypatch.setattr(ResolutionSearch, "join", interrupted)
    found = autocomp.search(NET, BUDGET, resolutions=0.75, **(GIVEN | {"trials": 6}))
    assert found.joined and "resolution 0.75 was not searched: interrupted" in found.notes
    loaded = autocomp.load(found.save(tmp_path / "front"), NET, GIVEN["data"])
    _same(loaded.joined[0], found.joined[0])


def test_bounds_that_a_lower_resolution_alone_reaches() -> None:
    found = autocomp.search(NET, "macs<8%, accuracy>0%", resolutions=0.25, **(GIVEN | {"trials": 12}))
    assert found.feasible and all(one.plan[RESOLUTION] == 0.25 for one in found)
    with pytest.raises(BudgetError, match=r"macs<0\.1% cannot be reached on nvidia-t4"):
        autocomp.search(NET, "macs<0.1%", resolutions=0.25, **GIVEN)


def test_no_time_is_left() -> None:
    found = autocomp.search(NET, "size<60%", resolutions=0.75, **(GIVEN | {"time_limit": 1e-3, "primitives": "rtn"}))
    assert "resolution 0.75 was not searched: the time limit was reached" in found.notes and len(found) == 1


def test_networks_without_images_are_refused_before_the_search() -> None:
    with pytest.raises(NoEffectError, match=r"^resolution scales one input of images"):
        autocomp.search(randomised(Tokens()), resolutions=0.5, data=tokens(8), progress=False)
    with pytest.raises(NoEffectError, match=r"^resolution of 0\.99 leaves 12 x 12 pixels as they are"):
        autocomp.search(NET, resolutions=(0.5, 0.99), **GIVEN)
