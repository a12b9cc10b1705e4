"""A search whose budget only fine-tuning reaches: on the quick start's network and real images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autocomp
from autocomp.deployment.deploy import NetworkDeployer
from autocomp.evaluators.fine_tuning import FineTuning, pruned_only, training_classes
from autocomp.evaluators.training.batches import as_trained
from autocomp.primitives.export.files import norm_error
from autocomp.primitives.tracing.platform import forward, load_mindspore
from autocomp.quickstart import load_network, load_samples
from autocomp.results.front import ParetoSet
from autocomp.results.point import Point
from autocomp.search_spaces import Plan
from tests.conftest import Subject
from tests.networks import images

from .test_deploy import deployer_of

ms = load_mindspore()

import mindspore.dataset as mds  # noqa: E402

TRAINED, ALLOWED = 768, "accuracy>-16%"


def search(storage: Path, **settings: Any) -> ParetoSet:
    """The few plans within the bound on MACs have four bits and the fewest channels: they lose 31 points."""
    train = load_samples("calibrate").take(TRAINED)
    data = autocomp.Data(calibrate=train.x[0][:128], evaluate=load_samples("evaluate").take(500), train=train)
    given: dict[str, Any] = {"inputs": (4, 1, 28, 28), "trials": 3, "sampler": "random", "progress": False}
    given |= {"fine_tune": FineTuning(epochs=2, batch=64, rate=0.02), "storage": storage, "train_budget": 0}
    return autocomp.search(load_network(), f"macs<18%, {ALLOWED}", "ascend-310p3:mindspore", data, **given | settings)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fine_tuning") / "search.db"


@pytest.fixture(scope="module")
def front(storage: Path) -> ParetoSet:
    return search(storage)


@pytest.fixture(scope="module")
def point(front: ParetoSet) -> Point:
    return front.short_of_accuracy()[0]


@pytest.fixture(scope="module")
def tuned(front: ParetoSet) -> Point:
    return front.pick(ALLOWED)


def same_network(one: Point, other: Point) -> bool:
    x = load_samples("evaluate").take(16).x
    found, expected = (forward(point.net, x, graph=False)[0] for point in (one, other))
    return np.array_equal(found, expected)


class TestSearch:
    def test_the_budget_is_reached(self, front: ParetoSet, tuned: Point) -> None:
        assert front.feasible and list(front) == [tuned] and tuned.tuned
        assert all(p.accuracy < tuned.accuracy - 0.1 for p in front.evaluated if not p.is_float)
        assert not any("no evaluated plan meets" in note for note in front.notes)
        printed = " ".join(str(front).split())  # lines break where the terminal ends
        assert "1 fine-tuned" in printed and "500 samples, after 2 epochs of 768" in printed

    def test_it_goes_on_without_training_again(
        self, front: ParetoSet, tuned: Point, storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def train(*_: Any) -> None:
            raise AssertionError("nothing is to be trained")

        monkeypatch.setattr(NetworkDeployer, "fine_tune", train)
        again = search(storage)
        assert list(again) == list(front) and again.evaluated == front.evaluated
        assert same_network(again[0], tuned)
        assert again[0].export(tmp_path / "net.onnx").max_relative_error < 0.05

    def test_saved_with_its_weights(self, front: ParetoSet, tuned: Point, tmp_path: Path) -> None:
        front.save(tmp_path)
        loaded = autocomp.load(tmp_path, load_network())
        assert list(loaded) == list(front) and loaded.tuned == front.tuned
        assert same_network(loaded[0], tuned)
        without = autocomp.load(tmp_path)
        assert list(without) == list(front)
        with pytest.raises(ValueError, match=r"use autocomp\.load\(folder, net\)"):
            _ = without[0].net


def test_it_wins_accuracy_back(point: Point, tuned: Point) -> None:
    assert tuned.accuracy > point.accuracy + 0.1, (point.accuracy, tuned.accuracy)
    assert tuned.plan == point.plan and tuned.fidelity == f"500 samples, after 2 epochs of {TRAINED}"


def test_the_float_network_is_untouched(point: Point, tuned: Point) -> None:
    expected = {p.name: p.asnumpy() for p in load_network().get_parameters()}
    deployer = point.deployer
    assert isinstance(deployer, NetworkDeployer) and tuned.deployer is not deployer
    for p in deployer._float.get_parameters():
        np.testing.assert_array_equal(p.asnumpy(), expected[p.name])


@pytest.mark.parametrize("ending", ["mindir", "onnx"])
def test_it_is_exported_and_smaller_by_as_much(point: Point, tuned: Point, tmp_path: Path, ending: str) -> None:
    before, after = (p.export(tmp_path / f"{name}.{ending}") for name, p in (("before", point), ("after", tuned)))
    assert after.max_relative_error < 0.05
    assert after.size_mb == pytest.approx(before.size_mb, rel=0.05)  # each reader of a tensor has its own range


def test_what_it_measured_is_what_the_network_does(tuned: Point) -> None:
    held = load_samples("evaluate").take(500)
    found = float((forward(tuned.net, (held.x[0],), graph=False)[0].argmax(1) == held.y).mean())
    assert found == pytest.approx(tuned.accuracy, abs=0.03)  # rounding at the half of a step: see test_agreement.py


def test_a_checkpoint_of_it_loads_into_the_rebuilt_network(tuned: Point, tmp_path: Path) -> None:
    x = load_samples("evaluate").take(8).x[0]
    ms.save_checkpoint(tuned.net, str(tmp_path / "tuned.ckpt"))
    again = autocomp.rebuild(load_network(), tuned.plan, x[:1])
    missing, unread = ms.load_param_into_net(again, ms.load_checkpoint(str(tmp_path / "tuned.ckpt")))
    assert not missing and not unread
    assert norm_error(forward(again, (x,), graph=False)[0], forward(tuned.net, (x,), graph=False)[0]) < 1e-5


def test_its_weights_are_a_file_of_their_own(tuned: Point, tmp_path: Path) -> None:
    x = load_samples("evaluate").take(8).x[0]
    report = tuned.export(tmp_path / "tuned.safetensors")
    again = autocomp.rebuild(load_network(), report.path)
    assert (
        report.max_relative_error
        == norm_error(forward(again, (x,), graph=False)[0], forward(tuned.net, (x,), graph=False)[0])
        == 0
    )


def test_bad_arguments(tuned: Point) -> None:
    train = load_samples("calibrate").take(8)
    with pytest.raises(ValueError, match="this point is fine-tuned already"):
        tuned.fine_tune(train)
    with pytest.raises(ValueError, match="needs its network to be applied"):
        replace(tuned, deployer=None).fine_tune(train)
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"rate": 0.0}, "rate must be a finite number above 0, but got rate=0"),
        ({"teacher": 2.0}, "teacher must be a share"),
        ({"algorithm": "slb"}, "algorithm must be 'lsq', 'simqat' or 'pact', but got algorithm='slb'"),
    )
    for settings, message in cases:
        with pytest.raises(ValueError, match=message):
            FineTuning(**settings)
    with pytest.raises(TypeError, match=r"epochs must be an integer, but got epochs=1\.5"):
        FineTuning(epochs=1.5)  # type: ignore[arg-type]
    assert type(FineTuning(seed=np.int64(3)).seed) is int  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["residual", "concatenating"])
def test_training_begins_with_layers_fitted_to_the_float_network(named_subject: Any, name: str) -> None:
    subject: Subject = named_subject(name)
    keeps = [knob for knob in subject.space.knobs if knob.name.startswith("keep/")]
    plan, others = Plan({knob.name: knob.values[-1] for knob in keeps}), images(64, seed=9)
    expected, errors = forward(subject.net, (others,), graph=False)[0], []
    for seen in ((), (images(128),)):
        smaller = pruned_only(subject.net, subject.evaluator, plan, seen)
        errors.append(norm_error(forward(smaller, (others,), graph=False)[0], expected))
    assert errors[1] < 0.9 * errors[0]


CLASSES = np.arange(8) % 3


@pytest.mark.parametrize(
    ("x_type", "labels"),
    [(np.float64, CLASSES), (np.uint8, CLASSES[:, None]), (np.float32, np.eye(3)[CLASSES]), (np.float32, None)],
)
def test_batches_come_as_arrays_would(x_type: Any, labels: Any) -> None:
    """Pipelines give the types of images and of files."""
    columns = {"image": np.arange(8 * 2).reshape(8, 2).astype(x_type)} | ({} if labels is None else {"label": labels})
    train = mds.NumpySlicesDataset(columns, shuffle=False).batch(4)
    for labelled in {False, labels is not None}:
        rows = list(as_trained(train, np.dtype(np.float32), labelled).create_tuple_iterator(output_numpy=True))
        assert len(rows) == 2 and all(len(row) == 1 + labelled and row[0].dtype == np.float32 for row in rows)
        np.testing.assert_array_equal(np.concatenate([row[0] for row in rows]), columns["image"])
        if labelled:
            assert rows[0][1].dtype == np.int32
            np.testing.assert_array_equal(np.concatenate([row[1] for row in rows]), CLASSES)


def test_labels_to_train_on(named_subject: Any, point: Point) -> None:
    evaluator = named_subject("depthwise").evaluator
    outputs = evaluator.plain_outputs[0].shape[1]
    for labels in (CLASSES, CLASSES.astype(np.uint8), CLASSES[:, None], np.eye(outputs)[CLASSES]):
        found = training_classes(labels, evaluator)
        assert found is not None and found.dtype == np.int32
        np.testing.assert_array_equal(found, CLASSES)
    with pytest.raises(ValueError, match=f"classes 0 to {outputs - 1}, but got {outputs} to {outputs + 2}"):
        training_classes(CLASSES + outputs, evaluator)
    with pytest.raises(ValueError, match=r"shape \(8, 2, 2\); without labels the float network is the only teacher"):
        training_classes(np.zeros((8, 2, 2)), evaluator)
    with pytest.raises(TypeError, match="must be an array of numbers, but got an array of object"):
        training_classes(np.array([[1], [1, 2]], object), evaluator)
    three = mds.NumpySlicesDataset({name: np.zeros((4, 1, 28, 28), np.float32) for name in "abc"}).batch(2)
    with pytest.raises(ValueError, match="one column of inputs and one of labels, but has 3"):
        point.fine_tune(three)


def test_shapes_of_the_samples_are_checked(named_subject: Any) -> None:
    subject: Subject = named_subject("depthwise")
    deployer = deployer_of(subject)
    with pytest.raises(ValueError, match="must have the shape"):
        deployer.fine_tune(Plan(), (subject.x[:, :2], None), FineTuning())
