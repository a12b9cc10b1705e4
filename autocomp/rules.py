"""What an argument must be: its type and its range, and the sentence where it is neither."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np

LONGEST = 60  # characters of a value in a message

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Rule:
    """kind: what the value must be, TypeError else. limit: what it must hold besides, ValueError else; each as the
    words behind "must be"."""

    kind: str
    is_kind: Callable[[Any], bool]
    limit: str = ""
    holds: Callable[[Any], bool] = lambda _: True
    may_be_none: bool = False

    def check(self, name: str, value: Any) -> None:
        if value is None and self.may_be_none:
            return
        if not self.is_kind(value):
            raise TypeError(f"{name} must be {self.kind}, but got {shown(name, value)}")
        if not self.holds(value):
            raise ValueError(f"{name} must be {self.limit}, but got {shown(name, value)}")

    def or_none(self) -> Rule:
        kind = self.kind if self.kind.startswith("None") else f"None or {self.kind}"
        return replace(self, kind=kind, may_be_none=True)


Rules = Mapping[str, Rule]


def checked(rules: Rules) -> Callable[[Function], Function]:
    """Decorator: the arguments that a call gives are held against the rules of their names, before the call."""

    def decorated(function: Function) -> Function:
        signature = inspect.signature(function)

        @wraps(function)
        def run(*given: Any, **named: Any) -> Any:
            for name, value in _bound(signature, given, named).items():
                if name in rules:
                    rules[name].check(name, value)
            return function(*given, **named)

        return cast(Function, run)

    return decorated


def _bound(signature: inspect.Signature, given: tuple[Any, ...], named: dict[str, Any]) -> Mapping[str, Any]:
    """By name; nothing where there are too many or too few, for which Python has a sentence of its own."""
    try:
        return signature.bind(*given, **named).arguments
    except TypeError:
        return {}


def shown(name: str, value: Any) -> str:
    """``trials=2.5`` in one short line; of a value without a short text its type."""
    if not _is_short(value):
        return type(value).__name__
    text = " ".join(repr(value).split())
    return f"{name}={text if len(text) <= LONGEST else f'{text[:LONGEST]}...'}"


def _is_short(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_short, value[:LONGEST]))
    return value is None or isinstance(value, (str, bytes, bool, int, float, np.generic))


def is_integer(value: Any) -> bool:
    """Python's or NumPy's, but not True."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    return is_integer(value) or isinstance(value, (float, np.floating))


def is_path(value: Any) -> bool:
    return isinstance(value, (str, os.PathLike))


def is_bool(value: Any) -> bool:
    return isinstance(value, (bool, np.bool_))


def is_many(value: Any, is_one: Callable[[Any], bool]) -> bool:
    """An iterable of them; one that is gone through only once is not looked into."""
    return isinstance(value, Iterable) and (not isinstance(value, Collection) or all(map(is_one, value)))


def is_names(value: Any) -> bool:
    return isinstance(value, str) or is_many(value, lambda name: isinstance(name, str))


def not_empty(value: Any) -> bool:
    return not isinstance(value, Collection) or len(value) > 0


def whole(least: int, unit: str = "") -> Rule:
    return Rule("an integer", is_integer, f"at least {least}{unit}", lambda v: v >= least)


def one_of(*names: str) -> Rule:
    """Of two or more names."""
    text = f"{', '.join(map(repr, names[:-1]))} or {names[-1]!r}"
    return Rule(text, lambda v: isinstance(v, str), text, lambda v: v in names)


PATH = Rule("a path", is_path, "a path that is not empty", lambda v: bool(os.fspath(v)))
SWITCH = Rule("True or False", is_bool)
CELL = Rule("a mindspore.nn.Cell", lambda v: hasattr(v, "cells_and_names") and not isinstance(v, type))
INTEGER = Rule("an integer", is_integer)
NUMBER = Rule("a number", is_number, "a finite number", lambda v: math.isfinite(v))
ABOVE_ZERO = Rule("a number", is_number, "a finite number above 0", lambda v: 0 < v < math.inf)
SHARE = Rule("a number", is_number, "a share from 0 to 1", lambda v: 0 <= v <= 1)
LARGEST_SEED = 2**32 - 1
SEED = Rule("an integer", is_integer, f"an integer from 0 to {LARGEST_SEED}", lambda v: 0 <= v <= LARGEST_SEED)
