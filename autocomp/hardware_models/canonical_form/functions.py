"""The functions that devices run as one operator: activations, and functions over the axes that a region reduces."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import erf as erf_of_one

import numpy as np

Function = Callable[[np.ndarray], np.ndarray]
Reduction = Callable[[np.ndarray, tuple[int, ...]], np.ndarray]
CLOSE = 2e-3  # between two forms of a function: approximations of GELU differ by 5e-4

erf = np.vectorize(erf_of_one, otypes=[float])


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(x, 0)


def gelu(x: np.ndarray) -> np.ndarray:
    return x * (1 + erf(x / np.sqrt(2))) / 2


def hsigmoid(x: np.ndarray) -> np.ndarray:
    return np.clip(x + 3, 0, 6) / 6


ACTIVATIONS: Mapping[str, Function] = {
    "ReLU": lambda x: np.maximum(x, 0),
    "ReLU6": lambda x: np.clip(x, 0, 6),
    "Sigmoid": sigmoid,
    "Tanh": np.tanh,
    "SiLU": lambda x: x * sigmoid(x),
    "GeLU": gelu,
    "HSigmoid": hsigmoid,
    "HSwish": lambda x: x * hsigmoid(x),
    "Softplus": softplus,
    "Mish": lambda x: x * np.tanh(softplus(x)),
}


def normalized(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    apart = x - x.mean(axes, keepdims=True)
    return apart / np.sqrt((apart**2).mean(axes, keepdims=True))


def unit_mean_square(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    return x / np.sqrt((x**2).mean(axes, keepdims=True))


def softmax(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    powers = np.exp(x - x.max(axes, keepdims=True))
    return powers / powers.sum(axes, keepdims=True)


REDUCTIONS: Mapping[tuple[str, str], Reduction] = {
    ("softmax", "Softmax"): softmax,
    ("softmax", "LogSoftmax"): lambda x, axes: np.log(softmax(x, axes)),
    ("layernorm", "LayerNorm"): normalized,
    ("layernorm", "RMSNorm"): unit_mean_square,
    ("layernorm", "L2Normalize"): lambda x, axes: x / np.sqrt((x**2).sum(axes, keepdims=True)),
}


def activation_of(x: np.ndarray, y: np.ndarray) -> tuple[str, str] | None:
    """Kind and operator of the activation that gives ``y`` for ``x``, both (samples,); None for an unknown one."""
    names = (name for name, function in ACTIVATIONS.items() if np.allclose(function(x), y, CLOSE, CLOSE))
    found = next(names, "LeakyReLU" if _leaky(x, y) else None)
    return None if found is None else ("activation", found)


def _leaky(x: np.ndarray, y: np.ndarray) -> bool:
    """Whether negative numbers keep one share of themselves, of any size, and all others are kept."""
    low = x.min()
    slope = y[x == low][0] / low
    return bool(0 < slope < 1 and np.allclose(np.where(x < 0, slope * x, x), y, CLOSE, CLOSE))


def reduction_of(x: np.ndarray, y: np.ndarray, axes: tuple[int, ...]) -> tuple[str, str] | None:
    """Kind and operator of the function over ``axes`` that gives ``y`` for ``x``; None for an unknown one."""
    for what, function in REDUCTIONS.items():
        if np.allclose(function(x, axes), y, CLOSE, CLOSE):
            return what
    return None
