"""The contract of a primitive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from autocomp.primitives.numerics.reconstruction import Moments
from autocomp.search_spaces import Format, Knob, NetworkGraph


class Primitive(Protocol):
    """A compression algorithm as a part of the search space.

    >>> rtn = primitive("rtn")
    >>> rtn.knobs(graph, parameters, formats=device.formats, channel_divisor=device.channel_divisor, moments={})
    (Knob(name='format/conv1', values=('float', 'w8', 'w8a8', ...)), ...)

    parameters: the float network's, by name. channel_divisor: the device is fast with multiples of so many channels.
        moments: of layers' inputs on calibration data, by layer; may be empty.

    ``knobs`` raises NoEffectError where there is nothing to do. The weights for a plan's values are computed in one
    place for all primitives, :mod:`autocomp.primitives.numerics.plan_compressor`.
    """

    @property
    def name(self) -> str: ...

    def knobs(
        self,
        graph: NetworkGraph,
        parameters: Mapping[str, np.ndarray],
        formats: Sequence[Format],
        channel_divisor: int,
        moments: Mapping[str, Moments],
    ) -> tuple[Knob, ...]: ...
