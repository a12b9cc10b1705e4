"""Reinforcement learning agents that choose a value knob by knob: one episode is one plan."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from autocomp.samplers.base import Outcome, Problem
from autocomp.samplers.observations import rows
from autocomp.search_spaces import Knob, Node, SearchSpace

from .ddpg import Agent

DEVIATION = 0.5  # standard deviation of the noise around the actor's first actions
TARGETS = 8  # target costs that are used in turn where the budget names none

Act = Callable[[np.ndarray], float]
Allowed = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Episode:
    """vector: (knobs,) int, the plan; states: (steps, features), actions: (steps,), as the agent chose them."""

    vector: np.ndarray
    states: np.ndarray
    actions: np.ndarray


class Walk(Protocol):
    """How the actions of an agent make a plan.

    steps: actions of an episode; features: of a state; least: (knobs,) int, the strongest of its plans.
    """

    least: np.ndarray
    steps: int
    features: int

    def play(self, act: Act, allowed: Allowed) -> Episode:
        """``act``: a state (features,) -> an action in [0, 1]; ``allowed``: vectors, (n, knobs) int -> (n,) bool."""
        ...

    def reward(self, accuracy: float, of_float: float) -> float: ...


class AgentSampler:
    """Random episodes first, then the agent's episodes with noise that falls from each to the next; the agent is
    trained on each.

    The papers search for one budget. Where there is none, eight levels of the first objective's cost are used as
    targets in turn, from the least cost to the float network's.

    warmup: random episodes, but no more than a quarter of all trials (AMC's share). decay: of the noise, for each
        episode.
    memory: transitions kept for each step of an episode.
    """

    def __init__(self, problem: Problem, walk: Walk, *, warmup: int, decay: float, memory: int) -> None:
        if problem.costs is None:
            raise ValueError("agents need the costs of plans, but the problem has none")
        self._problem, self._walk, self._decay = problem, walk, decay
        self._warmup = min(warmup, problem.trials // 4)
        self._of_float = np.maximum(problem.costs(np.zeros((1, len(problem.space.knobs)), np.int64))[0], 1e-12)
        if walk.steps:
            self._agent = Agent(walk.features, memory * walk.steps, np.random.default_rng([problem.seed, 0]))
        self._pending: dict[bytes, deque[Episode]] = {}
        self._asked = self._finished = 0
        self._float_accuracy = 1.0

    def ask(self, count: int) -> list[np.ndarray]:
        return [self._next() for _ in range(count if self._walk.steps else 0)]

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            vector = np.array([outcome.vector], np.int64)
            if outcome.values is not None and not vector.any():
                self._float_accuracy = -outcome.values[0]
            proposed = self._pending.get(rows(vector)[0])
            episode = proposed.popleft() if proposed else None
            # A plan that was rejected for its costs was not evaluated: it has no reward.
            if episode is not None and outcome.values is not None and self._constraint_violation(vector)[0] <= 0:
                self._learn(episode, -outcome.values[0])

    def _next(self) -> np.ndarray:
        rng = np.random.default_rng([self._problem.seed, 1, self._asked])
        deviation = DEVIATION * self._decay ** max(0, self._asked - self._warmup)

        def act(state: np.ndarray) -> float:
            if self._asked < self._warmup:
                return float(rng.uniform())
            return self._agent.act(state, deviation, rng)

        episode = self._walk.play(act, self._allowed())
        self._asked += 1
        self._pending.setdefault(rows(episode.vector[None])[0], deque()).append(episode)
        return episode.vector.copy()

    def _learn(self, episode: Episode, accuracy: float) -> None:
        rng = np.random.default_rng([self._problem.seed, 2, self._finished])
        self._agent.observe(episode.states, episode.actions, self._walk.reward(accuracy, self._float_accuracy))
        self._finished += 1
        if self._finished > self._warmup:
            for _ in range(self._walk.steps):
                self._agent.learn(rng)

    def _allowed(self) -> Allowed:
        if self._problem.constraint_violation is not None:
            return lambda vectors: self._constraint_violation(vectors) <= 0
        target = (1 + self._asked % TARGETS) / TARGETS
        least = float(self._shares(self._walk.least[None])[0])
        return lambda vectors: self._shares(vectors) <= least + target * (1 - least)

    def _constraint_violation(self, vectors: np.ndarray) -> np.ndarray:
        return (
            np.zeros(len(vectors))
            if self._problem.constraint_violation is None
            else self._problem.constraint_violation(vectors)
        )

    def _shares(self, vectors: np.ndarray) -> np.ndarray:
        """(n,): the first objective's cost as a share of the float network's."""
        assert self._problem.costs is not None
        return np.asarray(self._problem.costs(vectors)[:, 0] / self._of_float[0])


@dataclass(frozen=True)
class Layer:
    """The description of a layer that the agents read; all 0 where the graph has no such layer. stride and kernel are
    the larger of the two numbers."""

    channels_in: int = 0
    channels_out: int = 0
    height: int = 0
    width: int = 0
    stride: int = 0
    kernel: int = 0
    params: int = 0
    macs: int = 0
    depthwise: bool = False


def layer_of(space: SearchSpace, knob: Knob) -> Layer:
    """The first of the knob's layers, in execution order; an embedding reads its rows and gives numbers of one."""
    for name in knob.layers:
        if name in space.graph.embeddings:
            rows, width = space.graph.nodes[space.graph.embeddings[name]].table_shape
            return Layer(channels_in=rows, channels_out=width, params=rows * width)
    found = [space.graph.layers[name] for name in knob.layers if name in space.graph.layers]
    if not found:
        return Layer()
    node = space.graph.nodes[min(found)]
    assert node.weight_shape is not None
    window = node.attributes.convolution
    height, width = _pixels(space.graph.nodes[node.inputs[0]])
    return Layer(
        channels_in=node.weight_shape[1] * node.groups,
        channels_out=node.weight_shape[0],
        height=height,
        width=width,
        stride=max(window.stride) if window else 0,
        kernel=max(window.kernel) if window else 1,
        params=int(np.prod(node.weight_shape)),
        macs=node.macs,
        depthwise=node.depthwise,
    )


def _pixels(node: Node) -> tuple[int, int]:
    return (node.shape[2], node.shape[3]) if len(node.shape) == 4 else (1, 1)


def scaled(table: Sequence[Sequence[float]]) -> np.ndarray:
    """(n, features): every column scaled to 0 to 1; a constant column is 0."""
    found = np.array(table, np.float64)
    low, high = found.min(0), found.max(0)
    return np.asarray((found - low) / np.where(high > low, high - low, 1))
