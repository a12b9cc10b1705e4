"""AMC's and HAQ's agents: their gradients against finite differences, what they see, how they keep a budget."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from autocomp.samplers import Outcome, Problem, sampler
from autocomp.samplers.papers.agents import AgentSampler
from autocomp.samplers.papers.amc import PruningWalk
from autocomp.samplers.papers.ddpg import BATCH, Adam, Agent, Dense
from autocomp.samplers.papers.haq import Bits, BitsWalk
from autocomp.search_spaces import Format
from tests.hardware_models.networks import mixed
from tests.toy import toy_accuracy, toy_costs, toy_space

SPACE = toy_space(4)
KEEPS = [i for i, knob in enumerate(SPACE.knobs) if knob.kind == "keep"]
FORMATS = [i for i, knob in enumerate(SPACE.knobs) if knob.kind == "format"]


def numerically(function: object, parameter: np.ndarray, at: tuple[int, ...], step: float = 1e-6) -> float:
    values = []
    for sign in (1, -1):
        parameter[at] += sign * step
        values.append(function())  # type: ignore[operator]
        parameter[at] -= sign * step
    return float((values[0] - values[1]) / (2 * step))


class TestGradients:
    @pytest.mark.parametrize("sigmoid", [False, True])
    def test_by_parameters_and_by_the_input(self, sigmoid: bool) -> None:
        rng = np.random.default_rng(0)
        net, x, slope = Dense((5, 7, 6, 2), rng, sigmoid), rng.normal(size=(4, 5)), rng.normal(size=(4, 2))
        by_parameters, by_input = net.gradients(x, slope)

        def value() -> float:
            return float((net(x) * slope).sum())

        for parameter, gradient in zip([*net.parameters, x], [*by_parameters, by_input], strict=True):
            assert gradient.shape == parameter.shape
            for at in list(np.ndindex(*parameter.shape))[::3]:
                assert gradient[at] == pytest.approx(numerically(value, parameter, at), abs=1e-7)

    def test_of_the_actor_through_the_critic(self) -> None:
        rng = np.random.default_rng(1)
        agent, states = Agent(4, 100, rng), rng.normal(size=(6, 4))

        def value() -> float:
            return -float(agent.critic(np.hstack([states, agent.actor(states)])).mean())

        for parameter, gradient in zip(agent.actor.parameters, agent.actor_gradients(states), strict=True):
            at = tuple(np.unravel_index(np.abs(gradient).argmax(), gradient.shape))
            assert gradient[at] == pytest.approx(numerically(value, parameter, at), rel=1e-4, abs=1e-10)

    def test_adams_first_step_is_the_rate_against_the_sign(self) -> None:
        parameter = np.array([1.0, 2.0, 3.0])
        Adam([parameter], 0.1).step([np.array([0.5, -4.0, 0.0])])
        np.testing.assert_allclose(parameter, [0.9, 2.1, 3.0], atol=1e-6)


def test_an_agent_learns_which_action_pays() -> None:
    """The reward is highest where the action is the state's first feature."""
    rng = np.random.default_rng(0)
    agent = Agent(2, 600, rng)
    for _ in range(300):
        state, action = rng.uniform(0.2, 0.8, 2), rng.uniform(size=1)
        agent.observe(state[None], action, -10 * (float(action[0]) - state[0]) ** 2)
    tested = np.column_stack([np.linspace(0.3, 0.7, 9), np.full(9, 0.5)])

    def error() -> float:
        return float(np.abs(agent.actor(tested)[:, 0] - tested[:, 0]).mean())

    before = error()
    for _ in range(400):
        agent.learn(rng)
    assert error() < before / 2 and error() < 0.08


def test_noise_stays_within_the_actions_and_follows_its_deviation() -> None:
    rng, agent = np.random.default_rng(0), Agent(3, 10, np.random.default_rng(1))
    state = np.zeros(3)
    mean = float(agent.actor(state[None])[0, 0])
    for deviation in (0.5, 0.05):
        drawn = np.array([agent.act(state, deviation, rng) for _ in range(400)])
        assert ((drawn >= 0) & (drawn <= 1)).all()
        assert abs(drawn.mean() - mean) < 3 * deviation / 20 + 0.02
        assert drawn.std() == pytest.approx(min(deviation, 0.28), rel=0.2)


def latency(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(toy_costs(SPACE, vectors).latency_ms)[:, None]


def problem(limit: float | None = None, trials: int = 40, seed: int = 0) -> Problem:
    of_float = latency(np.zeros((1, 8), np.int64))[0, 0]
    constraint_violation = None if limit is None else lambda vectors: latency(vectors)[:, 0] / of_float / limit - 1
    return Problem(SPACE, 2, trials, seed, costs=latency, constraint_violation=constraint_violation)


def observed(vectors: Sequence[np.ndarray]) -> list[Outcome]:
    return [
        Outcome(tuple(v.tolist()), (-toy_accuracy(SPACE, SPACE.decode(v)), float(latency(v[None])[0, 0])))
        for v in vectors
    ]


@pytest.mark.parametrize("name", ["amc", "haq"])
class TestSamplers:
    def run(self, name: str, given: Problem, batches: int = 4) -> list[list[int]]:
        chosen = sampler(name, given)
        chosen.tell(observed([np.zeros(8, np.int64)]))
        found = []
        for _ in range(batches):
            asked = chosen.ask(6)
            chosen.tell(observed(asked))
            found += [vector.tolist() for vector in asked]
        return found

    def test_chooses_its_own_knobs_only(self, name: str) -> None:
        others = {"amc": FORMATS, "haq": KEEPS}[name]
        found = np.array(self.run(name, problem()))
        assert not found[:, others].any()
        assert len(np.unique(found, axis=0)) > 12

    @pytest.mark.parametrize("limit", [0.9, 0.7])
    def test_keeps_the_budget(self, name: str, limit: float) -> None:
        given = problem(limit)
        assert given.constraint_violation is not None
        assert (given.constraint_violation(np.array(self.run(name, given))) <= 1e-9).all()

    def test_without_a_budget_it_aims_at_levels_of_cost_in_turn(self, name: str) -> None:
        given = problem()
        shares = latency(np.array(self.run(name, given)))[:, 0] / latency(np.zeros((1, 8), np.int64))[0, 0]
        strongest = np.zeros(8, np.int64)
        strongest[{"amc": KEEPS, "haq": FORMATS}[name]] = {"amc": 3, "haq": 4}[name]
        least = latency(strongest[None])[0, 0] / latency(np.zeros((1, 8), np.int64))[0, 0]
        for i, share in enumerate(shares):
            assert share <= least + (1 + i % 8) / 8 * (1 - least) + 1e-9
        assert shares.max() > 1.2 * shares.min()

    def test_learns_after_the_random_episodes_and_from_what_was_evaluated_alone(self, name: str) -> None:
        chosen = sampler(name, problem(0.9, trials=16))
        assert isinstance(chosen, AgentSampler) and chosen._warmup == 4
        start = chosen._agent.actor.parameters[0].copy()
        asked = chosen.ask(4)
        chosen.tell(observed(asked))
        np.testing.assert_array_equal(chosen._agent.actor.parameters[0], start)
        failed = chosen.ask(1)[0]
        chosen.tell([Outcome(tuple(failed.tolist()), None)])
        np.testing.assert_array_equal(chosen._agent.actor.parameters[0], start)
        chosen.tell(observed(chosen.ask(1)))
        assert np.abs(chosen._agent.actor.parameters[0] - start).max() > 0
        assert len(chosen._agent._memory) == 5 * chosen._walk.steps

    def test_same_seed_and_outcomes_same_plans(self, name: str) -> None:
        given = problem(trials=12)
        assert self.run(name, given) == self.run(name, given)


def test_states_of_a_network() -> None:
    """Channels, pixels and multiply-accumulates of the layers; the cost saved and what is left to save."""
    space = mixed()

    def costs(vectors: np.ndarray) -> np.ndarray:
        return 1.0 - 0.02 * vectors.sum(1, keepdims=True)

    given = Problem(space, 2, 100, costs=costs)
    for walk in (PruningWalk(given), BitsWalk(given)):
        episode = walk.play(lambda state: 0.5, lambda vectors: np.ones(len(vectors), bool))
        assert episode.states.shape == (walk.steps, walk.features) and episode.actions.shape == (walk.steps,)
        assert walk.steps >= 2 and (episode.states >= 0).all() and (episode.states <= 1).all()
        assert episode.states[0, 0] == 0 and episode.states[-1, 0] == 1, "the place comes first"
    bits = BitsWalk(given).play(lambda state: 0.5, lambda vectors: np.ones(len(vectors), bool))
    assert bits.states[:, -1].tolist() == [1.0, 0.0] * (len(bits.states) // 2), "weights, then inputs"
    assert np.ptp(bits.states[:, 5]) == 1, "weights of the layers"


class TestBits:
    bits = Bits([Format.parse(text) for text in ("float", "w8", "w8a8", "w4", "w4a8", "w4a4")])

    def test_two_actions_are_bits_of_weights_and_of_inputs(self) -> None:
        assert [self.bits.chosen(w, a) for w, a in ((1, 0), (0.5, 1), (0.5, 0.2), (0, 1), (0, 0.5), (0, 0))] == [
            0, 1, 2, 3, 4, 5,
        ]  # fmt: skip

    def test_lowering_goes_one_step_down(self) -> None:
        assert self.bits.coarser_input == [0, 2, 2, 4, 5, 5]
        assert self.bits.coarser_weight == [1, 3, 4, 3, 4, 5]


def test_batches_are_drawn_from_what_little_there_is() -> None:
    agent, rng = Agent(2, 10, np.random.default_rng(0)), np.random.default_rng(0)
    agent.observe(np.zeros((2, 2)), np.zeros(2), -0.1)
    agent.learn(rng)
    assert len(agent._memory) == 2 < BATCH
