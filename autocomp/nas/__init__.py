"""Searches over networks that a user describes by choices: a table of measured networks, a function that makes them, or
a network that declares what may be chosen.

Read ``searching`` first, then ``network_search``. ``choices`` turns what is given into a search space and its costs;
``cells`` and ``widths`` declare choices within a network, ``declared`` makes its networks, ``merged_graph`` and
``network_costs`` say what they cost, ``proxies`` what they promise before any training, ``training`` trains and
measures them; ``answer`` holds what was found. This room may import everything but the driver, the quick start and the
command line. MindSpore is loaded when a network is declared.
"""

if __name__ != "autocomp.nas":
    raise ImportError(f"import autocomp.nas, not {__name__}")

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .searching import search_choices
from .widths import Width

if TYPE_CHECKING:
    from .cells import Choice, Repeat
    from .declared import NetworkSpace
    from .network_search import search_network
    from .proxies import gradient_norm, naswot, synflow, zen_score

__all__ = [
    "Choice",
    "NetworkSpace",
    "Repeat",
    "Width",
    "gradient_norm",
    "naswot",
    "search_choices",
    "search_network",
    "synflow",
    "zen_score",
]

_LAZY = {
    "Choice": "cells",
    "NetworkSpace": "declared",
    "Repeat": "cells",
    "gradient_norm": "proxies",
    "naswot": "proxies",
    "search_network": "network_search",
    "synflow": "proxies",
    "zen_score": "proxies",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'autocomp.nas' has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
