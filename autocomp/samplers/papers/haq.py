"""HAQ: an agent that decides layer by layer how many bits weights and inputs have (Wang et al., CVPR 2019)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autocomp.samplers.base import Problem
from autocomp.samplers.registry import register
from autocomp.search_spaces import Format

from .agents import Act, AgentSampler, Allowed, Episode, layer_of, scaled

WARMUP, DECAY, MEMORY = 20, 0.99, 128  # as in the authors' code
REWARD = 0.1  # for each percentage point of accuracy


class Bits:
    """The formats of one knob as pairs of bits; two actions choose one, and it is lowered by one step of weights or of
    inputs."""

    def __init__(self, formats: Sequence[Format]) -> None:
        self._bits = [(f.weight_bits, f.activation_bits) for f in formats]
        self.coarser_input = [self._coarser(i, 1) for i in range(len(formats))]
        self.coarser_weight = [self._coarser(i, 0) for i in range(len(formats))]

    def chosen(self, weight: float, activation: float) -> int:
        """The format for two actions. The offered numbers of bits divide [0, 1] into equal parts, the fewest bits at
        0."""
        weights = _nth(sorted({w for w, _ in self._bits}), weight)
        return self._bits.index((weights, _nth(sorted({a for w, a in self._bits if w == weights}), activation)))

    def _coarser(self, at: int, side: int) -> int:
        """The format with the next fewer bits on this side and no more on the other side; itself where there is
        none."""
        here = self._bits[at]
        lower = [b for b in self._bits if b[side] < here[side] and b[1 - side] <= here[1 - side]]
        if side == 1:  # inputs are lowered with the same weights: the weights have their own turn
            lower = [b for b in lower if b[0] == here[0]]
        return self._bits.index(max(lower, key=lambda b: (b[side], b[1 - side]))) if lower else at


def _nth(values: Sequence[int], action: float) -> int:
    return values[min(int(action * len(values)), len(values) - 1)]


class BitsWalk:
    """Two actions for each layer: for the bits of its weights, then for those of its inputs.

    A plan that exceeds the budget is lowered from the last layer on, its inputs and then its weights by one step each,
    until it meets the budget. A state has 10 features: the layer's place, input and output channels, stride, kernel,
    weights, pixels of the input, whether it is depthwise; the last action; which of the two actions comes next. Knobs
    that are no formats keep their first value.
    """

    features = 10

    def __init__(self, problem: Problem) -> None:
        space = problem.space
        self._size = len(space.knobs)
        self._knobs = [i for i, knob in enumerate(space.knobs) if knob.kind == "format"]
        self.steps = 2 * len(self._knobs)
        self._bits = [Bits(space.knobs[i].formats) for i in self._knobs]
        self.least = self._lowered(np.zeros(self._size, np.int64), lambda vectors: np.zeros(len(vectors), bool))
        layers = [layer_of(space, space.knobs[i]) for i in self._knobs]
        if layers:
            self._static = scaled([
                (i, n.channels_in, n.channels_out, n.stride, n.kernel, n.params, n.height * n.width, n.depthwise)
                for i, n in enumerate(layers)
            ])  # fmt: skip

    def play(self, act: Act, allowed: Allowed) -> Episode:
        vector, last = np.zeros(self._size, np.int64), 1.0
        states, actions = np.empty((self.steps, self.features)), np.empty(self.steps)
        for layer, knob in enumerate(self._knobs):
            for step, of_weight in ((2 * layer, 1.0), (2 * layer + 1, 0.0)):
                states[step] = (*self._static[layer], last, of_weight)
                last = actions[step] = act(states[step])
            vector[knob] = self._bits[layer].chosen(*actions[2 * layer : 2 * layer + 2])
        return Episode(self._lowered(vector, allowed), states, actions)

    def _lowered(self, vector: np.ndarray, allowed: Allowed) -> np.ndarray:
        tried = vector[None]
        while not (within := allowed(tried)).any():
            following = self._pass(tried[-1])
            if not len(following):
                return np.asarray(tried[-1])
            tried = following
        return np.asarray(tried[within.argmax()])

    def _pass(self, vector: np.ndarray) -> np.ndarray:
        """(n, knobs): the plans on one pass through all layers, each one step lower; empty where nothing can be
        lowered."""
        vector, found = vector.copy(), []
        for knob, bits in zip(reversed(self._knobs), reversed(self._bits), strict=True):
            for coarser in (bits.coarser_input, bits.coarser_weight):
                lower = coarser[vector[knob]]
                if lower != vector[knob]:
                    vector[knob] = lower
                    found.append(vector.copy())
        return np.array(found, np.int64).reshape(-1, self._size)

    def reward(self, accuracy: float, of_float: float) -> float:
        return REWARD * 100 * (accuracy - of_float)


@register("haq")
class HAQSampler(AgentSampler):
    """The agent of HAQ; :class:`BitsWalk` says what its states and actions are."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem, BitsWalk(problem), warmup=WARMUP, decay=DECAY, memory=MEMORY)
