"""Names that a checkpoint's tensors get in the place of the network's own, as a server's model expects them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

Names = Mapping[str, str] | Callable[[str], str]  # patterns -> what stands in their place; or a name -> the new one


def new_names(names: Names | None, parameters: Iterable[str]) -> dict[str, str]:
    """Name of each parameter -> its new one.

    names: regular expressions with their replacements, all of which are applied in order (``re.sub``); or a function.

    ValueError: a pattern that is none, or fits no parameter; a new name that is empty, no text, or given twice.
    """
    own = list(parameters)
    if names is None:
        return {name: name for name in own}
    found = {name: names(name) for name in own} if callable(names) else _replaced(names, own)
    for name, new in found.items():
        if not isinstance(new, str) or not new:
            raise ValueError(f"names must give each tensor a name, but {name} gets {new!r}")
    twice = [new for new, count in Counter(found.values()).items() if count > 1]
    if twice:
        alike = [name for name, new in found.items() if new == twice[0]]
        raise ValueError(f"names must give each tensor a name of its own, but {', '.join(alike)} get {twice[0]}")
    return found


def _replaced(names: Mapping[str, str], own: list[str]) -> dict[str, str]:
    found = {name: name for name in own}
    for pattern, new in names.items():
        try:
            changed = {name: re.sub(pattern, new, now) for name, now in found.items()}
        except (re.error, IndexError) as error:
            raise ValueError(f"names must be regular expressions, but {pattern!r} with {new!r}: {error}") from error
        if not any(re.search(pattern, now) for now in found.values()):
            raise ValueError(f"names has {pattern!r}, which fits none of the names; the first is {next(iter(own), '')}")
        found = changed
    return found
