"""Writes to a storage that may fail for a moment: a full disk, a server that starts again, a network."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

logger = logging.getLogger("autocomp")

PAUSES_S = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)  # before each further try


def written(action: Callable[[], None], storage: str, stands: Callable[[], bool] = lambda: False) -> None:
    """Runs the action until it succeeds. OSError in one sentence where it never does.

    stands: whether a try that failed has written all the same, as where only the answer of a server was lost.
    """
    for number, pause in enumerate((*PAUSES_S, None)):
        try:
            if number and stands():
                return
            return action()
        except Exception as error:  # Optuna, SQLAlchemy, its drivers and the file system raise different errors
            if pause is None:
                said = f"storage {storage!r} could not be written in {number + 1} tries over {sum(PAUSES_S):g} s"
                raise OSError(f"{said}: {first_sentence(error)}") from error
            logger.warning("storage %r could not be written, tried again in %g s: %s", storage, pause, _short(error))
            time.sleep(pause)


def first_sentence(error: Exception) -> str:
    """Why, without the SQL and the parameters behind it."""
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__
    text = str(error).split("\n[SQL")[0].split("\n(Background")[0]
    return " ".join(text.split()) or type(error).__name__


def _short(error: Exception) -> str:
    return first_sentence(error)[:200]
