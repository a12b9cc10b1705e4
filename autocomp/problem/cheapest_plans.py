"""The cheapest plans of a space, which say whether any meets a budget."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from autocomp.hardware_models import Cost
from autocomp.samplers import Solver
from autocomp.search_spaces import SearchSpace

from .budget import Budget
from .metrics import METRICS

Costs = Callable[[np.ndarray], Cost]  # gives the costs of vectors, (n, knobs) int
PROBED_PLANS = 4096  # random plans whose costs are computed before a budget is called unreachable


def cheapest(space: SearchSpace, costs: Costs, budget: Budget, of_float: Cost, seed: int = 0) -> Cost:
    """Costs of plans that span the space; where none meets a bound, also of the plan at the end of a descent from the
    nearest one."""
    vectors = spanning(space, seed)
    found = costs(vectors)
    over = budget.violations(found, None, of_float, None).min(axis=0)
    missed = [METRICS[bound.metric].attribute for bound, least in zip(budget.bounds, over, strict=True) if least > 0]
    descended = [_descended(space, costs, name, vectors[getattr(found, name).argmin()]) for name in missed]
    return costs(np.concatenate([vectors, *descended])) if descended else found


def _descended(space: SearchSpace, costs: Costs, attribute: str, start: np.ndarray) -> np.ndarray:
    """(1, knobs): the end of a descent from ``start``, (knobs,), where no change of one knob lowers this cost."""
    nothing = np.zeros((1, 1))
    solver = Solver(space, lambda vectors: getattr(costs(vectors), attribute), lambda _: nothing, lambda _: nothing[0])
    return solver.descend(start[None], nothing)


def spanning(space: SearchSpace, seed: int = 0) -> np.ndarray:
    """Vectors that nearly contain the cheapest plan of every cost: each knob's cheapest values, alone and together.

    Costs fall with every knob's strength, except for formats, where size and speed can differ. So it includes every
    format in all layers, with all channel groups cut as far as possible, and also random plans.
    """
    formats = max((len(knob.values) for knob in space.knobs if knob.kind == "format"), default=1)
    strongest = space.sizes - 1
    rows = [np.zeros(len(space.knobs), np.int64), strongest]
    is_format = np.array([knob.kind == "format" for knob in space.knobs])
    rows += [np.where(is_format, np.minimum(i, strongest), strongest) for i in range(formats)]
    return np.concatenate([np.stack(rows), space.random(np.random.default_rng(seed), PROBED_PLANS)])
