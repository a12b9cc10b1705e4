from __future__ import annotations

import numpy as np
import optuna
import pytest

from autocomp.samplers import (
    OptunaSampler,
    Outcome,
    Problem,
    Sampler,
    register,
    sampler,
    sampler_names,
    spread,
    uniform_plans,
)
from autocomp.search_spaces import ChannelGroup, Knob, NetworkGraph, SearchSpace
from tests import third_party
from tests.toy import FORMATS, RATIOS, toy_accuracy, toy_costs, toy_space

SPACE = toy_space(4)


def outcome(vector: np.ndarray) -> Outcome:
    accuracy = toy_accuracy(SPACE, SPACE.decode(vector))
    cost = toy_costs(SPACE, vector)[0]
    return Outcome(tuple(vector.tolist()), (-accuracy, cost.latency_ms), (0.8 - accuracy,))


def latency(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(toy_costs(SPACE, vectors).latency_ms)[:, None]


def history(chosen: Sampler, batches: int = 5) -> list[list[int]]:
    """All proposals of some batches; the first of a batch is told as failed, one more that nobody asked for."""
    chosen.tell([outcome(np.zeros(8, np.int64))])
    asked = []
    for _ in range(batches):
        batch = chosen.ask(6)
        asked += [vector.tolist() for vector in batch]
        if batch:
            chosen.tell([Outcome(tuple(batch[0].tolist()), None), *map(outcome, batch[1:])])
    return asked


@pytest.mark.parametrize("name", [*sampler_names(), third_party.SAMPLER])
class TestEverySampler:
    @pytest.fixture(autouse=True)
    def example(self, monkeypatch: pytest.MonkeyPatch) -> None:
        third_party.add_sampler(monkeypatch)

    def make(self, name: str, seed: int = 0) -> Sampler:
        return sampler(name, Problem(SPACE, objectives=2, trials=30, seed=seed, costs=latency))

    def test_is_a_sampler(self, name: str) -> None:
        assert isinstance(self.make(name), Sampler)

    def test_vectors_are_of_the_space(self, name: str) -> None:
        asked = np.array(history(self.make(name)))
        assert asked.shape[1] == len(SPACE.knobs) and np.issubdtype(asked.dtype, np.integer)
        assert (asked >= 0).all() and (asked < SPACE.sizes).all()

    def test_gives_no_more_than_asked_for(self, name: str) -> None:
        chosen = self.make(name)
        assert [len(chosen.ask(count)) for count in (1, 3, 2)] == [1, 3, 2]

    def test_same_seed_same_proposals(self, name: str) -> None:
        np.random.seed(1)
        first = history(self.make(name))
        np.random.seed(2)
        assert history(self.make(name)) == first

    def test_seed_matters_where_chance_does(self, name: str) -> None:
        same = history(self.make(name, seed=1)) == history(self.make(name, seed=2))
        assert same == (name == "uniform")

    def test_order_of_telling_two_failures_is_no_matter(self, name: str) -> None:
        chosen = self.make(name)
        first, second = chosen.ask(2)
        chosen.tell([Outcome(tuple(second.tolist()), None), Outcome(tuple(first.tolist()), None)])
        assert chosen.ask(1)

    def test_takes_spaces_with_nothing_to_choose_at_a_knob(self, name: str) -> None:
        knobs = (Knob("format/a", "rtn", ("a",), ("float",)), Knob("format/b", "rtn", ("b",), ("float", "w8")))
        space = SearchSpace(NetworkGraph((), ()), knobs)
        chosen = sampler(name, Problem(space, 2, trials=30, costs=lambda vectors: 1.0 / (1 + vectors[:, 1:])))
        for _ in range(12):
            for vector in chosen.ask(1):
                assert vector[0] == 0
                chosen.tell([Outcome(tuple(vector.tolist()), (0.5, 1.0))])


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(
        ValueError,
        match="unknown sampler 'annealing'; known: amc, architectures, auto, frontier, haq, nsga2, random",
    ):
        sampler("annealing", Problem(SPACE, 2, 10))


def test_a_name_is_registered_once() -> None:
    with pytest.raises(ValueError, match="'tpe' is there already"):
        register("tpe")(lambda problem: sampler("random", problem))


def test_uniform_plans_are_all_combinations_float_first() -> None:
    plans = uniform_plans(SPACE)
    assert plans[0].tolist() == [0] * 8
    assert len({tuple(plan) for plan in plans.tolist()}) == len(plans) == len(FORMATS) * len(RATIOS)
    for plan in plans:
        assert len(set(plan[0::2])) == 1 and len(set(plan[1::2])) == 1


def test_uniform_plans_leave_knobs_without_the_value_as_they_are() -> None:
    knobs = (Knob("format/a", "rtn", ("a",), ("float", "w8", "w4")), Knob("format/b", "rtn", ("b",), ("float", "w4")))
    assert uniform_plans(SearchSpace(NetworkGraph((), ()), knobs)).tolist() == [[0, 0], [1, 0], [2, 1]]


def test_uniform_plans_cut_a_group_to_the_nearest_ratio_that_it_has() -> None:
    groups = ChannelGroup("a", ("a",), 0, 64), ChannelGroup("b", ("b",), 64, 96)
    ratios = (1.0, 0.75, 0.5, 0.25), (1.0, 0.5)
    knobs = tuple(
        Knob(f"keep/{group.name}", "channels", (), values, group, np.arange(group.units), 16)
        for group, values in zip(groups, ratios, strict=True)
    )
    assert uniform_plans(SearchSpace(NetworkGraph((), ()), knobs)).tolist() == [[0, 0], [1, 0], [2, 1], [3, 1]]


def test_spread_keeps_all_plans_and_goes_to_the_far_end_first() -> None:
    plans = uniform_plans(SPACE)
    ordered = spread(plans, SPACE.sizes)
    assert sorted(ordered.tolist()) == sorted(plans.tolist())
    assert ordered[0].tolist() == [0] * 8 and ordered[1].tolist() == (SPACE.sizes - 1).tolist()


def test_auto_starts_with_the_uniform_plans() -> None:
    plans = uniform_plans(SPACE)
    asked = sampler("auto", Problem(SPACE, 2, 100)).ask(len(plans))
    assert [vector.tolist() for vector in asked] == spread(plans, SPACE.sizes).tolist()


@pytest.mark.parametrize("name", ["tpe", "nsga2"])
def test_learns(name: str) -> None:
    """After 120 plans its last 40 are better than 40 at random: in the objective, and within the constraint."""
    chosen = sampler(name, Problem(SPACE, objectives=2, trials=160, seed=3))
    for _ in range(20):
        batch = chosen.ask(8)
        chosen.tell([outcome(vector) for vector in batch])
        last = batch
    best = np.mean([outcome(vector).violations[0] for vector in [*last, *chosen.ask(32)]])
    chance = np.mean([outcome(v).violations[0] for v in SPACE.random(np.random.default_rng(0), 200)])
    assert best < chance - 0.1


def test_any_optuna_sampler_can_be_wrapped_and_optunas_log_level_stays() -> None:
    optuna.logging.set_verbosity(optuna.logging.INFO)
    wrapped = OptunaSampler(Problem(SPACE, 2, 10), optuna.samplers.RandomSampler(seed=0))
    assert len(history(wrapped)) == 30
    assert optuna.logging.get_verbosity() == optuna.logging.INFO


@pytest.mark.parametrize("name", ["auto", "nsga2", "tpe"])
def test_optuna_is_told_values_constraints_and_failures(name: str) -> None:
    chosen = sampler(name, Problem(SPACE, objectives=2, trials=30))
    assert isinstance(chosen, OptunaSampler)
    good, bad = (tuple(vector.tolist()) for vector in chosen.ask(2))
    unasked = (1, 2, 3, 0, 0, 0, 0, 1)
    chosen.tell([Outcome(bad, None), Outcome(good, (-0.9, 2.0), (0.3, -0.1)), Outcome(unasked, (-0.5, 1.0), (-0.2,))])
    first, second, third = chosen._study.trials
    assert first.values == [-0.9, 2.0] and first.constraints == {"0": 0.3, "1": -0.1}
    assert second.state == optuna.trial.TrialState.FAIL
    assert tuple(third.params.values()) == unasked and third.constraints == {"0": -0.2}
