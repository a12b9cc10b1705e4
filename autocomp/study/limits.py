"""How long an evaluation and a search may take where the user says nothing."""

from __future__ import annotations

import math

from autocomp.search_spaces import SearchSpace

TRIALS = 200  # plans that a search evaluates
SEARCH_S = 1800.0  # of a search that trains nothing

LEAST_S = 60.0
FLOATS = 20.0  # times the seconds of the float network
WEIGHT_S = 30e-6  # for each weight: the first plans of few bits choose all roundings, later ones know them


def usual_limit(space: SearchSpace, float_seconds: float) -> float:
    """Seconds: far more than any plan needs, so that only one that hangs is given up."""
    weights = sum(math.prod(node.weight_shape or (0,)) for node in space.graph.nodes)
    return LEAST_S + FLOATS * float_seconds + WEIGHT_S * weights


def usual_bounds(trials: int | None, time_limit: float | None, trains: bool) -> tuple[int, float | None, bool]:
    """Trials and seconds of a search, and whether the seconds are the usual ones: where neither trials nor seconds are
    given and nothing is trained, so that a network of many millions of weights gives its front in half an hour."""
    usual = trials is None and time_limit is None and not trains
    return TRIALS if trials is None else trials, SEARCH_S if usual else time_limit, usual


def over(time_limit: float) -> str:
    """Why a search ended, that its time limit ended."""
    return f"the time limit of {time_limit:g} s"


def ended_by_usual(done: int, trials: int) -> str:
    """Tells the user that the search ended by the usual time limit."""
    return (
        f"the usual time limit of {SEARCH_S / 60:.0f} minutes ended the search after {done} of {trials} evaluations: "
        "give time_limit= or trials= for more, and storage= to go on from them"
    )
