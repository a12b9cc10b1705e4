"""One table of types and ranges for the arguments of the public functions, checked before anything is traced."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping
from typing import Any

from autocomp.primitives.restrictions import Restrict
from autocomp.rules import (
    ABOVE_ZERO,
    CELL,
    PATH,
    SEED,
    SHARE,
    SWITCH,
    Rule,
    is_bool,
    is_integer,
    is_many,
    is_names,
    is_number,
    is_path,
    not_empty,
    one_of,
    whole,
)

from .metrics import METRICS


def _is_device(value: Any) -> bool:
    return is_path(value) or hasattr(value, "cost_table")


def _is_budget(value: Any) -> bool:
    return isinstance(value, str) or hasattr(value, "bounds_accuracy")


def _is_plan(value: Any) -> bool:
    known = isinstance(value, (str, Mapping)) or isinstance(getattr(value, "plan", None), Mapping)
    return known or isinstance(value, os.PathLike)


def _is_workers(value: Any) -> bool:
    return is_integer(value) or isinstance(value, str)


def _is_address(value: Any) -> bool:
    return is_integer(value) or value == "auto" or value.startswith("ray://")


def _is_restrictions(value: Any) -> bool:
    return isinstance(value, Restrict) or is_many(value, lambda one: isinstance(one, Restrict))


def _are_new_names(value: Any) -> bool:
    texts = isinstance(value, Mapping) and all(isinstance(one, str) for pair in value.items() for one in pair)
    return texts or callable(value)


def _is_numbers(value: Any) -> bool:
    return not isinstance(value, str) and is_many(value, lambda v: is_number(v) and math.isfinite(v))


def _is_onnx(value: Any) -> bool:
    return is_path(value) and os.fspath(value).endswith(".onnx")


def _is_key(value: Any) -> bool:
    """A name; or names of inputs, one or a tuple, and the name of labels or None."""
    if isinstance(value, str):
        return True
    pair = isinstance(value, tuple) and len(value) == 2
    return pair and is_names(value[0]) and len(value[0]) > 0 and (value[1] is None or isinstance(value[1], str))


KEY_KIND = "a name, or a pair of the names of inputs and of labels, as ('image', 'label')"
METRIC = one_of(*METRICS)
BUDGET = Rule("text, a Budget or None", _is_budget, may_be_none=True)
DEVICE = Rule("a name, a path or a Device", _is_device)
PLAN = Rule("a plan: point.plan, a mapping, its text, or a .safetensors file", _is_plan)
PRECISION = Rule("None or the text of a format, as 'w8a8'", lambda v: isinstance(v, str), may_be_none=True)
SECONDS = Rule(
    "a number of seconds", is_number, "a number of seconds above 0", lambda v: v > 0 and not math.isnan(v)
).or_none()
CALLBACK = Rule("None or a function of a measurement", callable, may_be_none=True)
RESOURCES = Rule(
    "None or numbers by the names of Ray's resources",
    lambda v: isinstance(v, Mapping) and all(isinstance(name, str) and is_number(v[name]) for name in v),
    "finite numbers above 0",
    lambda v: all(0 < amount < math.inf for amount in v.values()),
).or_none()
BATCH = Rule(
    "'auto' or an integer",
    lambda v: is_integer(v) or isinstance(v, str),
    "'auto' or at least 1",
    lambda v: v == "auto" if isinstance(v, str) else v >= 1,
)
WORKERS_KIND = "None, a number, 'auto' or 'ray://host:port'"
WORKERS = Rule(WORKERS_KIND, _is_workers, WORKERS_KIND, _is_address).or_none()
RESOLUTIONS = Rule(
    "a share of the sides of images, or several",
    lambda v: is_number(v) or (isinstance(v, Collection) and not isinstance(v, Mapping) and _is_numbers(v)),
    "shares above 0 and below 1",
    lambda v: all(0 < one < 1 for one in ((v,) if is_number(v) else v)),
)
NAMES = Rule("'auto', a name or a list of names", is_names, "'auto' or at least one name", not_empty)
EPOCHS = Rule(
    "a number of epochs or FineTuning",
    lambda v: is_integer(v) or hasattr(v, "epochs"),
    "at least 0 epochs",
    lambda v: not is_integer(v) or v >= 0,
)
PROXY_NAMES = ("gradient_norm", "naswot", "synflow", "zen_score")
TRAINING = Rule(
    "a number of epochs or FineTuning",
    lambda v: is_integer(v) or (hasattr(v, "epochs") and not isinstance(v, type)),
    "at least 1 epoch",
    lambda v: not is_integer(v) or v >= 1,
)
DEVICES = Rule(
    "None or a list of devices",
    lambda v: not isinstance(v, (str, os.PathLike)) and is_many(v, _is_device),
    "at least one device",
    not_empty,
    may_be_none=True,
)

CHOICES = Rule(
    "a mapping from names to lists of values",
    lambda v: (
        isinstance(v, Mapping)
        and all(isinstance(name, str) and isinstance(some, (list, tuple)) for name, some in v.items())
    ),
    "at least one choice, each of at least one value",
    lambda v: bool(v) and all(v.values()),
)
CONTEXT = {
    "context": whole(1).or_none(),
    "cache_bits": Rule("an integer", is_integer, "8 or 4", lambda v: v in (8, 4)).or_none(),
}
NOT_NEGATIVE = Rule("a number", is_number, "a finite number, 0 or more", lambda v: 0 <= v < math.inf)

RULES: Mapping[str, Mapping[str, Rule]] = {
    "search": {
        "net": CELL,
        "budget": BUDGET,
        "device": DEVICE,
        "primitives": NAMES,
        "trials": whole(1).or_none(),
        "time_limit": SECONDS,
        "patience": whole(1).or_none(),
        "exclude": Rule("names or patterns of layers", is_names),
        "restrict": Rule("autocomp.Restrict, one or several", _is_restrictions),
        "resolutions": RESOLUTIONS,
        "sampler": Rule("the name of a sampler", lambda v: isinstance(v, str)),
        "workers": WORKERS,
        "batch": BATCH,
        "resources": RESOURCES,
        "evaluation_limit": SECONDS,
        "on_evaluation": CALLBACK,
        "storage": PATH.or_none(),
        **CONTEXT,
        "fine_tune": EPOCHS,
        "train_budget": Rule(
            "a number", is_number, "a finite number, 0 or more", lambda v: 0 <= v < math.inf
        ).or_none(),
        "elastic": NOT_NEGATIVE,
        "seed": SEED,
        "progress": SWITCH.or_none(),
    },
    "train_elastic": {
        "net": CELL,
        "device": DEVICE,
        "train": TRAINING,
        "exclude": Rule("names or patterns of layers", is_names),
        "restrict": Rule("autocomp.Restrict, one or several", _is_restrictions),
        "primitives": NAMES,
        "storage": PATH.or_none(),
        "seed": SEED,
        "progress": SWITCH.or_none(),
    },
    "search_choices": {
        "choices": CHOICES,
        "accuracy": Rule("a function of a network", callable),
        "costs": Rule("a function of a network", callable),
        "budget": BUDGET,
        "trials": whole(1),
        "batch": BATCH,
        "sampler": Rule("the name of a sampler", lambda v: isinstance(v, str)),
        "seed": SEED,
        "workers": WORKERS,
        "time_limit": SECONDS,
        "storage": PATH.or_none(),
        "progress": SWITCH.or_none(),
    },
    "search_network": {
        "budget": BUDGET,
        "device": DEVICE,
        "trials": whole(1),
        "train": TRAINING,
        "finalists": TRAINING.or_none(),
        "proxy": Rule(
            "the name of a proxy, a function or None",
            lambda v: isinstance(v, str) or callable(v),
            f"one of {', '.join(PROXY_NAMES)}",
            lambda v: callable(v) or v in PROXY_NAMES,
            may_be_none=True,
        ),
        "time_limit": SECONDS,
        "sampler": Rule("the name of a sampler", lambda v: isinstance(v, str)),
        "batch": BATCH,
        "storage": PATH.or_none(),
        "seed": SEED,
        "progress": SWITCH.or_none(),
    },
    "estimate": {"net": CELL, "device": DEVICE, "precision": PRECISION, **CONTEXT},
    "compare": {"net": CELL, "devices": DEVICES, "precision": PRECISION, **CONTEXT},
    "export_network": {"net": CELL, "path": PATH},
    "load": {"folder": PATH, "net": CELL.or_none()},
    "load_deployed": {"path": PATH, "threads": whole(1)},
    "generate": {"count": whole(1)},
    "profile": {
        "net": Rule("a mindspore.nn.Cell or the path of an .onnx file", lambda v: CELL.is_kind(v) or _is_onnx(v)),
        "plan": Rule("a plan: point.plan, a mapping or its text", _is_plan, may_be_none=True),
        "device": DEVICE,
        "samples": whole(1),
        "seed": SEED,
        "progress": SWITCH.or_none(),
    },
    "validate_ascend": {"path": PATH},
    "rebuild": {"net": CELL, "plan": PLAN},
    "device": {"name": DEVICE, "may_measure": SWITCH},
    "Data": {
        "limit": whole(1, " sample"),
        "metric": Rule(
            "a function of (outputs, labels), 'agreement', 'fidelity' or 'perplexity'",
            lambda v: callable(v) or isinstance(v, str),
            "a function of (outputs, labels), 'agreement', 'fidelity' or 'perplexity'",
            lambda v: callable(v) or v in ("agreement", "fidelity", "perplexity"),
            may_be_none=True,
        ),
        "lower_is_better": Rule("True, False or None", is_bool, may_be_none=True),
        "key": Rule(KEY_KIND, _is_key, may_be_none=True),
        "classes": Rule(
            "None or a list of names",
            lambda v: not isinstance(v, str) and is_names(v),
            "at least one name",
            not_empty,
            may_be_none=True,
        ),
        "transform": Rule("None or a function of an image", callable, may_be_none=True),
    },
    "pick": {"expression": BUDGET},
    "report": {"path": PATH},
    "table": {"rows": whole(4, " (the ends, the knee, the most accurate)").or_none()},
    "hypervolume": {"reference": Rule("a list of finite numbers", _is_numbers).or_none()},
    "value": {"metric": METRIC},
    "summary": {"metrics": Rule("a list of costs", lambda v: not isinstance(v, str) and is_many(v, METRIC.is_kind))},
    "resolve": {"budget": BUDGET, "evaluate": SWITCH},
    "save": {"folder": PATH},
    "evaluate": {"plan": Rule("a Plan or a Prediction", lambda v: _is_plan(v) and not isinstance(v, str))},
    "add": {"point": Rule("a fine-tuned Point", lambda v: hasattr(v, "tuned") and hasattr(v, "deployer"))},
    "export": {
        "path": PATH,
        "form": one_of("qat", "simulated", "compressed-tensors", "ascend-v1").or_none(),
        "check_accuracy": SWITCH,
        "names": Rule("a mapping of patterns to names, or a function", _are_new_names).or_none(),
    },
    "fine_tune": {
        "epochs": whole(1),
        "batch": whole(1),
        "rate": ABOVE_ZERO,
        "algorithm": Rule("the name of an algorithm", lambda v: isinstance(v, str)),
        "teacher": SHARE,
        "seed": SEED,
        "progress": SWITCH.or_none(),
    },
    "Study": {
        "trials": whole(1),
        "batch": BATCH,
        "patience": whole(1).or_none(),
        "time_limit": SECONDS,
        "evaluation_limit": SECONDS,
        "on_evaluation": CALLBACK,
        "seed": SEED,
        "space": Rule("a SearchSpace", lambda v: hasattr(v, "knobs")),
        "costs": Rule("a function of vectors", callable),
        "objectives": Rule("a list of costs", lambda v: not isinstance(v, str) and is_names(v)),
        "budget": Rule("None or a Budget", lambda v: hasattr(v, "bounds_accuracy"), may_be_none=True),
        "sampler": Rule("a name or a sampler", lambda v: isinstance(v, str) or hasattr(v, "ask")),
        "progress": SWITCH.or_none(),
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
