"""Ctrl-C and SIGTERM in a process that also runs MindSpore and Ray."""

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

    When MindSpore 2.10 runs a compiled network it replaces Python's handler of Ctrl-C by its own and leaves it there.
    At Ctrl-C that handler sends SIGTERM to its own process, which ends the process and loses all results. Here Python's
    handler is restored, and the SIGTERM that MindSpore sends is caught. It has no effect in a thread other than the
    main one, where Python allows no handlers. It is also a decorator.
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
        if before is not None:  # None: the handler was not installed by Python
            signal.signal(signal.SIGTERM, before)


@contextmanager
def own_termination() -> Iterator[None]:
    """Restores the handler of SIGTERM after the body has run: ``ray.init`` sets one that ends the process."""
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
