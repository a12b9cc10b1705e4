"""Ends Python code that takes too long, by a timer of the main thread."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


@contextmanager
def time_out(seconds: float, error: Callable[[], Exception]) -> Iterator[None]:
    """Raises the error in the body after so many seconds.

    It has no effect in a thread other than the main one, where SIGALRM has a handler already, and while native code
    runs that does not come back to Python.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGALRM) != signal.SIG_DFL:
        yield
        return

    def ring(number: int, frame: FrameType | None) -> NoReturn:
        raise error()

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
