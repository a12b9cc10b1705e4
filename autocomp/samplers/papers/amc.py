"""AMC: an agent that decides layer by layer how many channels are kept (He et al., ECCV 2018)."""

from __future__ import annotations

import numpy as np

from autocomp.samplers.base import Problem
from autocomp.samplers.registry import register
from autocomp.search_spaces import split_value

from .agents import Act, AgentSampler, Allowed, Episode, layer_of, scaled

WARMUP, DECAY, MEMORY = 100, 0.95, 100  # as in the authors' code


class PruningWalk:
    """One action for each channel group: the share of units that is kept, limited by the budget.

    A state has 11 features: the group's place, output and input channels, height and width of the input, stride,
    kernel, multiply-accumulates; the share of the cost that is saved if all following groups are cut as far as
    possible; the share of multiply-accumulates that follow; the last action. Knobs that prune nothing keep their first
    value.
    """

    features = 11

    def __init__(self, problem: Problem) -> None:
        assert problem.costs is not None
        self._costs, space = problem.costs, problem.space
        self._knobs = [i for i, knob in enumerate(space.knobs) if knob.kind == "keep"]
        self.steps = len(self._knobs)
        shares = [[split_value(value)[0] for value in space.knobs[i].values] for i in self._knobs]
        self._ratios = [np.array(one, np.float64) for one in shares]
        self.least = np.zeros(len(space.knobs), np.int64)
        self.least[self._knobs] = space.sizes[self._knobs] - 1
        self._of_float = np.maximum(self._costs(np.zeros((1, len(space.knobs)), np.int64))[0, 0], 1e-12)
        layers = [layer_of(space, space.knobs[i]) for i in self._knobs]
        macs = np.array([layer.macs for layer in layers], np.float64)
        if self.steps:
            self._static = scaled([
                (i, n.channels_out, n.channels_in, n.height, n.width, n.stride, n.kernel, n.macs)
                for i, n in enumerate(layers)
            ])  # fmt: skip
            self._rest = (macs.sum() - np.cumsum(macs)) / max(macs.sum(), 1)

    def play(self, act: Act, allowed: Allowed) -> Episode:
        vector, last = self.least.copy(), 1.0
        states, actions = np.empty((self.steps, self.features)), np.empty(self.steps)
        for step, knob in enumerate(self._knobs):
            saved = 1 - self._costs(vector[None])[0, 0] / self._of_float
            states[step] = (*self._static[step], saved, self._rest[step], last)
            actions[step] = act(states[step])
            ratios = self._ratios[step]
            tried = np.repeat(vector[None], len(ratios), axis=0)
            tried[:, knob] = np.arange(len(ratios))
            within = np.flatnonzero(allowed(tried))
            choices = within if len(within) else np.array([len(ratios) - 1])
            vector[knob] = choices[np.abs(ratios[choices] - actions[step]).argmin()]
            last = ratios[vector[knob]]
        return Episode(vector, states, actions)

    def reward(self, accuracy: float, of_float: float) -> float:
        """Minus the error: the paper's reward where the budget is kept by bounding the actions."""
        return accuracy - 1


@register("amc")
class AMCSampler(AgentSampler):
    """The agent of AMC; :class:`PruningWalk` says what its states and actions are."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem, PruningWalk(problem), warmup=WARMUP, decay=DECAY, memory=MEMORY)
