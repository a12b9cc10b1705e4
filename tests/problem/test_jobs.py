"""Which budgets are refused before anything is evaluated."""

from __future__ import annotations

import numpy as np
import pytest

from autocomp.errors import BudgetError
from autocomp.hardware_models import Cost
from autocomp.problem.budget import Budget, check_reachable
from autocomp.problem.cheapest_plans import cheapest, spanning
from tests.toy import BYTES, FORMATS, toy_space

LAYERS = 16
SPACE = toy_space(LAYERS, ratios=(1.0,))
STORED = np.array([[BYTES[name] for name in FORMATS], [{0.5: 1.2}.get(BYTES[name], BYTES[name]) for name in FORMATS]])
LEAST = LAYERS / 2 * (0.5 + 1.0)


def costs(vectors: np.ndarray) -> Cost:
    """Every other layer is stored in fewer bytes with 8 bits than with 4: the least size mixes them."""
    size = STORED[np.arange(LAYERS) % 2, vectors[:, ::2].astype(np.intp)].sum(1)
    ones = np.ones(len(size))
    return Cost(ones, ones, size, ones, ones, ones)


FLOAT = costs(np.zeros((1, 2 * LAYERS)))[0]


def nearest(budget: str) -> Cost:
    return cheapest(SPACE, costs, Budget.parse(budget), FLOAT)


def test_a_size_that_only_a_mixture_of_formats_has_is_reached() -> None:
    assert costs(spanning(SPACE)).size_mb.min() > 0.19 * FLOAT.size_mb
    found = nearest("size<19%, accuracy>-1%")
    assert found.size_mb.min() == pytest.approx(LEAST)
    check_reachable(Budget.parse("size<19%, accuracy>-1%"), found, FLOAT, "cpu")
    with pytest.raises(BudgetError, match=r"size<18% cannot be reached on cpu: the nearest is 18\.8 %"):
        check_reachable(Budget.parse("size<18%"), nearest("size<18%"), FLOAT, "cpu")


def test_nothing_more_is_looked_at_for_bounds_that_are_met() -> None:
    assert len(nearest("size<30%, latency<100%").size_mb) == len(spanning(SPACE))
    assert len(nearest("").size_mb) == len(spanning(SPACE))
