"""Registers primitives and finds them by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from autocomp.errors import NoEffectError, nearest
from autocomp.primitives.arguments import RULES
from autocomp.primitives.numerics.reconstruction import Moments
from autocomp.primitives.pruning.channel_pruning import ChannelPruning, in_multiples
from autocomp.primitives.quantization.format_knobs import TrainedFormats
from autocomp.primitives.quantization.rtn import RTN
from autocomp.process.plugins import add_plugins
from autocomp.rules import checked
from autocomp.search_spaces import Knob, NetworkGraph, SearchSpace

from .base import Primitive
from .choices import Choices

PLUGINS = "autocomp.primitives"  # the group of entry points

_REGISTRY: dict[str, Primitive] = {}
_AUTOMATIC: list[str] = []


@checked(RULES["register"])
def register(primitive: Primitive, automatic: bool = True) -> None:
    """Adds a primitive, also after import. ValueError for a name that is already registered.

    automatic: whether ``primitives="auto"`` includes it. False for one that needs training.
    """
    if primitive.name in _REGISTRY:
        raise ValueError(f"a primitive called {primitive.name!r} is already registered")
    _REGISTRY[primitive.name] = primitive
    if automatic:
        _AUTOMATIC.append(primitive.name)


def _add(name: str, given: Any) -> None:
    """Registers an installed package's primitive, or the class of one; its module may have registered it already."""
    made = given() if isinstance(given, type) else given
    if not callable(getattr(made, "knobs", None)):
        raise TypeError(f"a primitive must have a method knobs, but {name} is {made!r}")
    if _REGISTRY.get(made.name) is not made:
        register(made, automatic=getattr(made, "automatic", True))


def primitive(name: str) -> Primitive:
    add_plugins(PLUGINS, _add)
    if name not in _REGISTRY:
        raise ValueError(f"unknown primitive {name!r}; known: {', '.join(sorted(_REGISTRY))}{nearest(name, _REGISTRY)}")
    return _REGISTRY[name]


def primitives() -> tuple[str, ...]:
    add_plugins(PLUGINS, _add)
    return tuple(_REGISTRY)


def automatic() -> tuple[str, ...]:
    """Names of the primitives that ``primitives="auto"`` includes."""
    add_plugins(PLUGINS, _add)
    return tuple(_AUTOMATIC)


def search_space(
    graph: NetworkGraph,
    parameters: Mapping[str, np.ndarray],
    choices: Choices,
    moments: Mapping[str, Moments] | None = None,
) -> SearchSpace:
    """All knobs of the primitives that are chosen from."""
    names, formats, channel_divisor = choices.primitives, choices.formats, choices.channel_divisor
    chosen = automatic() if names == "auto" else (names,) if isinstance(names, str) else tuple(names)
    knobs: list[Knob] = []
    for name in chosen:
        try:
            knobs += primitive(name).knobs(graph, parameters, formats, channel_divisor, moments or {})
        except NoEffectError:
            if names != "auto":
                raise
    check_places(knobs)
    excluded = choices.excluded
    every, knobs = bool(knobs), [knob for knob in knobs if not set(knob.layers) & excluded]
    if every and not knobs:
        raise NoEffectError(f"there is nothing to compress: all {len(excluded)} layers are excluded or frozen")
    if choices.strict_divisor:
        coarse = (in_multiples(graph, knob, channel_divisor) for knob in knobs)
        knobs = [knob for knob in coarse if knob is not None]
        if not knobs and names != "auto":
            raise NoEffectError(
                f"this device cuts in multiples of {channel_divisor} channels, and no channel group has more than that"
            )
    if not knobs:
        raise NoEffectError(
            "there is nothing to compress: the network has no nn.Conv2d and no nn.Dense that reads its weight as it is"
        )
    return SearchSpace(graph, tuple(knobs))


def check_places(knobs: Iterable[Knob]) -> None:
    """ValueError where two primitives have a knob for the same place."""
    owners: dict[str, str] = {}
    for knob in knobs:
        other = owners.setdefault(knob.name, knob.primitive)
        if other != knob.primitive:
            raise ValueError(f"primitives {other} and {knob.primitive} both choose {knob.name}: leave one of them out")


register(ChannelPruning())
register(RTN())
register(TrainedFormats("adaround", "AdaRound"), automatic=False)
register(TrainedFormats("simqat", "SimQAT"), automatic=False)
register(TrainedFormats("lsq", "LSQ"), automatic=False)
register(TrainedFormats("pact", "PACT"), automatic=False)
register(TrainedFormats("slb", "SLB", most_bits=4), automatic=False)
