"""Searches over choices: tables, functions, networks that do not exist, continued searches."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autocomp.errors import EvaluationError
from autocomp.nas import search_choices
from autocomp.problem.pareto import hypervolume

CHOICES = {"kernel": (3, 5, 7), "operator": ("depthwise", "plain", "none"), "blocks": (4, 1, 2, 3), "width": (8, 32)}
WORK = {"depthwise": 1.0, "plain": 4.0, "none": 0.0}


def macs(network: Mapping[str, Any]) -> float:
    each = network["kernel"] ** 2 * WORK[network["operator"]] * network["width"]
    return 100.0 + float(network["blocks"] * each)


def accuracy(network: Mapping[str, Any]) -> float:
    """Saturates with the work; a kernel of 5 is the best; without an operator nothing is learned."""
    if network["operator"] == "none":
        return 0.1
    return float(0.95 - 0.5 * np.exp(-np.log(macs(network)) / 3) - 0.01 * abs(network["kernel"] - 5))


def costs(network: Mapping[str, Any]) -> dict[str, float]:
    return {"macs": macs(network)}


def _points(networks: Any, most: float) -> np.ndarray:
    return np.array([[1 - one.accuracy, one.costs["macs"] / most] for one in networks])


@pytest.fixture(scope="module")
def everything() -> Any:
    return search_choices(CHOICES, accuracy, costs, trials=72, progress=False)


def test_every_network_is_evaluated_once_in_a_small_space(everything: Any) -> None:
    assert len(everything.evaluated) == 72
    assert len({tuple(one.choices.values()) for one in everything.evaluated}) == 72
    assert {type(value) for one in everything.evaluated for value in one.choices.values()} == {int, str}
    assert everything.stopped


def test_the_front_is_what_nothing_beats(everything: Any) -> None:
    front = list(everything)
    assert [one.accuracy for one in front] == sorted((one.accuracy for one in front), reverse=True)
    for one in everything.evaluated:
        beaten = any(a.accuracy >= one.accuracy and a.costs["macs"] <= one.costs["macs"] for a in front)
        assert beaten, "by itself, or by another one"
    assert "networks from 72 evaluations" in str(everything) and "accuracy" in str(front[0])


@pytest.mark.parametrize("seed", range(3))
def test_a_third_of_the_space_is_enough_for_the_front(everything: Any, seed: int) -> None:
    most = max(one.costs["macs"] for one in everything.evaluated)
    whole = hypervolume(_points(everything.evaluated, most), np.ones(2))
    found = search_choices(CHOICES, accuracy, costs, trials=24, seed=seed, progress=False)
    assert hypervolume(_points(found.evaluated, most), np.ones(2)) > 0.99 * whole


def test_the_order_of_values_does_not_matter() -> None:
    turned = {name: tuple(reversed(values)) for name, values in CHOICES.items()}
    found = [search_choices(given, accuracy, costs, trials=12, progress=False) for given in (CHOICES, turned)]
    first = [dict(each.evaluated[0].choices) for each in found]
    assert first[0] == first[1] == {"kernel": 7, "operator": "plain", "blocks": 4, "width": 32}


def test_the_same_seed_gives_the_same_networks() -> None:
    runs = [search_choices(CHOICES, accuracy, costs, trials=16, seed=5, progress=False) for _ in range(2)]
    assert [one.choices for one in runs[0].evaluated] == [one.choices for one in runs[1].evaluated]


def test_networks_that_do_not_exist_are_left_out() -> None:
    def some(network: Mapping[str, Any]) -> dict[str, float] | None:
        return None if network["kernel"] == 3 and network["width"] == 32 else costs(network)

    found = search_choices(CHOICES, accuracy, some, trials=30, progress=False)
    assert all(some(one.choices) is not None for one in found.front)
    assert all(some(one.choices) is not None for one in found.evaluated)
    assert len(found.front) > 3


def test_a_budget_bounds_the_front_as_shares_of_the_dearest_network(everything: Any) -> None:
    found = search_choices(CHOICES, accuracy, costs, budget="macs<20%", trials=24, progress=False)
    most = max(one.costs["macs"] for one in everything.evaluated)
    assert found.front and all(one.costs["macs"] <= 0.2 * most for one in found.front)


def test_networks_that_fail_are_counted_and_the_others_found() -> None:
    def fragile(network: Mapping[str, Any]) -> float:
        if network["blocks"] == 3 and network["kernel"] == 7:
            raise RuntimeError("diverged")
        return accuracy(network)

    found = search_choices(CHOICES, fragile, costs, trials=72, progress=False)
    assert found.failures == 6 and len(found.evaluated) == 66


def test_a_search_is_continued(tmp_path: Path) -> None:
    asked: list[object] = []

    def counted(network: Mapping[str, Any]) -> float:
        asked.append(tuple(network.values()))
        return accuracy(network)

    short = search_choices(CHOICES, counted, costs, trials=10, storage=tmp_path / "run", progress=False)
    whole = search_choices(CHOICES, counted, costs, trials=20, storage=tmp_path / "run", progress=False)
    assert len(asked) == len(set(asked)) == 20
    assert [one.choices for one in whole.evaluated[:10]] == [one.choices for one in short.evaluated]


def test_large_spaces_are_searched() -> None:
    choices = {f"layer{i}": (0, 1, 2, 3) for i in range(10)}

    def reached(network: Mapping[str, Any]) -> float:
        return float(1 - 0.6 * np.exp(-sum((i + 1) * value for i, value in enumerate(network.values())) / 60))

    def sum_of(network: Mapping[str, Any]) -> dict[str, float]:
        return {"latency": 1.0 + sum(map(float, network.values()))}

    found = search_choices(choices, reached, sum_of, trials=40, progress=False)
    drawn = np.random.default_rng(0).integers(0, 4, (40, 10))
    networks = [{f"layer{i}": value for i, value in enumerate(row)} for row in drawn.tolist()]
    chance = np.array([[1 - reached(one), sum_of(one)["latency"] / 31] for one in networks])
    own = np.array([[1 - one.accuracy, one.costs["latency"] / 31] for one in found.evaluated])
    assert hypervolume(own, np.ones(2)) > 1.05 * hypervolume(chance, np.ones(2))


def test_the_dearest_network_must_work() -> None:
    def never(network: Mapping[str, Any]) -> float:
        raise RuntimeError("out of memory")

    with pytest.raises(EvaluationError, match="out of memory"):
        search_choices(CHOICES, never, costs, progress=False)
    two = {"a": [1, 2], "b": [1, 2]}
    with pytest.raises(ValueError, match="the network of the dearest values must exist"):
        search_choices(two, accuracy, lambda one: None if one == {"a": 2, "b": 2} else {"macs": one["a"] * one["b"]})  # type: ignore[operator]
    with pytest.raises(ValueError, match="costs must have names of latency"):
        search_choices(CHOICES, accuracy, lambda one: {"speed": 1.0}, progress=False)
    with pytest.raises(ValueError, match="costs must be finite"):
        search_choices(CHOICES, accuracy, lambda one: {"macs": float("nan")}, progress=False)
