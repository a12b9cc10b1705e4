"""Says how far a search is: on a line or in the log, beside its evaluations, as metrics, and to the user's function."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

from autocomp.evaluators import Measurement

from .status import EVERY_S, KEY, SHOWN, Rate, Snapshot

if TYPE_CHECKING:
    from .study import Study

logger = logging.getLogger("autocomp")


class Announcer:
    """What one run of a study says. on_evaluation: called with each new measurement; what it raises is logged."""

    def __init__(self, on_evaluation: Callable[[Measurement], object] | None) -> None:
        self._on_evaluation = on_evaluation
        self._started, self._told, self._rate = time.time(), 0.0, Rate()

    def evaluated(self, found: object) -> None:
        """A new result of an evaluation, which may be an error."""
        self._rate.add()
        if self._on_evaluation is None or not isinstance(found, Measurement):
            return
        try:
            self._on_evaluation(found)
        except Exception as error:  # of the user's code, which must not end the search
            logger.warning("on_evaluation raised %s: %s", type(error).__name__, error)

    def tell(self, study: Study, ended: bool = False) -> None:
        """Writes the status where the last one is two seconds old; at the end in any case."""
        if not ended and time.time() - self._told < EVERY_S:
            return
        self._told = time.time()
        found = self._snapshot(study)
        study.ledger.note(KEY, found.to_json())
        values = {name: value for name, value in asdict(found).items() if name in SHOWN and value is not None}
        study.executor.show(values)

    def _snapshot(self, study: Study) -> Snapshot:
        return Snapshot(
            trials=study.trials,
            done=study.done,
            reused=study.reused,
            failed=len(study.failures),
            hypervolume=study.front.volume,
            best=study.bar.best(study.front),
            rate=self._rate.per_minute,
            left_s=study.bar.seconds_left(study.done, study.reused),
            batch=study.batch,
            started=self._started,
            written=time.time(),
            stopped=study.stopped,
        )
