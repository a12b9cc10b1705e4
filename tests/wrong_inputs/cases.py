"""What a wrong input is: a call, and the sentence that it raises."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from autocomp.rules import shown


@dataclass(frozen=True)
class Case:
    """sentence: a regular expression. name: for the test's title."""

    call: Callable[[], Any]
    sentence: str
    name: str


def of_rule(call: Callable[..., Any], given: Mapping[str, Any], wrong: Mapping[str, Iterable[Any]]) -> list[Case]:
    """One for each wrong value of each argument; the sentence names the argument and the value."""
    return [
        Case(
            partial(call, **{**given, name: value}),
            rf"^{name} must be .+, but got {re.escape(shown(name, value))}",
            f"{name}={shown(name, value)}",
        )
        for name, values in wrong.items()
        for value in values
    ]


def saying(call: Callable[..., Any], *rows: tuple[dict[str, Any], str]) -> list[Case]:
    """Arguments and the sentence that they get."""
    return [Case(partial(call, **given), sentence, sentence[:40]) for given, sentence in rows]
