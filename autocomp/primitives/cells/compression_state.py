"""The state of a network under training: the network that it was made from, its layers and its calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from autocomp.primitives.numerics.calibrators import Seen
from autocomp.primitives.numerics.patches import Hessian
from autocomp.search_spaces import Format, NetworkGraph

from .trained_layers import TrainedLayer

STATE = "autocomp_applied"


@dataclass
class CompressionState:
    """The state of a network that ``apply`` returned.

    original: the float network. layers: by path. calibrated: whether ranges of inputs were found. seen: the samples of
        each layer's input from which they were found. patches: moments of the patches that layers' weights are
        multiplied with, where the algorithm needs them. samples: the network's inputs that layers are calibrated on,
        where the algorithm needs them again for another plan. tables: the formats of embeddings, which train in float
        and are rounded afterwards.
    """

    original: Any
    graph: NetworkGraph
    layers: dict[str, TrainedLayer]
    calibrated: bool = False
    seen: Mapping[str, Seen] = field(default_factory=dict)
    patches: Mapping[str, Hessian] = field(default_factory=dict)
    samples: tuple[np.ndarray, ...] = ()
    tables: Mapping[str, Format] = field(default_factory=dict)


def attach(net_q: Any, applied: CompressionState) -> None:
    object.__setattr__(net_q, STATE, applied)


def state_of(net_q: Any) -> CompressionState:
    """ValueError for a network that was not returned by ``apply``."""
    applied = getattr(net_q, STATE, None)
    if not isinstance(applied, CompressionState):
        raise ValueError(f"{type(net_q).__name__} did not come from apply(net)")
    return applied
