from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autocomp.evaluators import Measurement
from autocomp.problem.pareto import hypervolume, knee, nondominated
from autocomp.results.front import ExportReport, ParetoSet
from autocomp.results.front_table import render, selected
from autocomp.results.wording import short
from autocomp.search_spaces import Plan
from tests.fronts import FLOAT_ACCURACY, front, record

ROWS = [(0.89, 0.6, 0.5), (0.88, 0.4, 0.6), (0.87, 0.5, 0.7), (0.80, 0.3, 0.2)]

grid = st.integers(0, 4).map(lambda i: i / 4)
rows = st.lists(st.tuples(grid, grid, grid), min_size=1, max_size=12)


def beats(a: np.ndarray, b: np.ndarray) -> bool:
    return bool((a <= b).all() and (a < b).any())


@given(rows)
def test_nondominated_is_what_brute_force_finds(points: list[tuple[float, ...]]) -> None:
    array = np.array(points)
    expected = [
        not any(beats(other, point) for other in array) and not any((other == point).all() for other in array[:i])
        for i, point in enumerate(array)
    ]
    assert nondominated(array).tolist() == expected


@given(rows)
def test_hypervolume_is_the_share_of_cells_that_are_dominated(points: list[tuple[float, ...]]) -> None:
    centres = (np.arange(4) + 0.5) / 4
    cells = np.stack(np.meshgrid(centres, centres, centres), axis=-1).reshape(-1, 3)
    dominated = [(np.array(points) <= cell).all(axis=1).any() for cell in cells]
    assert hypervolume(np.array(points), np.ones(3)) == pytest.approx(np.mean(dominated))


def test_hypervolume_of_nothing_and_of_everything() -> None:
    assert nondominated(np.empty((0, 2))).tolist() == []
    assert hypervolume(np.empty((0, 2)), np.ones(2)) == 0
    assert hypervolume(np.array([[0.0, 0.0]]), np.array([2.0, 5.0])) == 1


def test_knee_is_farthest_from_the_chord() -> None:
    assert knee(np.array([[0.0, 10.0], [0.3, 4.0], [0.5, 2.0], [1.0, 0.0]])) == 1  # tied with the third: the first
    assert knee(np.array([[0.0, 10.0], [0.3, 4.1], [0.5, 2.0], [1.0, 0.0]])) == 2
    assert knee(np.array([[0.0, 3.0, 9.0], [0.4, 1.0, 4.0], [1.0, 0.0, 0.0]])) == 2
    assert knee(np.array([[5.0, 5.0]])) == 0


@given(rows)
def test_front_has_what_nothing_feasible_beats(found: list[tuple[float, ...]]) -> None:
    budget = "latency<80%"
    result = front(found, budget)
    points = {id(point): np.array([-point.accuracy, *point_costs(point)]) for point in result.evaluated}
    feasible = [point for point in result.evaluated if point.cost.latency_ms <= 3.2]
    if not feasible:
        assert not result.feasible and "no evaluated plan meets the budget latency<80%" in result.notes[0]
        return
    assert result.feasible and set(map(id, result)) <= set(map(id, feasible))
    for point in feasible:
        on_front = any(point is other for other in result)
        beaten = any(beats(points[id(other)], points[id(point)]) for other in feasible)
        equal = any((points[id(other)] == points[id(point)]).all() for other in result)
        assert on_front <= (not beaten) and (beaten or equal)


def point_costs(point: Any) -> tuple[float]:
    return (point.cost.latency_ms,)


def test_the_most_expensive_comes_first() -> None:
    result = front(ROWS)
    assert result.objectives == ("latency", "size")
    assert [point.accuracy for point in result] == [0.9, 0.89, 0.88, 0.8]
    assert result.float_point is result[0] and result[0].is_float
    assert [point.accuracy for point in result[1:3]] == [0.89, 0.88]
    assert len(result.evaluated) == 5


def test_infeasible_search_shows_the_nearest_of_each_kind() -> None:
    result = front(ROWS, "latency<20%, accuracy>-1%")
    assert not result.feasible
    assert result[-1].accuracy == 0.8 and all(point.accuracy != 0.87 for point in result)
    assert result.hypervolume() == 0
    assert "these come nearest" in " ".join(str(result).split())
    many = front([(0.5 + 0.001 * i, 0.3 + 0.01 * i, 1.0) for i in range(30)], "latency<10%")
    assert len(many) == 10


def test_the_float_networks_record_is_needed_and_nan_is_left_out() -> None:
    with pytest.raises(ValueError, match="needs the float network's record, but none of 1 has an empty plan"):
        ParetoSet([record(0.8, name="a")], device="cpu")
    records = [record(0.9), record(float("nan"), 0.1, 0.1, name="a")]
    assert len(ParetoSet(records, device="cpu").evaluated) == 1
    with pytest.raises(ValueError, match="objectives must be at least one of latency"):
        ParetoSet(records, device="cpu", objectives=["speed"])


def test_hypervolume_of_a_front() -> None:
    assert front([(0.5, 0.5, 0.5)], objectives=["latency"]).hypervolume() == pytest.approx(0.25)
    assert front([(0.5, 0.5, 0.5)]).hypervolume() == pytest.approx(0.125)
    assert front([(0.5, 0.5, 0.5)]).hypervolume((1, 2, 1)) == pytest.approx((0.9 * 1 * 0 + 0.5 * 1.5 * 0.5) / 2)


class TestPick:
    def test_accuracy_bound_gives_the_cheapest(self) -> None:
        assert front(ROWS).pick("accuracy>-2%").accuracy == 0.88
        assert front(ROWS).pick("accuracy>-1%").accuracy == 0.89
        assert front(ROWS, objectives=["size"]).pick("accuracy>-3%").accuracy == 0.89

    def test_equally_cheap_gives_the_more_accurate(self) -> None:
        assert front([(0.85, 0.5, 0.4), (0.88, 0.5, 0.6)]).pick("accuracy>-10%").accuracy == 0.88

    def test_cost_bounds_alone_give_the_most_accurate(self) -> None:
        assert front(ROWS).pick("latency<61%").accuracy == 0.89
        assert front(ROWS).pick("size<55%, latency<50%").accuracy == 0.80

    def test_without_bounds_it_is_the_knee(self) -> None:
        result = front(ROWS)
        assert result.pick() is result.knee and result.knee.accuracy == 0.88

    def test_where_nothing_meets_the_budget_it_is_the_nearest(self) -> None:
        result = front([(0.90, 0.6, 0.6), (0.80, 0.45, 0.5), (0.85, 0.5, 0.55)], "latency<40%")
        assert not result.feasible and result.pick() is result.knee and result.knee.accuracy == 0.80

    def test_other_costs_are_looked_for_beside_the_front(self) -> None:
        records = [record(0.9), record(0.89, 0.5, 0.5, name="a"), record(0.88, 0.6, 0.6, name="b", memory_mb=0.5)]
        result = ParetoSet(records, device="cpu")
        assert [point.accuracy for point in result] == [0.9, 0.89]
        assert result.pick("memory<50%, accuracy>-2%").accuracy == 0.88

    def test_nothing_fits(self) -> None:
        with pytest.raises(
            ValueError, match=r"no evaluated plan meets accuracy>-1%, latency<30%; the nearest is w8a8"
        ) as e:
            front(ROWS).pick("accuracy>-1%, latency<30%")
        assert "w8a8 x1: accuracy 80.0 % (-10.0), latency 1.20 ms (30 %), size 200 KB (20 %); the most" in str(e.value)
        assert "within the bounds on costs lacks 9 points of accuracy, which fine-tuning may win back" in str(e.value)
        with pytest.raises(ValueError, match=r"size 200 KB \(20 %\)$"):  # no training makes it cheaper
            front(ROWS).pick("latency<10%")

    def test_stays_within_the_budget(self) -> None:
        with pytest.raises(ValueError, match="no evaluated plan within the budget latency<50% meets accuracy>-1%"):
            front(ROWS, "latency<50%").pick("accuracy>-1%")

    def test_syntax_error_points_at_the_place(self) -> None:
        with pytest.raises(ValueError, match="one of latency, memory"):
            front(ROWS).pick("speed>3")


class Recorder:
    """A deployer that says what it was asked."""

    def __init__(self) -> None:
        self.nets = 0
        self.stored: list[tuple[Path, list[Plan]]] = []

    def net(self, plan: Plan) -> Any:
        self.nets += 1
        return SimpleNamespace(plan=plan)

    def export(
        self, plan: Plan, path: str | Path, form: str | None = None, check_accuracy: bool = True, names: Any = None
    ) -> ExportReport:
        return ExportReport(Path(path), "onnx", 0.25, 1e-7, latency_ms=1.5)

    def fine_tune(self, plan: Plan, train: Any, settings: Any, progress: Any = None) -> tuple[Any, Any]:
        return self, Measurement(train, "accuracy", 2000, 9.0, 0, f"2000 images, after {settings.epochs} epochs")

    def measure(self, plan: Plan, data: Any) -> tuple[Measurement, Measurement]:
        return Measurement(data), Measurement(data)

    def layers(self, plans: Iterable[Plan]) -> None:
        return None

    def cache_bits(self, plan: Plan) -> tuple[int | None, ...]:
        return ()

    def details(self, *given: Any) -> None:
        return None

    def of(self, plan: Plan) -> Recorder:
        return self

    def restored(self, folder: Path, plan: Plan) -> Recorder:
        return self

    def store(self, folder: Path, plans: Iterable[Plan]) -> None:
        self.stored.append((folder, list(plans)))


class TestPoints:
    def test_net_is_made_once_when_asked_for(self) -> None:
        deployer = Recorder()
        point = front(ROWS, deployer=deployer)[1]
        assert deployer.nets == 0
        assert point.net is point.net and point.net.plan == point.plan
        assert deployer.nets == 1

    def test_export_keeps_what_was_measured(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "160")  # the header of a narrower table takes several lines
        result = front(ROWS, deployer=Recorder())
        report = result[1].export("a.onnx")
        assert str(report) == "a.onnx: onnx, 250 KB, 1.50 ms measured, outputs agree to 1.0e-07"
        assert result[1].measured == {"size_mb": 0.25, "latency_ms": 1.5}
        titles = [str(text).splitlines() for text in (result, front(ROWS))]
        assert [lines[2].split().count("measured") for lines in titles] == [2, 0]

    def test_a_file_stands_beside_the_prediction_for_its_form(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("COLUMNS", "160")
        result = front(ROWS, deployer=Recorder())
        of_cost = result[1].export("a.onnx")
        other = replace(of_cost, path=Path("b.mindir"), format="mindir", size_mb=0.4, predicted_mb=0.41, of_cost=False)
        monkeypatch.setattr(Recorder, "export", lambda self, plan, path, form, check_accuracy: other)
        assert str(result[1].export("b.mindir")).startswith("b.mindir: mindir, 400 KB (410 KB predicted), 1.50 ms meas")
        assert result[1].measured["size_mb"] == 0.25 and list(result[1].files) == ["onnx", "mindir"]
        result[2].export("b.mindir")
        assert "size_mb" not in result[2].measured
        assert "measured: size of the .onnx file" in " ".join(str(result).split())
        text = result.report(tmp_path / "report.html").read_text()
        assert "measured 250 KB (a.onnx)" in text and "b.mindir: mindir, 400 KB (410 KB predicted)" in text
        again = ParetoSet.load(result.save(tmp_path / "saved"))
        assert [point.files for point in again] == [point.files for point in result] and str(again) == str(result)

    def test_without_a_network(self) -> None:
        with pytest.raises(ValueError, match=r"autocomp\.load\(folder, net\)"):
            _ = front(ROWS)[0].net

    def test_summary(self) -> None:
        result = front(ROWS)
        assert result[1].summary() == "w8a8 x1: accuracy 89.0 % (-1.0), latency 2.40 ms (60 %), size 500 KB (50 %)"
        assert result[0].summary(["macs"]) == "float network: accuracy 90.0 %, macs 1.00 G"

    def test_equal_by_value(self) -> None:
        assert list(front(ROWS)) == list(front(ROWS))
        assert len({*front(ROWS), *front(ROWS)}) == len(front(ROWS))
        assert list(front(ROWS)) != list(front([(0.891, 0.6, 0.5), *ROWS[1:]]))


class TestFineTuned:
    def test_it_joins_the_front_where_nothing_beats_it(self, tmp_path: Path) -> None:
        deployer = Recorder()
        result = front(ROWS, "accuracy>-3%", deployer=deployer)
        cheapest = next(point for point in result.evaluated if point.accuracy == 0.8)
        tuned = cheapest.fine_tune(0.885, epochs=3)
        assert tuned.accuracy == 0.885 and tuned.cost == cheapest.cost and tuned.fidelity.endswith("after 3 epochs")
        result.add(tuned)
        assert list(result) == [result.float_point, result.evaluated[1], result.tuned[0]]
        assert result.tuned[0].feasible and result.pick("accuracy>-2%") == result.tuned[0]
        assert tuned.summary().startswith("w8a8 x1, fine-tuned: accuracy 88.5 % (-1.5)")
        assert "5 evaluations, 1 fine-tuned" in str(result)
        result.add(cheapest.fine_tune(0.89, epochs=4))
        assert [point.accuracy for point in result.tuned] == [0.89]
        result.tuned[0].measured["size_mb"] = 0.3
        loaded = ParetoSet.load(result.save(tmp_path), deployer)
        assert list(loaded) == list(result) and loaded.tuned[0].measured == {"size_mb": 0.3}
        assert not any(point.measured for point in loaded.evaluated) and loaded.tuned[0].deployer is deployer
        assert deployer.stored[-1] == (tmp_path, [cheapest.plan])

    def test_others_are_refused(self) -> None:
        result = front(ROWS, deployer=Recorder())
        with pytest.raises(ValueError, match=r"add takes a fine-tuned point, evaluate\(plan\) any plan, but got w8a8"):
            result.add(result[1])
        with pytest.raises(ValueError, match="has accuracy on 2000 samples, but got accuracy on 5"):
            result.add(replace(result[1].fine_tune(0.9), samples=5))

    def test_it_says_what_was_measured(self) -> None:
        found = Measurement(1.0, "agreement", 8, 9.0, 0, "8 images, after 1 epochs")
        tuned = front(ROWS)[1].trained(Recorder(), found)
        assert tuned.metric == "agreement" and tuned.summary().startswith("w8a8 x1, fine-tuned: agreement 100.0 %")

    def test_a_training_that_harms_is_named(self, caplog: pytest.LogCaptureFixture) -> None:
        point = front(ROWS, deployer=Recorder())[1]
        point.fine_tune(point.accuracy)
        assert not caplog.messages
        assert point.fine_tune(point.accuracy - 0.02, rate=0.03).accuracy == point.accuracy - 0.02
        (message,) = caplog.messages
        assert message.startswith("fine-tuning changed the accuracy by -2.0 on ")
        assert message.endswith(": give it more samples, or a rate below 0.03")


def test_short_counts_the_choices() -> None:
    formats = {"format/a": "w4", "format/b": "w8a8", "format/c": "w8a8"}
    plan = Plan({**formats, "keep/a": 0.875, "keep/b": 0.5, "skip/d": "skipped@block-skipping", "own/e": True})
    assert short(plan) == "w8a8 x2, own True x1, skip x1, w4 x1, keep 0.5-0.88 x2"
    assert short(Plan({"keep/a": 0.5})) == "keep 0.5 x1"
    assert short(Plan()) == "float network"


class TestTable:
    def test_the_float_network_is_first_and_stands_once(self) -> None:
        lines = str(front(ROWS)).splitlines()
        assert lines[2].split() == ["plan", "accuracy", "change", "latency", "ratio", "size", "ratio"]
        assert lines[3].split() == ["%", "points", "ms", "MB"]
        assert lines[5].split() == ["float", "network", "90.0", "4.00", "1.000"]
        assert sum("float network " in line for line in lines) == 1
        assert any(
            line.split() == ["w8a8", "x1", "89.0", "-1.0", "2.40", "60", "%", "0.500", "50", "%"] for line in lines
        )
        assert "accuracy measured on 2000 images (±1.3 points at 95 % confidence)" in " ".join(" ".join(lines).split())

    def test_long_fronts_are_cut_to_20_with_what_matters(self) -> None:
        result = front([(0.5 + 0.4 * (i / 60) ** 0.2, 0.1 + 0.014 * i, 0.5) for i in range(60)])
        shown = selected(result, 20)
        assert len(result) > 40 and len(shown) == 20
        assert shown[0] is result[0] and shown[-1] is result[-1] and result.knee in shown
        text = str(result)
        assert f"20 of {len(result)} points are shown" in text
        full = render(result.table(rows=len(result)))
        assert [t.count("w8a8 x1") + t.count("float network ") for t in (text, full)] == [20, len(result)]
        with pytest.raises(ValueError, match="rows must be at least 4"):
            result.table(rows=2)

    def test_the_most_accurate_point_is_shown_wherever_it_stands(self) -> None:
        others = [(0.94 + 0.001 * i, 0.2 + 0.02 * i, 0.5) for i in range(30)]
        for latency in np.linspace(0.25, 0.75, 11):
            result = front([*others, (0.93, 0.15, 0.1), (0.99, latency, 0.98)])
            best = max(result, key=lambda point: point.accuracy)
            assert best.accuracy == 0.99 and best not in (result[0], result[-1], result.knee)
            assert best in selected(result, 6)

    def test_text_from_outside_is_no_markup(self) -> None:
        assert "note: 5 [bold]of[/bold] it" in str(front(ROWS, notes=["5 [bold]of[/bold] it"]))


class TestStored:
    def test_loaded_equals_saved(self, tmp_path: Path) -> None:
        result = front(ROWS, "latency<70%, accuracy>-5%", settings={"seed": 3, "sampler": "nsga2"}, notes=["a note"])
        result[0].measured["size_mb"] = 0.4
        result.save(tmp_path / "runs" / "a")
        again = ParetoSet.load(tmp_path / "runs" / "a")
        assert list(again) == list(result) and again.evaluated == result.evaluated
        assert again[0].measured == {"size_mb": 0.4} and again[1].measured == {}
        assert (again.budget, again.device, again.objectives) == (result.budget, result.device, result.objectives)
        assert (again.settings, again.notes) == (result.settings, result.notes)
        assert again.hypervolume() == result.hypervolume()
        assert str(again) == str(result)
        assert sorted(path.name for path in (tmp_path / "runs" / "a").iterdir()) == ["front.json", "report.html"]

    def test_the_deployer_stores_the_plans_and_carries_them_out_again(self, tmp_path: Path) -> None:
        deployer = Recorder()
        result = front(ROWS, deployer=deployer)
        result.save(str(tmp_path))
        assert deployer.stored == [(tmp_path, [point.plan for point in result])]
        assert ParetoSet.load(tmp_path, deployer)[1].net.plan == result[1].plan

    def test_accuracy_of_float_is_kept_when_infeasible(self, tmp_path: Path) -> None:
        result = front(ROWS, "latency<1%")
        again = ParetoSet.load(result.save(tmp_path))
        assert list(again) == list(result) and again.notes == result.notes
        assert again.float_point.accuracy == FLOAT_ACCURACY

    def test_what_resolves_other_budgets_stays_without_the_network(self, tmp_path: Path) -> None:
        saved = {"scores": "[[0.0, 1.5]]", "device": {"name": "ascend-310p3"}}
        front(ROWS, resolver=SimpleNamespace(stored=lambda: saved)).save(tmp_path)
        ParetoSet.load(tmp_path).save(tmp_path)
        assert json.loads((tmp_path / "front.json").read_text())["resolver"] == saved

    def test_other_files_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"is a folder with front\.json, but"):
            ParetoSet.load(tmp_path)
        for text, message in [
            ("{", "cannot be read"),
            ("[1]", "cannot be read"),
            (json.dumps({"schema": 99}), "must have schema 1, but got 99"),
            (json.dumps({"schema": 1}), "it lacks 'device'"),
        ]:
            (tmp_path / "front.json").write_text(text)
            with pytest.raises(ValueError, match=message):
                ParetoSet.load(tmp_path)

    def test_unwritable_place_is_one_sentence_and_leaves_what_was_there(self, tmp_path: Path) -> None:
        (tmp_path / "taken").write_text("a file")
        with pytest.raises(OSError, match=r"front\.json must be writable, but it is not: ") as caught:
            front(ROWS).save(tmp_path / "taken")
        assert "\n" not in str(caught.value)
        assert (tmp_path / "taken").read_text() == "a file"
        (tmp_path / "folder" / "front.json").mkdir(parents=True)
        with pytest.raises(OSError, match="must be writable"):
            front(ROWS).save(tmp_path / "folder")
        assert [path.name for path in (tmp_path / "folder").iterdir()] == ["front.json"]
