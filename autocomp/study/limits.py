"""How long an evaluation may take where the user says nothing."""

from __future__ import annotations

import math

from autocomp.search_spaces import SearchSpace

LEAST_S = 60.0
FLOATS = 20.0  # times the seconds of the float network
WEIGHT_S = 30e-6  # for each weight: the first plans of few bits choose all roundings, later ones know them


def usual_limit(space: SearchSpace, float_seconds: float) -> float:
    """Seconds: far more than any plan needs, so that only one that hangs is given up."""
    weights = sum(math.prod(node.weight_shape or (0,)) for node in space.graph.nodes)
    return LEAST_S + FLOATS * float_seconds + WEIGHT_S * weights
