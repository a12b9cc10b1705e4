"""The main job on a small network: search, pick, export, save, load; and what it refuses."""

from __future__ import annotations

import logging
import re
from copy import copy
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autocomp
from autocomp.deployment.file_forms import run_ascend
from autocomp.errors import BudgetError, EvaluationError, NoEffectError, TraceError
from autocomp.evaluators import PlanEvaluator
from autocomp.primitives.export.files import run_mindir
from autocomp.primitives.tracing.platform import forward
from autocomp.results.front import ParetoSet
from autocomp.search_spaces import Plan

from .networks import Residual, Tensor, images, nn, randomised
from .odd_networks import BesselFunction, Infinite, SeveralEnds
from .searching import BATCH, TRIALS, network, observed, samples, search

BUDGET = "size<60%, accuracy>-60%"


@pytest.fixture(scope="module")
def front() -> ParetoSet:
    found = search(budget=BUDGET)
    assert isinstance(found, ParetoSet)
    return found


@pytest.fixture(scope="module")
def folder(front: ParetoSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the front is saved."""
    return front.save(tmp_path_factory.mktemp("saved") / "front")


@pytest.fixture
def nothing_is_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    def evaluate(self: PlanEvaluator, plan: Any) -> None:
        raise AssertionError("nothing is to be evaluated")

    monkeypatch.setattr(PlanEvaluator, "evaluate", evaluate)


class TestSearch:
    def test_front_keeps_the_budget(self, front: ParetoSet) -> None:
        assert front.feasible and len(front) >= 1
        assert len(front.evaluated) == TRIALS
        for point in front:
            assert point.cost.size_mb < 0.6 * front.float_point.cost.size_mb
            assert point.accuracy >= front.float_point.accuracy - 0.6
            assert point.metric == "accuracy" and point.samples == 300

    def test_no_point_beats_another(self, front: ParetoSet) -> None:
        ends = [(-point.accuracy, point.cost.size_mb) for point in front]
        for a in ends:
            assert not any(b != a and b[0] <= a[0] and b[1] <= a[1] for b in ends)

    def test_float_network_is_measured_right(self, front: ParetoSet) -> None:
        x, y = samples()
        expected = np.mean(forward(network(), (x,), graph=False)[0].argmax(1) == y)
        assert front.float_point.accuracy == pytest.approx(float(expected), abs=0.005)
        assert front.float_point.is_float

    def test_accuracy_is_that_of_the_converted_network(self, front: ParetoSet) -> None:
        x, y = samples()
        point = front.pick()
        found = np.mean(forward(point.net, (x,), graph=False)[0].argmax(1) == y)
        assert point.accuracy == pytest.approx(float(found), abs=0.01)

    def test_predicted_params_are_the_converted_networks(self, front: ParetoSet) -> None:
        smallest = min(front.evaluated, key=lambda point: point.cost.macs)
        assert smallest.cost.macs < 0.8 * front.float_point.cost.macs
        layers = front.deployer.evaluator.space.graph.layers  # type: ignore[union-attr]
        kept = {p.name: p.size for p in smallest.net.get_parameters()}
        whole = {p.name: p.size for p in network().get_parameters()}
        assert sum(kept.values()) < sum(whole[f"{layer}.weight"] for layer in layers)

    def test_table_and_settings(self, front: ParetoSet) -> None:
        assert "float network" in str(front)
        assert front.settings["batch"] == BATCH and front.settings["stopped"] == f"{TRIALS} evaluations"
        assert front.device == "ascend-310p3"

    def test_same_seed_same_front(self, front: ParetoSet) -> None:
        assert observed(search(budget=BUDGET)) == observed(front)

    def test_a_seed_of_numpy(self, tmp_path: Path) -> None:
        found = search(seed=np.int64(3), trials=2, storage=tmp_path / "search.db")
        loaded = autocomp.load(found.save(tmp_path / "front"))
        assert loaded.settings["seed"] == 3 and loaded.evaluated == found.evaluated

    def test_network_is_left_as_it_is(self, front: ParetoSet) -> None:
        fresh = randomised(Residual())
        for mine, other in zip(network().get_parameters(), fresh.get_parameters(), strict=True):
            assert mine.name == other.name
            np.testing.assert_array_equal(mine.asnumpy(), other.asnumpy())

    def test_an_accuracy_that_no_plan_keeps_is_said_with_what_may_help(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING, logger="autocomp"):
            found = search(budget="size<60%, accuracy>99%", trials=4)
        assert not found.feasible and not found.tuned
        assert "fine-tuning may win back: point.fine_tune(train), or a search whose data have train" in found.notes[0]
        assert found.notes[0] in caplog.text


class TestWithoutData:
    def test_three_arguments(self, caplog: pytest.LogCaptureFixture) -> None:
        net = randomised(nn.SequentialCell(
            nn.Conv2d(1, 16, 3, 2), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, 2), nn.ReLU(), nn.Flatten(),
            nn.Dense(32 * 49, 10),
        ))  # fmt: skip
        with caplog.at_level(logging.INFO, logger="autocomp"):
            found = autocomp.search(net, budget="size<60%", device="cpu", trials=6, progress=False)
        assert "the network takes images of shape (1, 28, 28)" in caplog.text
        assert found.float_point.metric == "fidelity" and found.float_point.accuracy == 1
        assert found.settings["inputs"] == [[1, 28, 28]] and found.settings["batch"] == 1
        assert "synthetic" in found.float_point.fidelity
        assert any(point.accuracy < 1 for point in found.evaluated)

    def test_batch_one_is_said_to_be_bound_by_fixed_costs(self) -> None:
        found = search(inputs=(1, 3, 12, 12), trials=2)
        assert any("fixed costs" in note and "batch 1" in note for note in found.notes)

    def test_data_without_labels(self) -> None:
        found = search(data=samples()[0], trials=3)
        assert found.float_point.metric == "agreement" and found.float_point.accuracy == 1


def test_network_without_onnx_form_is_searched(caplog: pytest.LogCaptureFixture) -> None:
    net, x = randomised(BesselFunction()), images(20)
    with caplog.at_level(logging.INFO, logger="autocomp"):
        found = autocomp.search(net, None, "cpu", x, trials=4, progress=False)
    assert "1 channel groups of up to 8 channels are not pruned: cpu is no faster with fewer channels" in caplog.text
    assert len(found.evaluated) == 4 and found.float_point.accuracy == 1
    with pytest.raises(EvaluationError, match="cannot be sent to workers"):
        autocomp.search(net, None, "cpu", x, trials=4, workers=2, progress=False)


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    found = autocomp.search(
        randomised(SeveralEnds()), None, "cpu", inputs=[(2, 3, 12, 12), (2, 6)], trials=4, progress=False
    )
    point = min(found.evaluated, key=lambda point: point.cost.size_mb)
    for ending in ("mindir", "onnx"):
        assert point.export(tmp_path / f"net.{ending}").max_relative_error < 0.05


class TestExports:
    @pytest.mark.parametrize(("ending", "run"), [("mindir", run_mindir), ("onnx", run_ascend)])
    def test_export_is_the_picked_network(self, front: ParetoSet, tmp_path: Path, ending: str, run: Any) -> None:
        point = min(front.evaluated, key=lambda point: point.cost.size_mb)
        report = point.export(tmp_path / "deep" / f"net.{ending}")
        assert report.path.stat().st_size == round(report.size_mb * 1e6)
        assert point.files[ending] == report and report.predicted_mb == pytest.approx(report.size_mb, rel=0.25)
        assert report.of_cost == (ending == "onnx"), "costs are predicted for what is deployed on this device"
        if report.of_cost:
            assert point.measured["size_mb"] == report.size_mb and report.predicted_mb == point.cost.size_mb
        else:
            assert point.measured.get("size_mb") != report.size_mb
        x = samples()[0][:BATCH]
        expected = forward(point.net, (x,), graph=False)[0]
        np.testing.assert_allclose(run(report.path, (x,))[0], expected, atol=0.05 * np.abs(expected).max())
        whole = front.float_point.export(tmp_path / f"float.{ending}")
        assert report.size_mb < 0.7 * whole.size_mb
        assert [path.name for path in (tmp_path / "deep").iterdir()] == [f"net.{ending}"]

    def test_other_endings(self, front: ParetoSet, tmp_path: Path) -> None:
        with pytest.raises(
            ValueError, match=r"an export's path must end in \.mindir, \.onnx or \.safetensors, but got '.*net.air'"
        ):
            front[0].export(tmp_path / "net.air")

    def test_unwritable_path_loses_nothing(self, front: ParetoSet, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        for write in (lambda path: front[0].export(path / "net.onnx"), front.save):
            with pytest.raises(OSError, match=r"file.*(cannot be written|must be writable)") as error:
                write(tmp_path / "file" / "deeper")
            assert "\n" not in str(error.value)
        front.save(tmp_path / "elsewhere")
        assert front[0].export(tmp_path / "net.onnx").path.exists()


class Tokens(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.hidden, self.head = nn.Embedding(50, 16), nn.Dense(16, 32), nn.Dense(32, 3)
        self.relu = nn.ReLU()

    def construct(self, x: Tensor) -> Tensor:
        return self.head(self.relu(self.hidden(self.embedding(x).mean(1))))


def test_a_network_of_tokens_is_searched_saved_and_trained_with_integers(tmp_path: Path) -> None:
    rng, net = np.random.default_rng(0), Tokens()
    data = rng.integers(0, 50, (64, 9)), rng.integers(0, 3, 64)
    front = autocomp.search(net, "size<90%", "ascend", data, trials=4, progress=False)
    point = front.pick()
    assert front.feasible and point.export(tmp_path / "net.mindir").max_relative_error < 1e-4
    front.save(tmp_path / "front")
    assert list(autocomp.load(tmp_path / "front", net, data)) == list(front)
    assert point.fine_tune(data, epochs=1).tuned
    with pytest.raises(ValueError, match="a network that takes integers needs data to be evaluated on"):
        autocomp.search(net, None, "ascend", inputs=data[0][:2].astype(np.int32), trials=2, progress=False)


def test_weights_that_are_not_finite_are_refused() -> None:
    net = nn.SequentialCell(nn.Dense(4, 8), nn.ReLU(), nn.Dense(8, 2))
    weight = net[0].weight.asnumpy().copy()
    weight[0, 0] = np.nan
    net[0].weight.set_data(Tensor(weight))
    with pytest.raises(ValueError, match=r"parameters must be finite, but there is NaN or infinity in 0\.weight"):
        autocomp.search(net, None, "ascend", inputs=(1, 4), trials=2, progress=False)


class TestLoad:
    def test_same_points(self, front: ParetoSet, folder: Path) -> None:
        loaded = autocomp.load(folder, network())
        assert observed(loaded) == observed(front)
        assert loaded.budget == front.budget and loaded.notes == front.notes

    @pytest.mark.parametrize("ending", ["mindir", "onnx"])
    def test_exports_the_same_again(self, front: ParetoSet, folder: Path, tmp_path: Path, ending: str) -> None:
        loaded = autocomp.load(folder, network())
        run = run_mindir if ending == "mindir" else run_ascend
        x = samples()[0][:BATCH]
        found = [
            run(one.pick().export(tmp_path / f"{i}.{ending}").path, (x,))[0] for i, one in enumerate((front, loaded))
        ]
        np.testing.assert_array_equal(found[0], found[1])

    def test_plans_beside_the_front_are_carried_out_too(self, front: ParetoSet, folder: Path) -> None:
        loaded = autocomp.load(folder, network())
        chosen = {point.plan for point in front}
        i = next(i for i, point in enumerate(loaded.evaluated) if point.plan not in chosen and point.plan)
        found, expected = (forward(one.evaluated[i].net, (samples()[0],), graph=False)[0] for one in (loaded, front))
        np.testing.assert_array_equal(found, expected)

    def test_without_the_network(self, front: ParetoSet, folder: Path) -> None:
        loaded = autocomp.load(folder)
        assert observed(loaded) == observed(front)
        with pytest.raises(ValueError, match=re.escape("use autocomp.load(folder, net)")):
            _ = loaded[0].net

    def test_fine_tuning_takes_the_data_of_the_search(self, front: ParetoSet, folder: Path) -> None:
        with pytest.raises(ValueError, match=r"needs the data of the search: use autocomp\.load\(folder, net, data\)"):
            autocomp.load(folder, network()).pick().fine_tune(samples(), progress=False)

    def test_other_weights(self, folder: Path) -> None:
        with pytest.raises(ValueError, match=r"the front in .* was found for other weights than this network has$"):
            autocomp.load(folder, randomised(Residual(), seed=1))

    def test_what_is_no_network(self, folder: Path) -> None:
        with pytest.raises(TypeError, match=r"net must be None or a mindspore.nn.Cell, but got net='net'"):
            autocomp.load(folder, "net")

    def test_folder_without_a_front(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path))):
            autocomp.load(tmp_path, network())


class TestResolve:
    BUDGET = "size<30%, energy<80%"

    def test_a_loaded_front_says_the_same(self, front: ParetoSet, folder: Path) -> None:
        found = copy(front).resolve(self.BUDGET)
        loaded = autocomp.load(folder, network(), samples())
        again = loaded.resolve(self.BUDGET)
        assert again.plan == found.plan and again.accuracy == pytest.approx(found.accuracy)
        point = loaded.resolve(self.BUDGET, evaluate=True)
        x, y = samples()
        expected = np.mean(forward(again.net, (x,), graph=False)[0].argmax(1) == y)
        assert point.plan == again.plan and point.samples == 300
        assert point.accuracy == pytest.approx(float(expected), abs=0.01)

    def test_scores_that_were_measured_are_saved(self, front: ParetoSet, tmp_path: Path) -> None:
        found = front.resolve(self.BUDGET)
        loaded = autocomp.load(front.save(tmp_path / "scored"), network())
        assert loaded.resolve(self.BUDGET) == found
        with pytest.raises(ValueError, match=r"needs the data of the search: use autocomp\.load\(folder, net, data\)"):
            loaded.evaluate(Plan(dict([next(iter(found.plan.items()))])))

    def test_other_data_are_refused(self, folder: Path) -> None:
        x, y = samples()
        with pytest.raises(ValueError, match=r"has accuracy .* on 300 samples, but got data .* on 200 samples"):
            autocomp.load(folder, network(), (x[:200], y[:200]))


@pytest.mark.usefixtures("nothing_is_evaluated")
class TestBadInput:
    """One sentence that states the rule, then the values; before anything is evaluated."""

    @pytest.mark.parametrize(
        ("settings", "error", "sentence"),
        [
            ({"device": "ascend-1000"}, ValueError, r"ascend-1000.*ascend-310p3.*nvidia-t4"),
            ({"sampler": "magic"}, ValueError, r"unknown sampler 'magic'; known: .*nsga2"),
            ({"primitives": "magic"}, ValueError, r"unknown primitive 'magic'; known: .*channel-pruning, .*rtn"),
            ({"primitives": ("rtn", "magic")}, ValueError, r"unknown primitive 'magic'; known: .*rtn"),
            ({"budget": "latency<5 parsecs"}, ValueError, r"the budget must have a unit \(.*ms.*\) here, but got"),
            ({"budget": 5}, TypeError, r"budget must be text, a Budget or None, but got budget=5"),
            ({"trials": 0}, ValueError, r"trials must be at least 1, but got trials=0"),
            ({"time_limit": -1}, ValueError, r"time_limit must be .* above 0, but got time_limit=-1"),
            ({"fine_tune": -1}, ValueError, r"fine_tune must be at least 0 epochs, but got fine_tune=-1"),
            ({"seed": 1.5}, TypeError, r"seed must be an integer, but got seed=1.5"),
            ({"workers": 0}, ValueError, r"workers must be at least 1, but got workers=0"),
            ({"workers": "two"}, ValueError, r"workers must be None, a number, .* but got workers='two'"),
            ({"inputs": (64, 3, 9, 9)}, ValueError, r"inputs must have the shape of the data, but got .*9, 9.*12, 12"),
            ({"data": np.zeros((4, 5, 12, 12)), "inputs": None}, ValueError,
             r"the network does not take inputs of shape \(1, 5, 12, 12\) float32: "),
            ({"data": (images(4), np.array([0, 1, 2, 9]))}, ValueError,
             r"labels up to 9 need an output of shape \(n, classes\), but .* has shape \(n, 5\)"),
            ({"data": (images(4), np.array([0, 1]))}, ValueError, r"a label for each sample, but got 4 samples, 2"),
            ({"data": np.full((2, 3, 12, 12), np.nan)}, ValueError,
             r"input 0 of evaluate must be finite, but has NaN at \[0, 0, 0, 0\], 864 NaN"),
        ],
    )  # fmt: skip
    def test_arguments(self, settings: dict[str, Any], error: type[Exception], sentence: str) -> None:
        with pytest.raises(error, match=sentence):
            search(**settings)

    def test_training_samples_of_another_shape(self) -> None:
        from mindspore import dataset

        train = dataset.NumpySlicesDataset((images(8)[..., :10], np.zeros(8, int)), ["x", "y"], shuffle=False)
        data = autocomp.Data(calibrate=images(16), evaluate=samples(), train=train)
        with pytest.raises(ValueError, match=r"must have the same shape, but got \(3, 12, 10\) for train and"):
            search(budget="size<60%, accuracy>99%", data=data)

    def test_training_labels_that_are_no_classes_of_the_network(self) -> None:
        data = autocomp.Data(calibrate=images(16), evaluate=samples(), train=(images(16), np.full(16, 99)))
        with pytest.raises(ValueError, match="labels to train on must be classes 0 to 4, but got 99 to 99"):
            search(budget="size<60%, accuracy>99%", data=data)

    def test_net_that_is_no_cell(self) -> None:
        with pytest.raises(TypeError, match=r"net must be a mindspore.nn.Cell, but got dict"):
            autocomp.search({}, "latency<5ms", "ascend")

    def test_budget_points_at_the_place(self) -> None:
        with pytest.raises(ValueError, match="budget") as error:
            search(budget="latency<5ms, size!3MB")
        *_, line, mark = str(error.value).splitlines()
        assert line.strip() == "latency<5ms, size!3MB" and mark.index("^") == line.index("!")

    @pytest.mark.parametrize("budget", ["latency<1us", "size<1%", "latency<90%, macs<100"])
    def test_unreachable_budget_names_the_nearest(self, budget: str) -> None:
        with pytest.raises(BudgetError, match=r"cannot be reached on ascend-310p3: the nearest is [\d.]+") as error:
            search(budget=budget)
        bound, _, nearest = str(error.value).partition(" cannot be reached on ascend-310p3: the nearest is ")
        assert bound in budget
        unit = nearest.split(" (")[0].split(" of the")[0].replace(" ", "")
        with pytest.raises(AssertionError, match="nothing is to be evaluated"):  # that is, the search began
            search_evaluating(budget=f"{re.split('[<>]', bound)[0]}<{unit}")

    def test_no_usual_image_size_fits(self) -> None:
        with pytest.raises(TraceError, match=r"takes none of the usual image sizes .*: give inputs="):
            autocomp.search(nn.Dense(7, 3), device="cpu", progress=False)

    def test_nothing_to_compress(self) -> None:
        with pytest.raises(NoEffectError, match=r"there is nothing to compress: the network has no nn.Conv2d and no"):
            autocomp.search(nn.ReLU(), device="cpu", inputs=(1, 7), progress=False)

    def test_outputs_that_are_not_finite(self) -> None:
        with pytest.raises(EvaluationError, match="outputs of the float network are not finite"):
            autocomp.search(randomised(Infinite()), device="cpu", data=images(8), progress=False)

    def test_storage_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(OSError, match=r"storage '.*' cannot be opened or written: ") as error:
            search(storage=tmp_path / "file" / "search.db")
        assert "\n" not in str(error.value)


def search_evaluating(**settings: Any) -> None:
    """Raises what the study swallowed for its last failure."""
    try:
        search(**settings)
    except EvaluationError as error:
        raise AssertionError(str(error)) from error


def test_nan_in_mid_search_is_passed_over(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    outputs = PlanEvaluator._outputs
    numbers = count(1)  # plans run in several threads

    def third_is_nan(self: PlanEvaluator, compressed: Any) -> Any:
        number = next(numbers) if compressed.plan else 0
        found = outputs(self, compressed)
        if number == 3:
            raise EvaluationError(f"outputs under the plan {compressed.plan} are not finite")
        return found

    monkeypatch.setattr(PlanEvaluator, "_outputs", third_is_nan)
    with caplog.at_level(logging.WARNING, logger="autocomp"):
        found = search(trials=8)
    assert len(found.evaluated) == 7
    assert "could not be evaluated: outputs under the plan" in caplog.text
