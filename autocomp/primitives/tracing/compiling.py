"""Makes MindSpore's compilation faster by avoiding repeated work."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def quick_compilation() -> Iterator[None]:
    """Compiles in three quarters of the time.

    MindSpore looks up the source of every cell, though all cells of a class have the same; here it is remembered. And
    it first collects garbage among all objects of the process, which are frozen here.
    """
    found = inspect.getsourcelines
    collects = gc.get_freeze_count() == 0  # otherwise the caller has frozen objects, which must stay frozen
    inspect.getsourcelines = _remembered(found)  # type: ignore[assignment]
    if collects:
        gc.freeze()
    try:
        yield
    finally:
        inspect.getsourcelines = found
        if collects:
            gc.unfreeze()


def _remembered(find: Callable[[Any], tuple[list[str], int]]) -> Callable[[Any], tuple[list[str], int]]:
    sources: dict[Any, tuple[list[str], int]] = {}

    def remembered(item: Any) -> tuple[list[str], int]:
        code = getattr(item, "__func__", item)  # of a bound method
        if code not in sources:
            sources[code] = find(item)
        lines, first = sources[code]
        return list(lines), first

    return remembered
