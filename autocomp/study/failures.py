"""Counts the plans that failed by their reason, and says when a search has no use of going on."""

from __future__ import annotations

from collections import Counter

from autocomp.errors import EvaluationError
from autocomp.search_spaces import Plan

FAILED_SHARE, LEAST_FAILURES = 1 / 4, 4  # of plans that fail for one reason, from which on a search ends
LONGEST_REASON = 300  # characters
RUINS = ("are not finite", "is NaN")  # how the reasons end that say something of the plan alone


class Failures:
    """The failed plans of one kind, those that were evaluated or those that were scored."""

    def __init__(self) -> None:
        self.by_reason: Counter[str] = Counter()

    def __len__(self) -> int:
        return sum(self.by_reason.values())

    def add(self, error: EvaluationError, plan: Plan) -> None:
        self.by_reason[bare_reason(str(error), str(plan))] += 1

    def most(self, total: int) -> tuple[str, int] | None:
        """The reason for which more than a quarter of ``total`` plans failed, and their number; None for no such.

        That a plan ruins the network is no such reason.
        """
        for reason, count in self.by_reason.most_common():
            if not reason.endswith(RUINS):
                return (reason, count) if count >= LEAST_FAILURES and count > total * FAILED_SHARE else None
        return None

    def note(self, total: int, what: str) -> str:
        """One sentence for the reader of the front; empty where nothing failed. what: "evaluations failed"."""
        if not self.by_reason:
            return ""
        reason, count = self.by_reason.most_common(1)[0]
        others = "" if len(self.by_reason) == 1 else f" ({count} of them)"
        return f"{len(self)} of {total} {what}{others}: {reason}"


def bare_reason(text: str, plan: str) -> str:
    """Without the plan's name, so that the failures of several plans are seen to be one."""
    text = text.replace(plan, "...")
    for start in ("plan ... could not be evaluated: ", "plan ... could not be scored: "):
        text = text.removeprefix(start)
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}..."
