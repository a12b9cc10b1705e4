"""One table of types and ranges for the arguments of the public functions, checked before anything is traced."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

LONGEST = 60  # characters of a value in a message


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


def shown(name: str, value: Any) -> str:
    """``trials=2.5`` in one short line; of a value without a short text its type."""
    if not isinstance(value, (str, bytes, bool, int, float, np.generic, list, tuple, type(None))):
        return type(value).__name__
    text = " ".join(repr(value).split())
    return f"{name}={text if len(text) <= LONGEST else f'{text[:LONGEST]}...'}"


def is_integer(value: Any) -> bool:
    """Python's or NumPy's, but not True."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    return is_integer(value) or isinstance(value, (float, np.floating))


def is_path(value: Any) -> bool:
    return isinstance(value, (str, os.PathLike))


def is_bool(value: Any) -> bool:
    return isinstance(value, (bool, np.bool_))


def whole(least: int, unit: str = "") -> Rule:
    return Rule("an integer", is_integer, f"at least {least}{unit}", lambda v: v >= least)


def _is_device(value: Any) -> bool:
    return is_path(value) or hasattr(value, "cost_table")


def _many(value: Any, is_one: Callable[[Any], bool]) -> bool:
    """An iterable of them; one that is gone through only once is not looked into."""
    return isinstance(value, Iterable) and (not isinstance(value, Collection) or all(map(is_one, value)))


def _is_names(value: Any) -> bool:
    return isinstance(value, str) or _many(value, lambda name: isinstance(name, str))


def _not_empty(value: Any) -> bool:
    return not isinstance(value, Collection) or len(value) > 0


def _is_budget(value: Any) -> bool:
    return isinstance(value, str) or hasattr(value, "bounds_accuracy")


def _is_plan(value: Any) -> bool:
    return isinstance(value, (str, Mapping)) or isinstance(getattr(value, "plan", None), Mapping)


def _is_workers(value: Any) -> bool:
    return is_integer(value) or isinstance(value, str)


def _is_address(value: Any) -> bool:
    return is_integer(value) or value == "auto" or value.startswith("ray://")


PATH = Rule("a path", is_path, "a path that is not empty", lambda v: bool(os.fspath(v)))
BUDGET = Rule("text, a Budget or None", _is_budget, may_be_none=True)
DEVICE = Rule("a name, a path or a Device", _is_device)
SWITCH = Rule("True or False", is_bool)
PLAN = Rule("a plan: point.plan, a mapping, or its text", _is_plan)
PRECISION = Rule("None or the text of a format, as 'w8a8'", lambda v: isinstance(v, str), may_be_none=True)
CELL = Rule("a mindspore.nn.Cell", lambda v: hasattr(v, "cells_and_names") and not isinstance(v, type))
ABOVE_ZERO = Rule("a number", is_number, "a finite number above 0", lambda v: 0 < v < math.inf)
SECONDS = Rule(
    "a number of seconds", is_number, "a number of seconds above 0", lambda v: v > 0 and not math.isnan(v)
).or_none()
SHARE = Rule("a number", is_number, "a share from 0 to 1", lambda v: 0 <= v <= 1)
SEED = Rule("an integer", is_integer)
LARGEST_SEED = 2**32 - 1
SEEDED = Rule("an integer", is_integer, f"an integer from 0 to {LARGEST_SEED}", lambda v: 0 <= v <= LARGEST_SEED)
WORKERS_KIND = "None, a number, 'auto' or 'ray://host:port'"
WORKERS = Rule(WORKERS_KIND, _is_workers, WORKERS_KIND, _is_address).or_none()
NAMES = Rule("'auto', a name or a list of names", _is_names, "'auto' or at least one name", _not_empty)
EPOCHS = Rule(
    "a number of epochs or FineTuning",
    lambda v: is_integer(v) or hasattr(v, "epochs"),
    "at least 0 epochs",
    lambda v: not is_integer(v) or v >= 0,
)
DEVICES = Rule(
    "None or a list of devices",
    lambda v: not isinstance(v, (str, os.PathLike)) and _many(v, _is_device),
    "at least one device",
    _not_empty,
    may_be_none=True,
)

RULES: Mapping[str, Mapping[str, Rule]] = {
    "search": {
        "net": CELL,
        "budget": BUDGET,
        "device": DEVICE,
        "primitives": NAMES,
        "trials": whole(1),
        "time_limit": SECONDS,
        "patience": whole(1).or_none(),
        "sampler": Rule("the name of a sampler", lambda v: isinstance(v, str)),
        "workers": WORKERS,
        "storage": PATH.or_none(),
        "fine_tune": EPOCHS,
        "seed": SEEDED,
        "progress": SWITCH.or_none(),
    },
    "estimate": {"net": CELL, "device": DEVICE, "precision": PRECISION},
    "compare": {"net": CELL, "devices": DEVICES, "precision": PRECISION},
    "load": {"folder": PATH, "net": CELL.or_none()},
    "rebuild": {"net": CELL, "plan": PLAN},
    "device": {"name": DEVICE, "may_measure": SWITCH},
    "Data": {
        "limit": whole(1, " sample"),
        "metric": Rule(
            "a function of (outputs, labels), 'agreement' or 'fidelity'",
            lambda v: callable(v) or isinstance(v, str),
            "a function of (outputs, labels), 'agreement' or 'fidelity'",
            lambda v: callable(v) or v in ("agreement", "fidelity"),
            may_be_none=True,
        ),
    },
    "pick": {"expression": BUDGET},
    "resolve": {"budget": BUDGET, "evaluate": SWITCH},
    "save": {"folder": PATH},
    "evaluate": {"plan": Rule("a Plan or a Prediction", lambda v: _is_plan(v) and not isinstance(v, str))},
    "add": {"point": Rule("a fine-tuned Point", lambda v: hasattr(v, "tuned") and hasattr(v, "deployer"))},
    "export": {"path": PATH},
    "fine_tune": {
        "epochs": whole(1),
        "batch": whole(1),
        "rate": ABOVE_ZERO,
        "algorithm": Rule("the name of an algorithm", lambda v: isinstance(v, str)),
        "teacher": SHARE,
        "seed": SEEDED,
        "progress": SWITCH.or_none(),
    },
    "Study": {
        "trials": whole(1),
        "batch": whole(1),
        "patience": whole(1).or_none(),
        "time_limit": SECONDS,
        "seed": SEED,
    },
}


def check(function: str, **values: Any) -> None:
    """TypeError or ValueError for the first value that breaks the rule of its name in ``RULES[function]``."""
    rules = RULES[function]
    for name, value in values.items():
        rules[name].check(name, value)


def check_workers(workers: Any) -> None:
    """A number of them is 1 or more."""
    WORKERS.check("workers", workers)
    if is_integer(workers):
        whole(1).check("workers", workers)
