"""Importances of channels for a search, measured on labelled samples before its space is made."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np

from autocomp.primitives.choices import Choices
from autocomp.primitives.registry import chosen, rated
from autocomp.primitives.tracing.platform import forward, is_dataset
from autocomp.search_spaces import NetworkGraph

from .data import Data, Samples

USED = 3200  # samples, at most


def channel_importance(net: Any, graph: NetworkGraph, choices: Choices, data: Data) -> dict[str, np.ndarray]:
    """(units,) for each of the chosen primitives that rate channels on labelled samples.

    It is empty where there are no channel groups, or no samples with classes as labels for a network with one output of
    scores; such a primitive then finds nothing to do, and says why.
    """
    names = [name for name in chosen(choices) if name in rated()]
    samples = _labelled(data) if names and graph.channel_groups else None
    if samples is None:
        return {}
    x = samples.x[0].astype(np.float32, copy=False) if samples.x[0].dtype.kind == "f" else samples.x[0]
    if not _gives_scores(net, x[:1], samples):
        return {}
    from autocomp.primitives.pruning.measured_importance import measured_importance  # loads MindSpore

    return measured_importance(net, graph, names, x, np.asarray(samples.y))


def _labelled(data: Data) -> Samples | None:
    """Training samples with classes, else those for calibration."""
    for made in (lambda: None if is_dataset(data.train) else data.training, lambda: data.calibration):
        with suppress(ValueError, TypeError):  # labels of another kind
            samples = made()
            if samples is not None and len(samples.x) == 1 and _is_classes(samples.y):
                return samples.take(USED)
    return None


def _is_classes(labels: np.ndarray | None) -> bool:
    return labels is not None and labels.ndim == 1 and labels.dtype.kind in "iu"


def _gives_scores(net: Any, one: np.ndarray, samples: Samples) -> bool:
    outputs = forward(net, (one,))
    return len(outputs) == 1 and outputs[0].ndim == 2 and outputs[0].shape[1] > int(np.max(samples.y))  # type: ignore[arg-type]
