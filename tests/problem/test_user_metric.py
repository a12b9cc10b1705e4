"""Networks that are judged by a metric of the user's own: a segmenter, and a detector whose labels differ in length."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autocomp
from autocomp.deployment.deploy import NetworkDeployer, TunedDeployer
from autocomp.errors import EvaluationError
from autocomp.evaluators.user_metric import UserMetric
from autocomp.primitives.tracing.platform import forward, load_mindspore
from autocomp.problem.data import Data, Reading, Samples
from autocomp.results.front import ParetoSet
from autocomp.search_spaces import Plan
from tests.networks import randomised

ms = load_mindspore()

from mindspore import nn, ops  # noqa: E402

RNG = np.random.default_rng(0)
X = RNG.standard_normal((48, 3, 16, 16)).astype(np.float32)


class Segmenter(nn.Cell):
    """Down, up again, a shortcut: three classes for every pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.SequentialCell(nn.Conv2d(3, 8, 3, has_bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.down = nn.SequentialCell(nn.Conv2d(8, 16, 3, 2, has_bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.up = nn.Conv2dTranspose(16, 8, 2, 2)
        self.head = nn.Conv2d(16, 3, 1, has_bias=True)

    def construct(self, x: Any) -> Any:
        x = self.stem(x)
        return self.head(ops.concat((ops.relu(self.up(self.down(x))), x), 1))


class Detector(nn.Cell):
    """Boxes and scores of each cell of a grid."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.SequentialCell(
            nn.Conv2d(3, 8, 3, 2, has_bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, 2), nn.ReLU()
        )
        self.boxes, self.scores = nn.Conv2d(16, 4, 1), nn.Conv2d(16, 1, 1)

    def construct(self, x: Any) -> Any:
        x = self.body(x)
        return self.boxes(x), self.scores(x)


def mean_iou(outputs: np.ndarray, masks: np.ndarray) -> float:
    assert outputs.shape == (len(masks), 3, 16, 16) and masks.shape[1:] == (16, 16)
    found = outputs.argmax(1)
    ratios = [((found == c) & (masks == c)).sum() / max(((found == c) | (masks == c)).sum(), 1) for c in range(3)]
    return float(np.mean(ratios))


def hits(outputs: tuple[np.ndarray, np.ndarray], cells: Any) -> float:
    """The share of all labelled cells that are among as many of the highest scores."""
    scores = outputs[1].reshape(len(cells), -1)
    found = sum(len(set(np.argsort(row)[::-1][: len(own)]) & set(own)) for row, own in zip(scores, cells, strict=True))
    return float(found / sum(map(len, cells)))


def settled(net: Any) -> Any:
    """Random weights, BatchNorm's statistics those of X, as a trained network's are those of its data."""
    net = randomised(net).set_train()
    for _ in range(60):
        net(ms.Tensor(X))
    return net.set_train(False)


@pytest.fixture(scope="module")
def segmenter() -> Any:
    return settled(Segmenter())


@pytest.fixture(scope="module")
def masks(segmenter: Any) -> np.ndarray:
    return np.asarray(forward(segmenter, (X,), graph=False)[0]).argmax(1)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("user_metric") / "search.db"


def search(net: Any, data: autocomp.Data, storage: Path | None = None, **settings: Any) -> ParetoSet:
    given = {"inputs": (8, 3, 16, 16), "trials": 8, "progress": False, "storage": storage, **settings}
    return autocomp.search(net, "weight_bytes<40%", "ascend-310p3", data, **given)


@pytest.fixture(scope="module")
def front(segmenter: Any, masks: np.ndarray, storage: Path) -> ParetoSet:
    return search(segmenter, autocomp.Data(evaluate=(X, masks), metric=mean_iou), storage)


class TestSearch:
    def test_points_are_judged_by_it(self, front: ParetoSet, masks: np.ndarray) -> None:
        assert front.float_point.accuracy == 1 and front.float_point.metric == "mean_iou"
        point = front.pick("accuracy>-100%")
        assert point.accuracy == pytest.approx(mean_iou(forward(point.net, (X,), graph=False)[0], masks), abs=0.01)
        printed = " ".join(str(front).split())
        assert "mean_iou measured on 48 samples costs predicted" in printed  # no interval: it is no share of samples

    def test_it_goes_on_where_the_metric_is_the_same(
        self, front: ParetoSet, segmenter: Any, masks: np.ndarray, storage: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls = []

        def counted(outputs: Any, labels: Any) -> float:
            calls.append(1)
            return mean_iou(outputs, labels)

        again = search(segmenter, autocomp.Data(evaluate=(X, masks), metric=mean_iou), storage)
        assert [(p.plan, p.accuracy, p.seconds) for p in again] == [(p.plan, p.accuracy, p.seconds) for p in front]
        search(segmenter, autocomp.Data(evaluate=(X, masks), metric=counted), storage)
        assert len(calls) >= 8

    def test_a_saved_front_is_loaded_with_it(
        self, front: ParetoSet, segmenter: Any, masks: np.ndarray, tmp_path: Path
    ) -> None:
        front.save(tmp_path / "front")
        loaded = autocomp.load(tmp_path / "front", segmenter, autocomp.Data(evaluate=(X, masks), metric=mean_iou))
        assert loaded[0].accuracy == front[0].accuracy and loaded[0].metric == "mean_iou"
        assert loaded.evaluate(front[0].plan).accuracy == front[0].accuracy
        with pytest.raises(ValueError, match="data must be what the front was searched with"):
            autocomp.load(tmp_path / "front", segmenter, autocomp.Data(evaluate=X))
        assert autocomp.load(tmp_path / "front", segmenter)[0].net is not None

    def test_a_point_is_fine_tuned_towards_the_float_network(self, front: ParetoSet, masks: np.ndarray) -> None:
        """Transposed convolutions are rounded like others; labels that are no classes are left aside."""
        formats = dict.fromkeys(("format/up", "format/down.0", "format/head"), "w4a8")
        point = front.evaluate(Plan({**formats, "keep/stem.0": 0.5, "keep/down.0": 0.5}))
        tuned = point.fine_tune((X, masks), epochs=20, batch=16, progress=False)
        assert tuned.accuracy > point.accuracy + 0.02 and tuned.metric == "mean_iou"

    def test_one_that_was_tuned_when_transposed_convolutions_trained_in_float(self, front: ParetoSet) -> None:
        """Its file has none of their quantizers."""
        point = front.evaluate(Plan({"format/head": "w4a8"}))
        tuned = point.fine_tune(X, epochs=1, batch=16, progress=False)
        assert isinstance(tuned.deployer, TunedDeployer) and isinstance(point.deployer, NetworkDeployer)
        weights = tuned.deployer.weights
        kept = {name: p for name, p in weights.parameters.items() if "up." not in name or "quantizer" not in name}
        assert len(kept) < len(weights.parameters)
        again = point.deployer.trained(replace(weights, parameters=kept))
        expected, found = (forward(net, (X,), graph=False)[0] for net in (tuned.net, again.net(point.plan)))
        np.testing.assert_array_equal(found, expected)


@pytest.fixture(scope="module")
def detector() -> tuple[Any, autocomp.Data]:
    net = settled(Detector())
    scores = forward(net, (X,), graph=False)[1].reshape(len(X), -1)
    cells = [np.argsort(row)[::-1][: 1 + i % 3] for i, row in enumerate(scores)]
    return net, autocomp.Data(evaluate=(X, cells), metric=hits)


class TestDetector:
    def test_all_outputs_and_labels_of_many_lengths(self, detector: tuple[Any, autocomp.Data]) -> None:
        net, given = detector
        front = search(net, given)
        assert front.float_point.accuracy == 1
        point = front.evaluate(Plan({"format/body.3": "w4a8", "keep/body.0": 0.75, "keep/body.3": 0.75}))
        tuned = point.fine_tune(X, epochs=20, batch=16, progress=False)
        before, after, expected = (forward(some, (X,), graph=False) for some in (point.net, tuned.net, net))
        for a, b, wanted in zip(before, after, expected, strict=True):
            assert ((b - wanted) ** 2).mean() < 0.8 * ((a - wanted) ** 2).mean()

    def test_workers_take_it(self, detector: tuple[Any, autocomp.Data]) -> None:
        net, given = detector
        assert given.evaluation is not None and given.evaluation.take(3).y is not None
        front, on_workers = search(net, given, trials=4), search(net, given, trials=4, workers=1)
        assert [(p.plan, p.accuracy) for p in front] == [(p.plan, p.accuracy) for p in on_workers]


def constant(value: Any) -> UserMetric:
    return UserMetric(lambda outputs, labels: value)


class Threshold:
    def __init__(self, at: float) -> None:
        self.at = at

    def __call__(self, outputs: Any, labels: Any, scale: float = 1) -> float:
        return float((outputs * scale > self.at).mean())

    def above(self, outputs: Any, labels: Any) -> float:
        return self(outputs, labels)


def enclosing(value: Any) -> Any:
    return lambda outputs, labels: value


def with_default(value: Any) -> Any:
    def metric(outputs: Any, labels: Any, *, at: Any = value) -> Any:
        return at

    return metric


class TestUserMetric:
    OUTPUTS = (np.zeros((2, 3)),)

    def test_values(self) -> None:
        assert constant(0.25)(self.OUTPUTS, None) == 0.25
        assert constant(np.float32(1))(self.OUTPUTS, None) == 1
        assert constant(-3)(self.OUTPUTS, None) == 0  # a coefficient of determination has no least value
        assert constant(np.float32(1) + np.float32(2e-7))(self.OUTPUTS, None) == 1
        assert constant(np.array([0.5]))(self.OUTPUTS, None) == constant(ms.Tensor(0.5))(self.OUTPUTS, None) == 0.5

    @pytest.mark.parametrize("value", [57.3, np.nan])
    def test_what_is_no_share(self, value: float) -> None:
        with pytest.raises(EvaluationError, match=rf"the metric must give a number from 0 to 1, but gave {value}"):
            constant(value)(self.OUTPUTS, None)

    @pytest.mark.parametrize(
        ("value", "kind"),
        [
            (None, "NoneType"),
            (np.ones(3), r"ndarray of shape \(3,\)"),
            ({"iou": 1}, "dict"),
            ("0.5", "str"),
            (1j, "complex"),
        ],
    )
    def test_what_is_no_number(self, value: Any, kind: str) -> None:
        with pytest.raises(EvaluationError, match=f"the metric must give a number from 0 to 1, but gave {kind}$"):
            constant(value)(self.OUTPUTS, None)

    def test_an_assertion_in_it(self) -> None:
        def asserts(outputs: Any, labels: Any) -> float:
            assert labels is not None
            return 1.0

        with pytest.raises(EvaluationError, match="the metric asserts failed: AssertionError"):
            UserMetric(asserts)(self.OUTPUTS, None)

    def test_an_error_in_it_says_so(self) -> None:
        def broken(outputs: Any, labels: Any) -> float:
            raise KeyError("boxes")

        with pytest.raises(EvaluationError, match="the metric broken failed: KeyError: 'boxes'"):
            UserMetric(broken)(self.OUTPUTS, None)

    def test_several_outputs_come_as_a_tuple(self) -> None:
        assert UserMetric(lambda outputs, labels: len(outputs) / 10)((*self.OUTPUTS, *self.OUTPUTS), None) == 0.2

    def test_names(self) -> None:
        assert UserMetric(mean_iou).name == UserMetric(partial(mean_iou)).name == "mean_iou"
        assert constant(1).name == "metric"

        def fidelity(outputs: Any, labels: Any) -> float:
            return 1.0

        assert UserMetric(fidelity).name == "metric"  # the front explains what autocomp's own fidelity is

    def test_the_key_is_what_it_does(self) -> None:
        sources = {
            "same": "def f(o, y, k=1):\n    return o + 1",
            "moved": "\n\n\ndef f(o, y, k=1):\n    return o + 1",
            "other constant": "def f(o, y, k=1):\n    return o + 2",
            "other default": "def f(o, y, k=2):\n    return o + 1",
            "other name": "def f(o, y, k=1):\n    return p + 1",
            "inner": "def f(o, y, k=1):\n    return (lambda: o + 1)()",
            "other inner": "def f(o, y, k=1):\n    return (lambda: o + 3)()",
        }
        keys = {}
        for name, source in sources.items():
            space: dict[str, Any] = {}
            exec(compile(source, f"{name}.py", "exec"), space)
            keys[name] = UserMetric(space["f"]).key
        assert keys.pop("same") == keys["moved"]
        assert len(set(keys.values())) == len(keys)
        assert constant(0.5).key == constant(0.5).key != constant(0.6).key
        assert len({UserMetric(partial(some, n)).key for some in (max, min) for n in (1, 2)}) == 4

    @pytest.mark.parametrize(
        "make",
        [
            lambda k: Threshold(k),
            lambda k: Threshold(k).above,
            lambda k: partial(Threshold(k), scale=1),
            lambda k: enclosing({"at": k}),
            lambda k: enclosing({k, 7}),
            lambda k: enclosing([(k, None)]),
            lambda k: enclosing(np.float32(k)),
            lambda k: enclosing(np.array([[k], [1, 2]], object)),
            lambda k: with_default(k),
            lambda k: eval(f"lambda outputs, labels: labels in {{{k}, 7}}"),
        ],
    )
    def test_the_key_changes_with_settings(self, make: Any) -> None:
        assert UserMetric(make(1)).key == UserMetric(make(1)).key != UserMetric(make(2)).key

    def test_a_function_may_call_itself(self) -> None:
        def halves(outputs: Any, labels: Any) -> float:
            return halves(outputs[::2], labels) if len(outputs) > 1 else 0.5

        assert UserMetric(halves).key == UserMetric(halves).key


class TestData:
    def test_equal_labels_have_one_fingerprint(self) -> None:
        """However they lie in memory, and whether or not two of them are one object."""
        box, other = np.ones((2, 4), np.float32), np.zeros((3, 4), np.float32)
        ragged = ([box, other, box], [box.copy(order="F"), other.copy(), box.copy()], [box, other, other[:2]])
        found = [Samples.read((X[:3], boxes), how=Reading(any_labels=True)).fingerprint for boxes in ragged]
        assert found[0] == found[1] != found[2]

    def test_labels_stay_as_they_are(self) -> None:
        masks, ragged = np.zeros((4, 5, 5), np.uint8), [np.zeros((i, 4)) for i in range(4)]
        found = autocomp.Data(evaluate=(X[:4], masks), metric=mean_iou).evaluation
        assert found is not None and found.y is masks
        data = autocomp.Data(evaluate=(X[:4], ragged), train=(X[:4], ragged), metric=mean_iou)
        assert data.evaluation is not None and data.evaluation.y is not None and data.training is not None
        assert [len(boxes) for boxes in data.evaluation.y] == [0, 1, 2, 3]
        other = autocomp.Data(evaluate=(X[:4], [*ragged[:3], np.ones((3, 4))]), metric=mean_iou).evaluation
        assert data.evaluation.fingerprint == data.training.fingerprint
        assert other is not None and other.fingerprint != data.evaluation.fingerprint

    def test_what_is_wrong_is_said(self) -> None:
        known = r"'agreement', 'fidelity' or 'perplexity'"
        with pytest.raises(ValueError, match=rf"metric must be .*, {known}, but got metric='f1'"):
            autocomp.Data(evaluate=X, metric="f1")
        with pytest.raises(ValueError, match="a metric needs samples to evaluate plans on: give evaluate"):
            autocomp.Data(metric=hits)
        with pytest.raises(ValueError, match="must have a label for each sample, but got 4 samples, 3 labels"):
            autocomp.Data(evaluate=(X[:4], [[1], [2, 3], []]), metric=hits)
        with pytest.raises(ValueError, match=r"got shape \(4, 16, 16\); for other labels give Data a metric"):
            autocomp.Data(evaluate=(X[:4], np.zeros((4, 16, 16), int)))
        assert autocomp.Data.coerce({"evaluate": X[:4], "metric": hits}).metric is hits

    def test_the_float_network_must_score(self, segmenter: Any) -> None:
        def nothing(outputs: Any, labels: Any) -> float:
            return 0.0

        with pytest.raises(ValueError, match=r"nothing must be above 0 for the float network, but is not \(no labels"):
            search(segmenter, autocomp.Data(evaluate=X, metric=nothing))

    def test_what_a_metric_writes_into_stays_its_own(self, segmenter: Any, masks: np.ndarray) -> None:
        def writes(outputs: np.ndarray, labels: np.ndarray) -> float:
            found = mean_iou(outputs, labels)
            outputs[:], labels[:] = 0, 0
            return found

        given = masks.copy()
        front = search(segmenter, autocomp.Data(evaluate=(X, given), metric=writes), trials=3)
        expected = search(segmenter, autocomp.Data(evaluate=(X, masks), metric=mean_iou), trials=3)
        assert [point.accuracy for point in front.evaluated] == [point.accuracy for point in expected.evaluated]
        assert np.array_equal(given, masks)
        assert isinstance(front.deployer, NetworkDeployer) and front.deployer.evaluator.plain_outputs[0].any()


class TestLowerIsBetter:
    @pytest.mark.parametrize("name", ["wer", "MAE", "rmse", "perplexity", "error_rate"])
    def test_usual_names_are_recognised_and_said(self, name: str, caplog: pytest.LogCaptureFixture) -> None:
        def measure(outputs: Any, labels: Any) -> float:
            return 3.5

        measure.__name__ = name
        with caplog.at_level(logging.INFO, logger="autocomp"):
            found = UserMetric(measure)
        assert found.lower and f"the metric {name} is taken as one where lower is better" in caplog.text
        assert found((np.zeros(2),), None) == 3.5
        assert not UserMetric(measure, lower_is_better=False).lower
        assert UserMetric(measure, False).key != found.key

    def test_others_are_not(self) -> None:
        assert not UserMetric(lambda outputs, labels: 0.5).lower
        assert UserMetric(lambda outputs, labels: 0.5, True).lower

    @pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf"), "0.5"])
    def test_it_must_be_a_number_from_zero(self, value: Any) -> None:
        with pytest.raises(EvaluationError, match="where lower is better, must give a number of 0 or more, but gave"):
            UserMetric(lambda outputs, labels: value, True)((np.zeros(2),), None)

    def test_data_says_it(self) -> None:
        with pytest.raises(ValueError, match="give Data a metric, too"):
            Data(evaluate=np.zeros((2, 3)), lower_is_better=True)
        with pytest.raises(
            TypeError, match="lower_is_better must be True, False or None, but got lower_is_better='yes'"
        ):
            Data(evaluate=np.zeros((2, 3)), metric=lambda o, y: 0.5, lower_is_better="yes")  # type: ignore[arg-type]
        measure = Data(evaluate=np.zeros((2, 3)), metric=lambda o, y: 0.5, lower_is_better=True).measure
        assert measure is not None and measure.lower
