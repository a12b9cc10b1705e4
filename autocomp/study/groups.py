"""The plans that are under way: groups in the order in which they were proposed.

A group is proposed when the group so many places before it has ended, whatever the speed of the groups between. So a
slow plan does not idle the workers, and the proposals do not depend on which plan ends first.
"""

from __future__ import annotations

from bisect import bisect, insort
from collections.abc import Sequence
from dataclasses import dataclass, field

from autocomp.hardware_models import Cost
from autocomp.problem.record import Record
from autocomp.samplers import Vector
from autocomp.search_spaces import Plan

AHEAD = 8  # plans under way for each of many workers
GROUP, MOST_GROUPS = 8, 16  # plans of a small group; groups that are under way at the same time


def divided(batch: int) -> tuple[int, int]:
    """A batch as the plans of a group and the number of groups: 8 is one group, 64 are 8 groups of 8, 8,000 are 16 of
    500."""
    groups = min(MOST_GROUPS, -(-batch // GROUP))
    return -(-batch // groups), groups


def usual_batch(workers: int, trials: int) -> int:
    """One group for up to eight workers. For more of them eight plans a worker, so that a plan that takes several times
    as long as the others idles nobody, but half of the evaluations at most: the others learn from these."""
    if workers <= GROUP:
        return GROUP
    least, most = -(-workers // GROUP), max(-(-workers // GROUP), trials // 2 // GROUP)
    return GROUP * min(least * AHEAD, most)


@dataclass(eq=False)
class Group:
    """Plans that were proposed together. number: of the group. finished: by place; None for a plan that failed."""

    number: int
    vectors: Sequence[Vector]
    plans: Sequence[Plan]
    costs: Sequence[Cost]
    finished: dict[int, Record | None] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        return len(self.finished) == len(self.plans)


class InOrder:
    """Puts records into a list by the place of their plan, not by the moment at which they were found."""

    def __init__(self, records: list[Record]) -> None:
        self._records, self._start = records, len(records)
        self._keys: list[tuple[int, int]] = []

    def add(self, group: Group, place: int, record: Record) -> None:
        key = (group.number, place)
        self._records.insert(self._start + bisect(self._keys, key), record)
        insort(self._keys, key)
