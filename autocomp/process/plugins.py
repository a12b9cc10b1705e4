"""Finds what installed packages announce as entry points."""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from threading import RLock
from typing import Any

log = logging.getLogger("autocomp")

_LOCK = RLock()  # a second thread waits until all are added; a package may look names up while it is loaded
_LOADED: set[str] = set()
_LOADING: list[str] = []


def add_plugins(group: str, add: Callable[[str, Any], None]) -> None:
    """Calls ``add(name, object)`` for each entry point of the group, at the first call for the group alone.

    An entry point that cannot be loaded or added is left out, with a warning that names its package.
    """
    with _LOCK:
        if _LOADING or group in _LOADED:
            return  # what a module looks up while it is imported cannot come from that module
        _LOADED.add(group)
        _LOADING.append(group)
        try:
            for entry in _announced(group):
                _load(entry, add)
        finally:  # also after Ctrl-C
            _LOADING.remove(group)


def _load(entry: EntryPoint, add: Callable[[str, Any], None]) -> None:
    try:
        add(entry.name, entry.load())
    except Exception as error:
        package = entry.dist.name if entry.dist is not None else "unknown"
        reason = f"{type(error).__name__}: {error}"
        log.warning("%s of package %s is left out of %s: %s", entry.name, package, entry.group, reason)


def _announced(group: str) -> list[EntryPoint]:
    """By name, so that their order does not depend on the order of folders."""
    try:
        return sorted(entry_points(group=group), key=lambda entry: (entry.name, entry.value))
    except Exception as error:  # one unreadable file of entry points hides all of them
        log.warning("the entry points of %s cannot be read: %s: %s", group, type(error).__name__, error)
        return []
