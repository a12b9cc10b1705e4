"""Counts MindSpore's graph compilations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from autocomp.primitives.tracing.platform import load_mindspore


@contextmanager
def counted() -> Iterator[list[str]]:
    """The phase of each graph that is compiled within the body.

    Every call of a Cell in GRAPH mode goes through this method; it returns (phase, whether it compiled), the second
    False where a compiled graph was there.
    """
    load_mindspore()
    from mindspore.graph.api import _CellGraphExecutor

    found: list[str] = []
    original = _CellGraphExecutor.compile

    def compile_(self: Any, *arguments: Any, **options: Any) -> Any:
        phase, compiled = original(self, *arguments, **options)
        if compiled:
            found.append(phase)
        return phase, compiled

    _CellGraphExecutor.compile = compile_
    try:
        yield found
    finally:
        _CellGraphExecutor.compile = original
