"""Registers samplers and finds them by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autocomp.errors import nearest
from autocomp.process.plugins import add_plugins

from .base import Problem, Sampler

Maker = Callable[[Problem], Sampler]

PLUGINS = "autocomp.samplers"  # the group of entry points

_MAKERS: dict[str, Maker] = {}


def register(name: str) -> Callable[[Maker], Maker]:
    """Decorator of a function or class that makes a sampler for a problem."""

    def add(maker: Maker) -> Maker:
        if name in _MAKERS:
            raise ValueError(f"a sampler may be registered once, but {name!r} is there already")
        _MAKERS[name] = maker
        return maker

    return add


def _add(name: str, maker: Any) -> None:
    """Registers an installed package's sampler; its module may have registered it already."""
    if not callable(maker):
        raise TypeError(f"a sampler must be a function or class that makes one, but {name} is {maker!r}")
    if _MAKERS.get(name) is not maker:
        register(name)(maker)


def sampler_names() -> tuple[str, ...]:
    add_plugins(PLUGINS, _add)
    return tuple(sorted(_MAKERS))


def sampler(name: str, problem: Problem) -> Sampler:
    check_sampler(name)
    return _MAKERS[name](problem)


def check_sampler(name: str) -> None:
    """ValueError for a name that is not registered."""
    add_plugins(PLUGINS, _add)
    if name not in _MAKERS:
        raise ValueError(f"unknown sampler {name!r}; known: {', '.join(sampler_names())}{nearest(name, _MAKERS)}")
