"""Registers samplers and finds them by name."""

from __future__ import annotations

from collections.abc import Callable

from autocomp.errors import nearest

from .base import Problem, Sampler

Maker = Callable[[Problem], Sampler]

_MAKERS: dict[str, Maker] = {}


def register(name: str) -> Callable[[Maker], Maker]:
    """Decorator of a function or class that makes a sampler for a problem."""

    def add(maker: Maker) -> Maker:
        if name in _MAKERS:
            raise ValueError(f"a sampler may be registered once, but {name!r} is there already")
        _MAKERS[name] = maker
        return maker

    return add


def sampler_names() -> tuple[str, ...]:
    return tuple(sorted(_MAKERS))


def sampler(name: str, problem: Problem) -> Sampler:
    check_sampler(name)
    return _MAKERS[name](problem)


def check_sampler(name: str) -> None:
    """ValueError for a name that is not registered."""
    if name not in _MAKERS:
        raise ValueError(f"unknown sampler {name!r}; known: {', '.join(sampler_names())}{nearest(name, _MAKERS)}")
