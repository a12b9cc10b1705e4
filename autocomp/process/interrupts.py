"""Ctrl-C and SIGTERM beside MindSpore and Ray."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt in the body, and so does SIGTERM where nobody else handles it.

    MindSpore 2.10 puts a handler of its own in the place of Python's when it runs a compiled network, and leaves it
    there: at Ctrl-C it sends SIGTERM to its own process, which ends it with all that was found. Python's is put back
    here, and what MindSpore's sends is caught. Without effect in a thread that is not the main one, where Python
    allows no handlers. Also a decorator.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    _put_back()
    if before == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        _put_back()
        if before is not None:  # else it is no handler of Python's
            signal.signal(signal.SIGTERM, before)


@contextmanager
def own_termination() -> Iterator[None]:
    """SIGTERM is handled as before once the body has run: ``ray.init`` makes it end the process."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _put_back() -> None:
    if (handler := signal.getsignal(signal.SIGINT)) is not None:
        signal.signal(signal.SIGINT, handler)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
