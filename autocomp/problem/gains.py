"""What a device gains from choices that pay on some devices only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from autocomp.errors import NoEffectError
from autocomp.hardware_models import Device
from autocomp.primitives.registry import DEVICE_DEPENDENT, primitive
from autocomp.search_spaces import Knob, NetworkGraph, SearchSpace, Value

LEAST_GAIN = 1e-3  # of the network's latency or size


def device_gains(chip: Device, graph: NetworkGraph, batch: int) -> dict[str, tuple[Value, ...]]:
    """Knob -> its values, after the first, that alone make the network faster or smaller on the device.

    Of the knobs of the primitives that ``primitives="auto"`` takes on some devices only.
    """
    knobs = [knob for name in DEVICE_DEPENDENT for knob in _knobs(name, chip, graph)]
    return gains_of(chip, SearchSpace(graph, tuple(knobs)), batch) if knobs else {}


def gains_of(chip: Device, space: SearchSpace, batch: int) -> dict[str, tuple[Value, ...]]:
    alone = [(i, value) for i, knob in enumerate(space.knobs) for value in range(1, len(knob.values))]
    vectors = np.zeros((len(alone) + 1, len(space.knobs)), np.int64)
    for row, (position, value) in enumerate(alone, 1):
        vectors[row, position] = value
    found = chip.costs(space.workload(vectors, batch))
    most = 1 - LEAST_GAIN
    cheaper = (found.latency_ms < most * found.latency_ms[0]) | (found.size_mb < most * found.size_mb[0])
    pairs = [(space.knobs[i], value) for (i, value), pays in zip(alone, cheaper[1:], strict=True) if pays]
    return {
        knob.name: tuple(knob.values[value] for other, value in pairs if other is knob)
        for knob in dict.fromkeys(knob for knob, _ in pairs)
    }


def _knobs(name: str, chip: Device, graph: NetworkGraph) -> Sequence[Knob]:
    parameters: Mapping[str, np.ndarray] = {}
    try:
        return primitive(name).knobs(graph, parameters, chip.formats, chip.channel_divisor, {})
    except NoEffectError:
        return ()
