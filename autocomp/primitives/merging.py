"""One knob for each place, from those that several primitives offer for it.

A value says what is chosen; after an ``@`` it names the primitive that carries it out, where this is not the usual one:
``"w4a8"`` is rounded for the least error of the layer's output, ``"w4a8@rtn"`` to nearest, ``"w4a8@lsq"`` is trained,
and ``"w4a8@smooth-quant"`` stands beside them: it divides the layer's input, too.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import chain, repeat

from autocomp.primitives.numerics.plan_compressor import NEAREST
from autocomp.search_spaces import FLOAT_BITS, Format, Knob, Value, carried_out_by, split_value

HEADS = "head-pruning"
EXACT_BITS = 8  # from which on rounding to nearest is as good as any other


def merged(
    knobs: Sequence[Knob],
    formats: Sequence[Format],
    trainers: Collection[str],
    trains: bool,
    named: Collection[str] = (),
    dividing: Collection[str] = (),
    ranging: Collection[str] = (),
) -> tuple[Knob, ...]:
    """The knobs, each place once, in the order in which places occur first.

    formats: of the device, in the order of values. trainers: primitives that train. trains: whether there are samples
        to train on; then trainers are no values of their own, but may carry out those of others.
    named: primitives whose formats are values of their own. dividing: those that divide layers' inputs by scales,
        ranging: and round each row of them with a range of its own.
    """
    places: dict[str, list[Knob]] = {}
    for knob in knobs:
        places.setdefault(knob.name, []).append(knob)
    found = []
    for offers in places.values():
        if offers[0].kind == "format":
            plain = [knob for knob in offers if knob.primitive not in named]
            own = [knob for knob in offers if knob.primitive in named]
            one = _formats(plain, formats, trainers, trains) if plain else replace(own[0], values=own[0].values[:1])
            found.append(_beside(one, own, formats, dividing, ranging) if own else one)
        elif offers[0].kind == "structure":
            found.append(_structures(offers))
        else:
            found.append(offers[0] if len(offers) == 1 else _orders(offers) if offers[0].group else _values(offers))
    return tuple(found)


def _beside(
    knob: Knob,
    offers: Sequence[Knob],
    formats: Sequence[Format],
    dividing: Collection[str],
    ranging: Collection[str],
) -> Knob:
    """The knob with the formats of all offers as values that name their primitives, each behind the same format."""
    order = {str(one): i for i, one in enumerate(formats)}
    pairs = [(value, knob.primitive_of(value)) for value in knob.values[1:]]
    pairs += [(carried_out_by(value, some.primitive), some.primitive) for some in offers for value in some.values[1:]]
    pairs.sort(key=lambda pair: order.get(str(split_value(pair[0])[0]), len(order)))
    values, primitives = zip(*pairs, strict=True)
    every = (knob.primitive, *primitives) if len(set(primitives) | {knob.primitive}) > 1 else ()
    divide, by_row = (tuple(name for name in dict.fromkeys(primitives) if name in some) for some in (dividing, ranging))
    return replace(knob, values=(knob.values[0], *values), primitives=every, dividing=divide, ranging=by_row)


def _formats(offers: Sequence[Knob], formats: Sequence[Format], trainers: Collection[str], trains: bool) -> Knob:
    """Each format once: of two primitives that need no training the one with the smaller error of the layer's output.

    Both would cost the same, so that a search could never gain by the other one.
    """
    by_value: dict[Value, list[str]] = {}
    for knob in offers:
        for value in knob.values[1:]:
            by_value.setdefault(value, []).append(knob.primitive)
    order = {str(one): i for i, one in enumerate(formats)}
    named = sorted(by_value, key=lambda value: order.get(str(value), len(order)))
    best = {value: _best(value, by_value[value], trainers) for value in named}
    values = tuple(_canonical(value, best[value], trainers) for value in named)
    first = offers[0]
    return replace(
        first,
        values=(first.values[0], *values),
        primitives=(first.primitive, *best.values()) if len(set(best.values()) | {first.primitive}) > 1 else (),
        trainers=tuple(knob.primitive for knob in offers if knob.primitive in trainers) if trains else (),
    )


def _best(value: Value, primitives: Sequence[str], trainers: Collection[str]) -> str:
    untrained = [name for name in primitives if name not in trainers] or list(primitives)
    low = _weight_bits(value) < EXACT_BITS
    return next((name for name in untrained if not (low and name in NEAREST)), untrained[0])


def _canonical(value: Value, primitive: str, trainers: Collection[str]) -> Value:
    """The value with its primitive, where that is not the usual one of the format."""
    if primitive in trainers or (primitive in NEAREST and _weight_bits(value) < EXACT_BITS):
        return carried_out_by(value, primitive)
    return value


def _weight_bits(value: Value) -> int:
    bits = Format.parse(str(split_value(value)[0])).weight_bits
    return EXACT_BITS if bits == FLOAT_BITS else bits


def _orders(offers: Sequence[Knob]) -> Knob:
    """The ratios of all, from the mildest to the strongest, each in the orders of the primitives that offer it. Heads
    are cut in the order of channel-pruning: beside it head-pruning offers nothing of its own."""
    offers = [knob for knob in offers if knob.primitive != HEADS] if len(offers) > 1 else offers
    first = offers[0]
    if len(offers) == 1:
        return first
    named = [first.values[1:], *(map(_named, knob.values[1:], repeat(knob.primitive)) for knob in offers[1:])]
    ranked = sorted(dict.fromkeys(chain(*named)), key=lambda value: -float(split_value(value)[0]))
    orders = {knob.primitive: knob.order for knob in offers if knob.order is not None}
    divisor = math.gcd(*(knob.channel_divisor for knob in offers))
    values = (first.values[0], *ranked)
    return replace(first, values=values, orders={**first.orders, **orders}, channel_divisor=divisor)


def _named(value: Value, primitive: str) -> Value:
    return value if split_value(value)[1] else carried_out_by(value, primitive)


def _structures(offers: Sequence[Knob]) -> Knob:
    """The chains of all primitives, each of which its values name; those with more multiply-accumulates first."""
    chains = {value: knob.chains[value] for knob in offers for value in knob.values[1:]}
    order = sorted(chains, key=lambda value: -sum(node.macs for node in chains[value].nodes))
    return replace(offers[0], values=(offers[0].values[0], *order), chains=chains)


def _values(offers: Sequence[Knob]) -> Knob:
    """The values of all primitives, each with the one that offers it first."""
    owners: dict[Value, str] = {}
    for knob in offers:
        for value in knob.values:
            owners.setdefault(value, knob.primitive_of(value))
    return replace(offers[0], values=tuple(owners), primitives=tuple(owners.values()))
