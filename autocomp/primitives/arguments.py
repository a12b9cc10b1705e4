"""One table of types and ranges for the arguments of what can be used alone. Ranges that need several arguments, or
belong to one algorithm, stand with the algorithm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from autocomp.rules import (
    CELL,
    INTEGER,
    NUMBER,
    SEED,
    SHARE,
    SWITCH,
    Rule,
    Rules,
    is_many,
    is_names,
    one_of,
)
from autocomp.search_spaces import FLOAT_BITS


def _is_samples(value: Any) -> bool:
    """Arrays (n, ...), one for each input; one alone need not be in a tuple."""
    arrays = value if isinstance(value, tuple) else (value,)
    held = (isinstance(array, np.ndarray) or hasattr(array, "asnumpy") for array in arrays)
    return bool(arrays) and all(held) and all(array.ndim > 0 for array in arrays)


def _finite(value: Any) -> bool:
    given = value if isinstance(value, tuple) else (value,)
    arrays = [array if isinstance(array, np.ndarray) else array.asnumpy() for array in given]
    return all(len(a) > 0 and (a.dtype.kind in "iub" or (a.dtype.kind == "f" and np.isfinite(a).all())) for a in arrays)


def _is_removed(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(name, str) for name in value)


def _are_indices(value: Mapping[str, Any]) -> bool:
    return all(is_many(some, lambda i: INTEGER.is_kind(i)) for some in value.values())


def _is_ranks(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(name, str) and isinstance(ranks, tuple) and all(map(INTEGER.is_kind, ranks))
        for name, ranks in value.items()
    )


def _is_cache_bits(value: Any) -> bool:
    return INTEGER.is_kind(value) or (
        isinstance(value, (tuple, list)) and all(one is None or INTEGER.is_kind(one) for one in value)
    )


def _are_cache_bits(value: Any) -> bool:
    return value in (8, 4) if INTEGER.is_kind(value) else all(one in (8, 4, None) for one in value)


SAMPLES = Rule("an array of samples, (n, ...), or a tuple of them", _is_samples, "samples of finite numbers", _finite)
PLAN = Rule("a plan, such as {'format/conv1': 'w4a8'}", lambda v: isinstance(v, Mapping)).or_none()
LAYERS = Rule("a list of names of layers", lambda v: not isinstance(v, str) and is_names(v)).or_none()
PATTERNS = Rule("names or patterns of layers", is_names)
CALIBRATIONS = ("mse", "minmax", "percentile", "kl")
CALIBRATION = Rule(
    "the name of a calibration",
    lambda v: isinstance(v, str),
    f"one of {', '.join(CALIBRATIONS)}",
    lambda v: v in CALIBRATIONS,
)
FUNCTION = Rule("a function", callable)
RATIO = Rule("a number", NUMBER.is_kind, "a share above 0 and below 1", lambda v: 0 < v < 1)
COUNT = Rule("an integer", INTEGER.is_kind, "1 or more", lambda v: v >= 1)
INDICES = "for each name a list of integers, such as {'conv1': [0, 5]}"

BITS = Rule(
    "an integer", INTEGER.is_kind, f"2 to 8, or {FLOAT_BITS} for none", lambda v: 2 <= v <= 8 or v == FLOAT_BITS
)

_QUANTIZED: Rules = {
    "weight_bits": BITS,
    "activation_bits": BITS,
    "first_last_bits": BITS.or_none(),
    "calibration": CALIBRATION,
    "per_channel": SWITCH,
    "symmetric": SWITCH,
    "symmetric_weights": SWITCH,
}
GROUP_SIZE = Rule("an integer", INTEGER.is_kind, "1 or more inputs of a channel, or None", lambda v: v >= 1).or_none()
_LAYERWISE: Rules = {**_QUANTIZED, "group_size": GROUP_SIZE, "activation_order": SWITCH}
_PRUNED: Rules = {
    "keep_ratio": NUMBER.or_none(),
    "flops": NUMBER.or_none(),
    "parameters": NUMBER.or_none(),
    "per_layer": SWITCH,
    "channel_divisor": COUNT,
    "min_keep_ratio": NUMBER,
    "per_cost": SWITCH,
    "reconstruct": SWITCH,
    "exclude": PATTERNS,
}
_CHEAPER: Rules = {"macs": NUMBER.or_none(), "layers": LAYERS, "reconstruct": SWITCH}

RULES: Mapping[str, Rules] = {
    "LSQ": _QUANTIZED,
    "PACT": _QUANTIZED,
    "AdaRound": _QUANTIZED,
    "RTN": {**_QUANTIZED, "clip": one_of("mse", "max"), "group_size": GROUP_SIZE},
    "GPTQ": _LAYERWISE,
    "AWQ": {**_LAYERWISE, "ratio": SHARE.or_none()},
    "SmoothQuant": {**_QUANTIZED, "alpha": SHARE.or_none(), "dynamic": SWITCH},
    "OutlierSuppression": {**_QUANTIZED, "threshold": SHARE.or_none()},
    "Rotation": {
        **_LAYERWISE,
        "rounding": one_of("gptq", "nearest"),
        "dynamic": SWITCH,
        "heads": SWITCH,
        "online": SWITCH,
        "seed": SEED,
    },
    "SimQAT": {
        **_QUANTIZED,
        "observer": one_of("ema", "minmax"),
        "momentum": NUMBER,
        "delay": INTEGER,
        "freeze_observers": INTEGER.or_none(),
        "freeze_batchnorm": INTEGER.or_none(),
    },
    "SLB": {
        **_QUANTIZED,
        "weight_bits": INTEGER,
        "warm_up": SHARE,
        "settled": SHARE,
        "sharpest": NUMBER,
        "state_batchnorm": SWITCH,
        "calibration_batches": Rule("an integer", INTEGER.is_kind, "0 or more", lambda v: v >= 0),
    },
    "ChannelPruner": {
        **_PRUNED,
        "importance": Rule("the name of an importance", lambda v: isinstance(v, str)),
        "batches": COUNT,
        "samples": COUNT,
        "rounds": COUNT,
    },
    "SCOP": {
        **_PRUNED,
        "steps": COUNT,
        "travel": NUMBER,
        "knockoffs": Rule("a function", callable).or_none(),
        "seed": SEED,
    },
    "UniPruning": {**_PRUNED, "every": NUMBER, "soft": NUMBER},
    "HeadPruning": {**_PRUNED, "penalty": NUMBER, "gated": NUMBER, "gain": NUMBER, "seed": SEED},
    "Sparsity": {
        "pattern": one_of("2:4", "unstructured"),
        "share": NUMBER.or_none(),
        "ramp": NUMBER,
        "first_last_layers": SWITCH,
    },
    "IntegerCache": {
        "net": CELL,
        "bits": Rule("an integer, or one for each part", _is_cache_bits, "8 or 4, or these and None", _are_cache_bits),
    },
    "LowRank": {
        "energy": NUMBER.or_none(),
        "macs": NUMBER.or_none(),
        "ranks": Rule("a mapping of layers to tuples of ranks", _is_ranks).or_none(),
        "channel_divisor": COUNT,
        "layers": LAYERS,
        "reconstruct": SWITCH,
    },
    "Ghost": {
        "ratio": INTEGER,
        "kernel": INTEGER,
        **_CHEAPER,
    },
    "SmallerKernel": {"kernel": INTEGER, **_CHEAPER},
    "Grouped": {"groups": INTEGER, **_CHEAPER},
    "Separable": {"multiplier": INTEGER, **_CHEAPER},
    "Distilled": {
        "student": CELL,
        "teacher": CELL,
        "loss": FUNCTION.or_none(),
        "temperature": NUMBER,
        "share": NUMBER,
        "blocks": Rule("a list of names of cells", lambda v: not isinstance(v, str) and is_names(v)),
        "example": SAMPLES.or_none(),
        "block_weight": NUMBER,
        "compares": one_of("classes", "values"),
    },
    "Resolution": {"ratio": RATIO},
    "lower": {"net": CELL, "reestimate": SAMPLES.or_none()},
    "apply": {"net": CELL, "calibrate": SAMPLES.or_none(), "plan": PLAN},
    "equivalent": {"net": CELL, "calibrate": SAMPLES.or_none()},
    "set_plan": {"plan": PLAN},
    "mask": {"share": SHARE.or_none()},
    "channel_groups": {"net": CELL},
    "fold_batchnorm": {"net": CELL},
    "open_attention": {"net": CELL},
    "prune_channels": {
        "net": CELL,
        "removed": Rule("a mapping of names to lists of integers", _is_removed, INDICES, _are_indices),
    },
    "reestimate_batchnorm": {"net": CELL, "images": SAMPLES, "batch": INTEGER},
    "register": {
        "primitive": Rule(
            "a primitive: an object with a name and a method knobs",
            lambda v: not isinstance(v, type) and isinstance(getattr(v, "name", None), str) and callable(
                getattr(v, "knobs", None)
            ),
        ),
        "automatic": SWITCH,
    },
}  # fmt: skip


def need_samples(name: str, calibrate: Any, method: str = "apply") -> None:
    """ValueError where an algorithm that looks at layers' inputs gets no samples."""
    if calibrate is None:
        raise ValueError(f"{name} needs samples of layers' inputs: {method}(net, calibrate=samples)")
