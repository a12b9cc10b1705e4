"""A cache of arrays, bounded by their elements."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Found = TypeVar("Found")


class Remembered(Generic[Found]):
    """A cache; it is emptied when it has more than ``most`` elements.

    Several threads may use it: in the worst case two of them compute the same value.
    """

    def __init__(self, most: int) -> None:
        self.most, self._elements = most, 0
        self._found: dict[Hashable, Found] = {}

    def get(self, key: Hashable, elements: int, make: Callable[[], Found]) -> Found:
        if (found := self._found.get(key)) is None:
            found = make()
            if self._elements > self.most:
                self._found, self._elements = {}, 0
            self._found[key] = found
            self._elements += elements
        return found
