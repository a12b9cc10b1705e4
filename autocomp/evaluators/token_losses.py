"""Perplexity of a language model: outputs are reduced to a loss for each token while the samples run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .user_metric import Arrays, UserMetric

HELD = 2**26  # logits of one part of the samples, 256 MB
MOST = 80.0  # nats; beyond it the perplexity would not be a number


def in_parts(
    run: Callable[[Arrays], Arrays], reduce: Callable[[Arrays, Arrays], Arrays], inputs: Arrays, size: int
) -> Arrays:
    """What ``reduce`` makes of the outputs and inputs of all samples, ``size`` of which run at a time."""
    parts = []
    for start in range(0, len(inputs[0]), size):
        some = tuple(array[start : start + size] for array in inputs)
        parts.append(reduce(run(some), some))
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


def token_losses(outputs: Arrays, inputs: Arrays) -> Arrays:
    """(n, length - 1) float32: minus the logarithm of the probability of each next token, nats.

    outputs: logits, (n, length, words). inputs: tokens, (n, length), of which each but the first is predicted.
    """
    logits, tokens = outputs[0], inputs[0]
    if len(outputs) > 1 or logits.ndim != 3 or tokens.dtype.kind not in "iu" or logits.shape[:2] != tokens.shape:
        raise ValueError(
            "metric='perplexity' needs tokens (n, length) as the first input and logits (n, length, words) as the one "
            f"output, but got {_described(inputs)} and {_described(outputs)}"
        )
    if tokens.shape[1] < 2:
        raise ValueError("metric='perplexity' predicts the next token and needs 2 tokens or more, but got 1")
    found = [_of_sample(row, own) for row, own in zip(logits, tokens, strict=True)]
    return (np.stack(found).astype(np.float32),)


def _of_sample(logits: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """logits: (length, words); tokens: (length,)."""
    shifted = logits[:-1].astype(np.float32)
    shifted = shifted - shifted.max(1, keepdims=True)
    true = np.take_along_axis(shifted, tokens[1:, None].astype(np.int64), 1)[:, 0]
    return np.asarray(np.log(np.exp(shifted).sum(1, dtype=np.float64)) - true)


def _described(arrays: Arrays) -> str:
    return " and ".join(f"{array.dtype.name} {array.shape}" for array in arrays)


def perplexity(losses: Any, labels: Any = None) -> float:
    """The exponential of the mean loss; losses: of :func:`token_losses`."""
    return float(np.exp(min(float(np.mean(losses, dtype=np.float64)), MOST)))


PERPLEXITY = UserMetric(perplexity, lower_is_better=True, reduce=token_losses)
