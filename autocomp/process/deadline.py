"""A time limit that counts from a call on, through everything that the call does."""

from __future__ import annotations

import math
from time import monotonic


class Deadline:
    """The end of a time limit that counts from now; ``None`` seconds have no end."""

    def __init__(self, seconds: float | None = None) -> None:
        self.seconds, self._start = seconds, monotonic()

    @property
    def spent(self) -> float:
        """Seconds since the start."""
        return monotonic() - self._start

    @property
    def left(self) -> float:
        """Seconds until the end, negative after it; infinity where there is no end."""
        return math.inf if self.seconds is None else self.seconds - self.spent

    @property
    def passed(self) -> bool:
        return self.left <= 0

    def part(self, share: float) -> Deadline:
        """A deadline from now on for this share of what is left."""
        return Deadline(None if self.seconds is None else share * max(0.0, self.left))
