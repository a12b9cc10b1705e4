"""What a primitive is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from ..search_spaces import Format, Knob, NetworkGraph


class Primitive(Protocol):
    """A compression algorithm as a part of the search space.

    >>> rtn = primitive("rtn")
    >>> rtn.knobs(graph, parameters, formats=device.formats, granularity=device.granularity)
    (Knob(name='format/conv1', values=('float', 'w8', 'w8a8', ...)), ...)

    ``knobs`` raises NoEffectError where there is nothing to do. What a plan's values make of the network is computed
    in one place for all primitives, :mod:`autocomp.primitives.realise`.
    """

    name: str

    def knobs(
        self,
        graph: NetworkGraph,
        parameters: Mapping[str, np.ndarray],
        formats: Sequence[Format],
        granularity: int,
    ) -> tuple[Knob, ...]: ...
