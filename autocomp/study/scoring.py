"""The scoring pass of a study: it measures divergences on the study's workers, within its share of the time limit."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from autocomp.errors import EvaluationError
from autocomp.evaluators import RUINED, divergence
from autocomp.process.deadline import Deadline
from autocomp.search_spaces import Plan

from .failures import RUINS, Failures
from .ledger import Ledger

if TYPE_CHECKING:
    from .executors import Executor

logger = logging.getLogger("autocomp")

DIVERGENCES = "divergences"  # the ledger's key for divergences of a scoring pass, by the plan's key
GOLDEN = (math.sqrt(5) - 1) / 2  # its multiples modulo 1 are spread evenly


class ScoringPass:
    """Measures the divergences of plans; calling it is the ``measure`` of :func:`autocomp.evaluators.score`.

    limit: of this pass; where it ends, plans that were not measured get NaN.
    progress: called with the number of plans scored so far, and the seconds of the last one; it may raise, to end the
        pass. Divergences that were measured are stored in any case, and are not measured again.
    """

    def __init__(
        self, executor: Executor, ledger: Ledger, limit: Deadline, progress: Callable[[int, float], None]
    ) -> None:
        self._executor, self._ledger, self._limit, self._progress = executor, ledger, limit, progress
        self.failures = Failures()
        self._failed: set[str] = set()  # keys of plans, which are measured again when the search is continued
        self.asked, self.left = 0, 0  # plans that were to be measured, and those that were not
        self.passing = False  # whether a plan failed for a reason that says nothing of the plan, and so may pass

    @property
    def notes(self) -> tuple[str, ...]:
        failed = self.failures.note(self.asked, "plans could not be scored")
        cut = (
            f"{self.asked - self.left} of {self.asked} plans were scored within the time limit's share for it: the "
            "sensitivity of the other choices was estimated from theirs"
        )
        return ((failed,) if failed else ()) + ((cut,) if self.left else ())

    def __call__(self, plans: Sequence[Plan]) -> list[float]:
        """The divergence of each plan, nats. EvaluationError where many plans fail for one reason."""
        known: dict[str, float] = json.loads(self._ledger.recall(DIVERGENCES) or "{}")
        self.asked += len(plans)
        missing = self._ordered([plan for plan in plans if plan.key not in known])
        try:
            if not self._limit.passed:
                self._measure(missing, known)
        finally:
            if missing:
                measured = {key: value for key, value in known.items() if key not in self._failed}
                self._ledger.remember(DIVERGENCES, json.dumps(measured))
        self.left += sum(plan.key not in known for plan in plans)
        return [known.get(plan.key, math.nan) for plan in plans]

    def _measure(self, plans: Sequence[Plan], known: dict[str, float]) -> None:
        """Adds to ``known`` until the limit."""
        last = time.monotonic()
        with closing(self._executor.ask(divergence, plans)) as results:
            for i, found in results:
                known[plans[i].key] = self._divergence(found, plans[i])
                self._progress(len(known), time.monotonic() - last)
                last = time.monotonic()
                if self._limit.passed:
                    return

    def _divergence(self, found: float | EvaluationError, plan: Plan) -> float:
        if not isinstance(found, EvaluationError):
            return found
        logger.warning("%s", found)
        self.failures.add(found, plan)
        self._failed.add(plan.key)
        self.passing |= not str(found).endswith(RUINS)
        if (most := self.failures.most(self.asked)) is not None:
            raise EvaluationError(f"{most[1]} of {self.asked} plans could not be scored: {most[0]}")
        return RUINED

    def _ordered(self, plans: list[Plan]) -> list[Plan]:
        """With a time limit in an order of which every beginning is spread evenly over the list."""
        if self._limit.seconds is None:
            return plans
        return [plans[i] for i in sorted(range(len(plans)), key=lambda i: i * GOLDEN % 1)]
