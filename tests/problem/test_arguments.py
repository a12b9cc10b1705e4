"""Wrong arguments of every public function: one sentence, before anything is traced."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autocomp
from autocomp.problem.arguments import RULES, check, check_workers
from tests import fronts

from ..networks import Residual

X = np.zeros((4, 3, 12, 12), np.float32)
WRONG: dict[str, tuple[Any, ...]] = {  # of each kind of name, values that nothing takes
    "net": ("net", 5, Residual),
    "budget": (5, True, ["size<50%"]),
    "expression": (5, 0.5, b"size<50%"),
    "device": (None, 5, True, ["ascend"]),
    "name": (None, 3, True, {}),
    "devices": ("ascend", [], [5]),
    "train": (None, 0, 1.5, True, "4"),
    "finalists": (0, -1, 1.5, True, "4"),
    "proxy": (5, "magic", True, ["naswot"]),
    "primitives": ([], None, 5, [5], ""),
    "trials": (2.5, True, 0, -3, "20", math.nan),
    "time_limit": (True, "60", 0, -1, math.nan),
    "patience": (1.5, True, 0, "8"),
    "sampler": (None, 5, ["random"]),
    "workers": (1.5, True, "two", "", [2]),
    "resources": (5, "GPU", ["GPU"], {"GPU": 0}, {"GPU": "1"}, {1: 1}, {"GPU": math.nan}),
    "evaluation_limit": (True, "60", 0, -1, math.nan),
    "on_evaluation": (5, "print", [print]),
    "storage": (5, True, "", ["a"]),
    "fine_tune": (None, True, 1.5, -1, "2"),
    "seed": (None, True, 1.5, "0"),
    "progress": (1, "yes", 0.0),
    "precision": (8, True, ["w8"]),
    "folder": (None, 5, "", True),
    "plan": (5, True),
    "samples": (2.5, True, 0, "20"),
    "may_measure": (1, None, "no"),
    "limit": (0, 2.5, True, None, -1),
    "metric": (5, "accuracy", True),
    "choices": (None, 5, [], {}, {"a": []}, {5: [1]}, {"a": 3}),
    "accuracy": (None, 0.9, "accuracy"),
    "evaluate": (1, None, "yes"),
    "point": (None, 5, "point"),
    "path": (None, 5, "", True),
    "form": (5, True, "", "onnx"),
    "check_accuracy": (0, 1, None, "no"),
    "names": (5, "a", ["a"], {"a": 5}, {5: "a"}),
    "epochs": (0, 1.5, True, None, "2"),
    "batch": (0, 1.5, True, None),
    "rate": (0, True, math.nan, math.inf, "0.1", None),
    "algorithm": (5, None),
    "teacher": (-0.1, 1.1, True, math.nan, "0.5"),
    "exclude": (5, None, [5], True),
    "restrict": (5, None, ["head"], True),
    "resolutions": (None, True, "0.5", 0, 1, 1.5, -0.5, math.nan, [0.5, 1], [0.5, "0.75"], {0.5: 1}, {"a": 1}),
    "elastic": (-1, "2", True, float("nan"), None),
    "train_budget": (-1, "2", True, float("nan")),
    "lower_is_better": (1, "yes", 0.0),
    "key": (5, True, [], ("x",), ("x", 5)),
    "classes": (5, "cat", [5], True),
    "transform": (5, "resize", True),
    "rows": (3, 0, -1, 2.5, True, "9"),
    "threads": (0, -1, 1.5, True, None, "2"),
    "reference": (5, "1, 1", [math.nan], ["a"]),
    "metrics": ("latency", 5, None, [5]),
    "space": (None, 5, "space"),
    "costs": (None, 5, "costs"),
    "objectives": ("latency", 5, None, [5]),
    "context": (0, -1, 1.5, True, "4096"),
    "cache_bits": (0, 3, 16, 4.0, True, "8"),
    "count": (0, -1, 1.5, True, None, "2"),
}


@pytest.mark.parametrize("function", RULES)
def test_every_rule_refuses_what_is_wrong(function: str) -> None:
    for name, rule in RULES[function].items():
        for value in WRONG[name]:
            with pytest.raises((TypeError, ValueError), match=rf"^{name} must be .+, but got .+") as found:
                check(function, **{name: value})
            assert "\n" not in str(found.value) and rule.kind


@pytest.mark.parametrize("workers", [0, -1, 1.5, True, "two", "", [2], b"auto", np.float32(2), "http://host"])
def test_workers(workers: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^workers must be .+, but got workers="):
        check_workers(workers)


def test_what_is_right_is_taken() -> None:
    check("search", trials=None, time_limit=None)
    check("search", trials=np.int64(3), time_limit=None, patience=None, seed=np.int32(7), storage=Path("a"))
    check("search", primitives=iter(["rtn"]), fine_tune=0, progress=None, budget=None, time_limit=np.float32(3))
    check("compare", devices=("ascend", Path("a.toml")), precision=None)


class TestPublicFunctions:
    """The functions themselves ask the table: nothing is traced, so that a network that cannot be is not noticed."""

    @pytest.mark.parametrize(("name", "value"), [(n, v) for n in RULES["search"] for v in WRONG[n]])
    def test_search(self, name: str, value: Any) -> None:
        given = {"net": Residual(), "budget": "size<60%", "device": "ascend-310p3", "data": X, name: value}
        with pytest.raises((TypeError, ValueError), match=rf"^{name} must be .+, but got "):
            autocomp.search(**given)

    @pytest.mark.parametrize(
        ("inputs", "sentence"),
        [
            (np.full((1, 3, 12, 12), np.nan), r"inputs must be finite, but input 0 has NaN at \[0, 0, 0, 0\], 432 NaN"),
            ((X, np.array([[1.0, np.inf]])), r"input 1 has infinity at \[0, 1\]"),
            ((), "inputs must be arrays, a shape"),
            ((1, True, 12, 12), "inputs must be arrays, a shape"),
            ((1, 3.5), "inputs must be arrays, a shape"),
            ("1,3,12,12", "inputs must be arrays, a shape"),
            (5, "inputs must be arrays, a shape"),
            ({"x": X}, "inputs must be arrays, a shape"),
            (np.zeros((0, 3)), r"at least one number each, but input 0 has shape \(0, 3\)"),
            (np.array(["a"]), "arrays of numbers, but input 0 is an array of str"),
            ((10**6, 3, 10**6, 10**6), "a shape of inputs must have at most"),
        ],
    )
    def test_inputs(self, inputs: Any, sentence: str) -> None:
        for function in (autocomp.search, autocomp.estimate):
            with pytest.raises((TypeError, ValueError), match=sentence):
                function(Residual(), device="ascend-310p3", inputs=inputs)

    @pytest.mark.parametrize(("name", "value"), [(n, v) for n in RULES["estimate"] for v in WRONG[n]])
    def test_estimate(self, name: str, value: Any) -> None:
        given = {"net": Residual(), "device": "ascend-310p3", "inputs": X, name: value}
        with pytest.raises((TypeError, ValueError), match=rf"^{name} must be .+, but got "):
            autocomp.estimate(**given)

    @pytest.mark.parametrize(("name", "value"), [(n, v) for n in RULES["compare"] for v in WRONG[n]])
    def test_compare(self, name: str, value: Any) -> None:
        with pytest.raises((TypeError, ValueError), match=rf"^{name} must be .+, but got "):
            autocomp.compare(**{"net": Residual(), name: value})

    @pytest.mark.parametrize(("name", "value"), [(n, v) for n in RULES["Data"] for v in WRONG[n]])
    def test_data(self, name: str, value: Any) -> None:
        with pytest.raises((TypeError, ValueError), match=rf"^{name} must be .+, but got "):
            autocomp.Data(**{"evaluate": X, name: value})

    def test_load_rebuild_and_device(self) -> None:
        calls: list[tuple[Any, dict[str, Any]]] = [(autocomp.load, {"folder": value}) for value in WRONG["folder"]]
        calls += [(autocomp.load, {"folder": "a", "net": value}) for value in WRONG["net"]]
        calls += [(autocomp.rebuild, {"net": Residual(), "plan": value}) for value in (None, *WRONG["plan"])]
        calls += [(autocomp.rebuild, {"net": value, "plan": {}}) for value in WRONG["net"]]
        calls += [(autocomp.device, {"name": value}) for value in WRONG["name"]]
        for function, given in calls:
            with pytest.raises((TypeError, ValueError), match=r"^(folder|net|plan|name) must be .+, but got "):
                function(**given)

    def test_a_fronts_methods(self) -> None:
        front = fronts.front([(0.88, 0.5, 0.3)])
        calls: list[tuple[Any, dict[str, Any]]] = []
        for method in ("pick", "resolve", "save", "evaluate", "add"):
            (name, *_) = RULES[method]
            calls += [(getattr(front, method), {name: value}) for value in WRONG[name]]
        for method in ("export", "fine_tune"):
            more: dict[str, Any] = {"train": X} if method == "fine_tune" else {"path": "net.onnx"}
            calls += [(getattr(front[0], method), {**more, n: v}) for n in RULES[method] for v in WRONG[n]]
        for function, given in calls:
            with pytest.raises((TypeError, ValueError), match=r"^\w+ must be .+, but got "):
                function(**given)


@pytest.mark.parametrize(
    ("given", "meant"),
    [({"device": "ascend-310p"}, "ascend-310p3"), ({"sampler": "nsga"}, "nsga2"), ({"primitives": "rtm"}, "rtn")],
)
def test_an_unknown_name_with_the_nearest(given: dict[str, Any], meant: str) -> None:
    with pytest.raises(ValueError, match=rf"unknown .*; did you mean '{meant}'\?"):
        autocomp.search(Residual(), **{"device": "ascend-310p3", "data": X, **given})
