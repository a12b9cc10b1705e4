"""Deep deterministic policy gradients (Lillicrap et al., ICLR 2016) in NumPy, as AMC and HAQ use them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy.special import ndtr, ndtri

HIDDEN = (300, 300)
ACTOR_RATE, CRITIC_RATE = 1e-4, 1e-3
TAU = 0.01  # of the target networks
BATCH = 64
BASELINE = 0.5  # share of a new batch in the moving average of rewards


class Dense:
    """Dense layers with ReLU between them and, if wanted, a sigmoid after the last; float64.

    parameters: weight (out, in) and bias (out,) of each layer in turn, drawn from U(-b, b) with b = 1 / sqrt(in).
    """

    def __init__(self, sizes: Sequence[int], rng: np.random.Generator, sigmoid: bool = False) -> None:
        self.sigmoid = sigmoid
        self.parameters: list[np.ndarray] = []
        for before, after in pairwise(sizes):
            bound = 1 / np.sqrt(before)
            self.parameters += [rng.uniform(-bound, bound, (after, before)), rng.uniform(-bound, bound, after)]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(n, out) of (n, in)."""
        return self._forward(x)[-1]

    def _forward(self, x: np.ndarray) -> list[np.ndarray]:
        """The input and the output of each layer."""
        values = [x]
        layers = len(self.parameters) // 2
        for i in range(layers):
            weight, bias = self.parameters[2 * i : 2 * i + 2]
            out = values[-1] @ weight.T + bias
            if i < layers - 1:
                out = np.maximum(out, 0)
            elif self.sigmoid:
                out = 1 / (1 + np.exp(-out))
            values.append(out)
        return values

    def gradients(self, x: np.ndarray, slope: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """Gradients of the sum of ``slope`` times the output, both (n, out): with respect to the parameters, and to
        ``x``."""
        values = self._forward(x)
        if self.sigmoid:
            slope = slope * values[-1] * (1 - values[-1])
        found: list[np.ndarray] = []
        for i in reversed(range(len(self.parameters) // 2)):
            found[:0] = [slope.T @ values[i], slope.sum(0)]
            slope = slope @ self.parameters[2 * i]
            if i:
                slope = slope * (values[i] > 0)
        return found, slope

    def copy(self) -> Dense:
        twin = Dense((), np.random.default_rng(0), self.sigmoid)
        twin.parameters = [parameter.copy() for parameter in self.parameters]
        return twin

    def follow(self, other: Dense, share: float) -> None:
        for mine, theirs in zip(self.parameters, other.parameters, strict=True):
            mine += share * (theirs - mine)


class Adam:
    """Adam (Kingma and Ba, ICLR 2015), with their defaults except for the rate."""

    def __init__(self, parameters: Sequence[np.ndarray], rate: float) -> None:
        self._parameters, self._rate, self._steps = parameters, rate, 0
        self._means = [np.zeros_like(parameter) for parameter in parameters]
        self._squares = [np.zeros_like(parameter) for parameter in parameters]

    def step(self, gradients: Sequence[np.ndarray]) -> None:
        self._steps += 1
        size = self._rate * np.sqrt(1 - 0.999**self._steps) / (1 - 0.9**self._steps)
        for parameter, mean, square, gradient in zip(
            self._parameters, self._means, self._squares, gradients, strict=True
        ):
            mean += 0.1 * (gradient - mean)
            square += 0.001 * (gradient**2 - square)
            parameter -= size * mean / (np.sqrt(square) + 1e-8)


class Agent:
    """Gives an action in [0, 1] for a state. It is trained on whole episodes: each step gets the reward of its episode.

    features: of a state. memory: transitions that are kept.
    """

    def __init__(self, features: int, memory: int, rng: np.random.Generator) -> None:
        self.actor = Dense((features, *HIDDEN, 1), rng, sigmoid=True)
        self.critic = Dense((features + 1, *HIDDEN, 1), rng)
        self._target_actor, self._target_critic = self.actor.copy(), self.critic.copy()
        self._actor_steps = Adam(self.actor.parameters, ACTOR_RATE)
        self._critic_steps = Adam(self.critic.parameters, CRITIC_RATE)
        self._memory: deque[tuple[np.ndarray, float, float, np.ndarray, bool]] = deque(maxlen=memory)
        self._baseline: float | None = None

    def act(self, state: np.ndarray, deviation: float, rng: np.random.Generator) -> float:
        """A draw from the normal distribution around the actor's action, truncated to [0, 1]."""
        mean = float(self.actor(state[None])[0, 0])
        low, high = ndtr((0 - mean) / deviation), ndtr((1 - mean) / deviation)
        return float(np.clip(mean + deviation * ndtri(rng.uniform(low, high)), 0, 1))

    def observe(self, states: np.ndarray, actions: np.ndarray, reward: float) -> None:
        """Store an episode: states (steps, features), actions (steps,)."""
        last = len(states) - 1
        for i, (state, action) in enumerate(zip(states, actions, strict=True)):
            self._memory.append((state, float(action), reward, states[min(i + 1, last)], i == last))

    def learn(self, rng: np.random.Generator) -> None:
        """One training step on a batch: the critic towards the reward less the baseline plus the value of the next
        step, the actor up the gradient of the critic's value."""
        drawn = [self._memory[i] for i in rng.integers(0, len(self._memory), BATCH)]
        columns = zip(*drawn, strict=True)
        states, actions, rewards, following, last = (np.array(column) for column in columns)
        mean = float(rewards.mean())
        self._baseline = mean if self._baseline is None else self._baseline + BASELINE * (mean - self._baseline)
        after = self._target_critic(np.hstack([following, self._target_actor(following)]))[:, 0]
        wanted = rewards - self._baseline + np.where(last, 0, after)
        pairs = np.hstack([states, actions[:, None]])
        error = self.critic(pairs) - wanted[:, None]
        self._critic_steps.step(self.critic.gradients(pairs, 2 * error / BATCH)[0])
        self._actor_steps.step(self.actor_gradients(states))
        self._target_actor.follow(self.actor, TAU)
        self._target_critic.follow(self.critic, TAU)

    def actor_gradients(self, states: np.ndarray) -> list[np.ndarray]:
        """Gradients of minus the mean of the critic's value of the actor's actions."""
        pairs = np.hstack([states, self.actor(states)])
        slope = np.full((len(states), 1), -1 / len(states))
        by_action = self.critic.gradients(pairs, slope)[1][:, -1:]
        return self.actor.gradients(states, by_action)[0]
