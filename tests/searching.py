"""A search on a small real network, the same in every process; ``python -m tests.searching <storage> [<workers>]``
prints it."""

from __future__ import annotations

import json
import signal
import sys
from functools import cache
from typing import Any

import numpy as np

DEVICE, BATCH, TRIALS = "ascend-310p3", 64, 24
SETTINGS: dict[str, Any] = {"sampler": "nsga2", "seed": 3, "progress": False}


@cache
def network() -> Any:
    from .networks import Residual, randomised

    return randomised(Residual())


@cache
def samples() -> tuple[np.ndarray, np.ndarray]:
    """Images, and the float network's classes for them but for every fifth, which is drawn."""
    from autocomp.primitives.tracing.platform import forward

    from .networks import images

    x = images(300, seed=9)
    y = forward(network(), (x,), graph=False)[0].argmax(1)
    y[::5] = np.random.default_rng(9).integers(0, 5, len(y[::5]))
    return x, y


def search(**settings: Any) -> Any:
    import autocomp

    given: dict[str, Any] = (
        {"device": DEVICE, "data": samples(), "inputs": (BATCH, 3, 12, 12), "trials": TRIALS} | SETTINGS | settings
    )
    return autocomp.search(network(), **given)


def observed(front: Any) -> dict[str, Any]:
    """What was found, without times."""
    return {
        "points": [[point.vector, point.accuracy, point.cost.latency_ms, point.cost.size_mb] for point in front],
        "evaluated": [[point.vector, point.accuracy] for point in front.evaluated],
    }


def main(storage: str, workers: str | None = None) -> None:
    from autocomp.evaluators import PlanEvaluator

    evaluated = []
    evaluate = PlanEvaluator.evaluate

    def counted(self: PlanEvaluator, plan: Any) -> Any:
        evaluated.append(str(plan))
        return evaluate(self, plan)

    PlanEvaluator.evaluate = counted  # type: ignore[method-assign]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background ignores Ctrl-C
    front = search(storage=storage, workers=workers and int(workers))
    sys.stdout.write(
        json.dumps({"evaluations": len(evaluated), "stopped": front.settings["stopped"], **observed(front)})
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
