"""What a device gains from choices that pay on some devices only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from autocomp.errors import NoEffectError
from autocomp.hardware_models import Device
from autocomp.primitives.quantization.product_knobs import PRODUCTS
from autocomp.primitives.registry import DEVICE_DEPENDENT, OPERATORS, primitive
from autocomp.search_spaces import FLOAT_BITS, Format, Knob, NetworkGraph, SearchSpace, Value, split_value

LEAST_GAIN = 1e-3  # of the network's latency or size
INTEGERS = 8  # bits of the format in which chains are tried, besides float
NAMED = 5  # layers, at most, in a note

Gains = dict[str, tuple[Value, ...]]


def device_gains(chip: Device, graph: NetworkGraph, batch: int, names: Sequence[str] = DEVICE_DEPENDENT) -> Gains:
    """Knob -> its values, after the first, that alone make the network faster or smaller on the device.

    names: of the primitives whose values are offered only then. Other layers in the place of one pay where they do in
    floats, or in integers with 8 bits.
    """
    found: Gains = {}
    for name in names:
        for place, values in _gains(name, chip, graph, batch).items():
            found[place] = (*found.get(place, ()), *values)
    return found


def _gains(name: str, chip: Device, graph: NetworkGraph, batch: int) -> Gains:
    if not (knobs := device_knobs(name, chip, graph)):
        return {}
    formats = _integers(chip, graph) if name in (*OPERATORS, PRODUCTS) else ()
    return gains_of(chip, SearchSpace(graph, (*knobs, *formats)), batch)


def gains_of(chip: Device, space: SearchSpace, batch: int) -> Gains:
    """Values that pay alone; where the space has formats of layers, alone in float or beside the strongest format
    everywhere."""
    formats = np.array([knob.kind == "format" and knob.primitive != PRODUCTS for knob in space.knobs])
    bases = [np.zeros(len(space.knobs), np.int64)]
    bases += [np.where(formats, space.sizes - 1, 0)] if formats.any() else []
    choices = [(i, v) for i, knob in enumerate(space.knobs) if not formats[i] for v in range(1, len(knob.values))]
    pays = np.any([_cheaper(chip, space, batch, base, choices) for base in bases], axis=0)
    found: Gains = {}
    for (i, value), good in zip(choices, pays, strict=True):
        if good:
            found[space.knobs[i].name] = (*found.get(space.knobs[i].name, ()), space.knobs[i].values[value])
    return found


def _cheaper(
    chip: Device, space: SearchSpace, batch: int, base: np.ndarray, choices: Sequence[tuple[int, int]]
) -> np.ndarray:
    """(choices,) bool: whether a knob's value makes the plan ``base`` faster or smaller."""
    vectors = np.tile(base, (len(choices) + 1, 1))
    for row, (position, value) in enumerate(choices, 1):
        vectors[row, position] = value
    found, most = chip.costs(space.workload(vectors, batch)), 1 - LEAST_GAIN
    return np.asarray(((found.latency_ms < most * found.latency_ms[0]) | (found.size_mb < most * found.size_mb[0]))[1:])


def not_offered(
    chip: Device, graph: NetworkGraph, gains: Mapping[str, Sequence[Value]], names: Sequence[str]
) -> tuple[str, ...]:
    """A note that names the layers for which other layers are not offered; none where all are."""
    knobs = [knob for name in names if name in OPERATORS for knob in device_knobs(name, chip, graph)]
    dropped: dict[str, list[str]] = {}
    for knob in knobs:
        left = [value for value in knob.values[1:] if value not in gains.get(knob.name, ())]
        if left:
            dropped.setdefault(knob.layers[0], []).extend(str(split_value(value)[0]) for value in left)
    if not dropped:
        return ()
    named = "; ".join(f"{layer} {', '.join(values)}" for layer, values in list(dropped.items())[:NAMED])
    others = f"; and at {len(dropped) - NAMED} other layers" if len(dropped) > NAMED else ""
    return (f"not offered, since they make the network neither faster nor smaller on {chip.name}: {named}{others}",)


def _integers(chip: Device, graph: NetworkGraph) -> tuple[Knob, ...]:
    """Formats of all layers with 8 bits for weights and inputs, where the device has such a one."""
    form = Format(INTEGERS, INTEGERS)
    if form not in chip.formats:
        return ()
    values = (str(Format(FLOAT_BITS, FLOAT_BITS)), str(form))
    return tuple(Knob(f"format/{layer}", "rtn", (layer,), values) for layer in graph.layers)


def device_knobs(name: str, chip: Device, graph: NetworkGraph) -> Sequence[Knob]:
    """The primitive's knobs, whatever they gain."""
    parameters: Mapping[str, np.ndarray] = {}
    if name == PRODUCTS and not chip.runtime.multiplies_activations(chip.rates.macs_per_s):
        return ()
    try:
        return primitive(name).knobs(graph, parameters, chip.formats, chip.channel_divisor, {})
    except NoEffectError:
        return ()
