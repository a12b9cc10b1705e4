"""Domain events. Bad arguments raise Python's own TypeError and ValueError.

AutocompError
├── BudgetError             no plan can meet the budget; names the nearest that one can
├── TraceError              the network could not be read
├── NoEffectError           a primitive found nothing to do
├── EvaluationError         a plan's accuracy could not be measured (NaN, wrong shape)
└── ExportError             an exported file is missing, unreadable or computes something else
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class AutocompError(Exception):
    """The parent of all errors that autocomp raises about networks, plans and files."""


class BudgetError(AutocompError):
    """No plan of the search space can meet the budget."""


class TraceError(AutocompError):
    """The network could not be read."""


class NoEffectError(AutocompError):
    """A primitive found nothing to do in this network."""


class EvaluationError(AutocompError):
    """A plan's accuracy could not be measured."""


class ExportError(AutocompError):
    """An exported file is missing, unreadable or computes something else than the network in memory."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a sentence on an unknown name: which known one is meant; nothing where none is near."""
    close = get_close_matches(name, list(known), 1, 0.6)
    return f"; did you mean {close[0]!r}?" if close else ""
