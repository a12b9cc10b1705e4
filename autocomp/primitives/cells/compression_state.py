"""What a network under training remembers of the one that it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from autocomp.primitives.numerics.calibrators import Seen
from autocomp.primitives.numerics.patches import PatchMoments
from autocomp.search_spaces import NetworkGraph

from .trained_layers import TrainedLayer

MARK = "autocomp_applied"


@dataclass
class Applied:
    """original: the float network; layers: by path; calibrated: whether ranges of inputs were found; seen: of each
    layer's input, from which they were; patches: moments of what layers' weights are multiplied with, where the
    algorithm asks for them."""

    original: Any
    graph: NetworkGraph
    layers: dict[str, TrainedLayer]
    calibrated: bool = False
    seen: Mapping[str, Seen] = field(default_factory=dict)
    patches: Mapping[str, PatchMoments] = field(default_factory=dict)


def mark(net_q: Any, applied: Applied) -> None:
    object.__setattr__(net_q, MARK, applied)


def applied_to(net_q: Any) -> Applied:
    """ValueError for a network that no ``apply`` returned."""
    applied = getattr(net_q, MARK, None)
    if not isinstance(applied, Applied):
        raise ValueError(f"{type(net_q).__name__} did not come from apply(net)")
    return applied
