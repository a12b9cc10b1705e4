"""A search problem in NumPy: additive sensitivity with interactions, costs that add up over layers."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from functools import partial

import numpy as np

from autocomp.errors import EvaluationError
from autocomp.evaluators import Measurement
from autocomp.hardware_models import Cost
from autocomp.search_spaces import Knob, NetworkGraph, Plan, SearchSpace

FORMATS = ("float", "w8", "w8a8", "w4", "w4a8")
RATIOS = (1.0, 0.75, 0.5, 0.25)
SENSITIVITY = {
    "float": 0.0,
    "w8": 0.002,
    "w8a8": 0.01,
    "w4": 0.1,
    "w4a8": 0.13,
    1.0: 0.0,
    0.75: 0.04,
    0.5: 0.13,
    0.25: 0.5,
}
TIME = {"float": 1.0, "w8": 1.0, "w8a8": 0.6, "w4": 1.0, "w4a8": 0.6}
BYTES = {"float": 4.0, "w8": 1.0, "w8a8": 1.0, "w4": 0.5, "w4a8": 0.5}


def toy_space(layers: int = 6, formats: tuple[str, ...] = FORMATS, ratios: tuple[float, ...] = RATIOS) -> SearchSpace:
    """Two knobs a layer, its format and what is kept of it."""
    knobs = []
    for i in range(layers):
        knobs.append(Knob(f"format/l{i}", "rtn", (f"l{i}",), formats))
        knobs.append(Knob(f"keep/l{i}", "channels", (f"l{i}",), ratios))
    return SearchSpace(NetworkGraph(nodes=(), outputs=()), tuple(knobs))


def toy_costs(space: SearchSpace, vectors: np.ndarray) -> Cost:
    vectors = np.atleast_2d(vectors)
    latency, size = np.full(len(vectors), 0.1), np.full(len(vectors), 0.01)
    macs, bops, weights = np.zeros((3, len(vectors)))
    kept = np.ones(len(vectors))
    for i in range(0, len(space.knobs), 2):
        formats, ratios = space.knobs[i].values, space.knobs[i + 1].values
        before, kept = kept, np.array([float(r) for r in ratios])[vectors[:, i + 1]]
        work = before * kept * (1 + i % 3)
        latency += work * np.array([TIME[str(f)] for f in formats])[vectors[:, i]]
        size += work * np.array([BYTES[str(f)] for f in formats])[vectors[:, i]] * (1 + i) / 8
        macs += work
        bits = np.array([8 * BYTES[str(f)] for f in formats])[vectors[:, i]]
        bops, weights = bops + work * bits * 32, weights + work * bits / 8
    return Cost(latency, size + 1, size, latency * 3, macs * 1e6, macs * 1e3, bops * 1e6, weights * 1e3)


@dataclass
class ToyEvaluator:
    """Its accuracy follows from the plan; ``sleep`` makes it slow, the others make it fail for a plan's key."""

    space: SearchSpace
    sleep: float = 0.0
    nan: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    killer: str | None = None  # a file: the first process to find it removes it and is killed
    log: str | None = None  # a file: one line for each evaluation

    @property
    def key(self) -> str:
        return "toy"

    def evaluate(self, plan: Plan) -> Measurement:
        if self.log is not None:
            with open(self.log, "a") as file:
                file.write(f"{os.getpid()} {plan}\n")
        time.sleep(self.sleep)
        if self.killer is not None and len(plan) and os.path.exists(self.killer):
            os.remove(self.killer)
            os.kill(os.getpid(), signal.SIGKILL)
        if plan.key in self.broken:
            raise EvaluationError("the toy is broken")
        if plan.key in self.nan:
            return Measurement(float("nan"))
        return Measurement(toy_accuracy(self.space, plan), samples=2000, seconds=self.sleep, fidelity="2000 images")


def toy_accuracy(space: SearchSpace, plan: Plan) -> float:
    rng = np.random.default_rng(7)
    weights = rng.uniform(0.2, 2.0, len(space.knobs))
    sensitivity = np.array([SENSITIVITY[plan.get(knob.name, knob.values[0])] for knob in space.knobs]) * weights
    joint = sensitivity.sum() + 2 * (sensitivity[:-1] * sensitivity[1:]).sum()
    return round(2000 * (0.1 + 0.82 * float(np.exp(-joint)))) / 2000


def toy(layers: int = 6, formats: tuple[str, ...] = FORMATS, ratios: tuple[float, ...] = RATIOS) -> tuple:
    """Space, evaluator, costs."""
    space = toy_space(layers, formats, ratios)
    return space, ToyEvaluator(space), partial(toy_costs, space)
