"""Primitives by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ..errors import NoEffectError
from ..search_spaces import Format, Knob, NetworkGraph, SearchSpace
from .base import Primitive
from .channel_pruning import ChannelPruning
from .reconstruction import Moments
from .rtn import RTN

_REGISTRY: dict[str, Primitive] = {}


def register(primitive: Primitive) -> None:
    """ValueError for a name that is taken."""
    if primitive.name in _REGISTRY:
        raise ValueError(f"a primitive called {primitive.name!r} is already registered")
    _REGISTRY[primitive.name] = primitive


def primitive(name: str) -> Primitive:
    if name not in _REGISTRY:
        raise ValueError(f"unknown primitive {name!r}; known: {', '.join(sorted(_REGISTRY))}")
    return _REGISTRY[name]


def primitives() -> tuple[str, ...]:
    return tuple(_REGISTRY)


def search_space(
    graph: NetworkGraph,
    parameters: Mapping[str, np.ndarray],
    formats: Sequence[Format],
    granularity: int,
    names: str | Iterable[str] = "auto",
    moments: Mapping[str, Moments] | None = None,
) -> SearchSpace:
    """All knobs of the primitives; with "auto", of every registered one that finds something to do."""
    chosen = primitives() if names == "auto" else (names,) if isinstance(names, str) else tuple(names)
    knobs: list[Knob] = []
    for name in chosen:
        try:
            knobs += primitive(name).knobs(graph, parameters, formats, granularity, moments or {})
        except NoEffectError:
            if names != "auto":
                raise
    if not knobs:
        raise NoEffectError("there is nothing to compress: the network has no nn.Conv2d and no nn.Dense")
    return SearchSpace(graph, tuple(knobs))


register(ChannelPruning())
register(RTN())
