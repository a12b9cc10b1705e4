"""The choices that a search offers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from autocomp.search_spaces import FLOAT_BITS, Format, Value

from .restrictions import Restricted


@dataclass(frozen=True)
class Choices:
    """The choices of a search: the device's formats and channel_divisor, and the primitives by name.

    primitives: "auto": every one that needs no training and finds something to do. symmetric: whether the device's
    runtime takes inputs rounded around zero alone. strict_divisor: whether channels are cut in multiples of the
    channel_divisor alone, in small groups too. excluded: layers that are not compressed. quantizes_tensors: whether the
    device's runtime keeps tensors between layers in integers. trains: whether there are samples to train on, so that
    choices may be carried out by training. importance: (units,) of channels
    as it was measured, by the name of the primitive that cuts in this order. gains: knob -> its values that the
    device gains from, for primitives that pay on some devices only; the others are not offered. None: all are.
    float_layers: layers that the runtime does not run in integers, whose inputs are not rounded. restrictions: what the
    user allows at some layers. low_formats: further ones, of 1 and 2 bits, for primitives that are made for them.
    table_bits: in which files hold rows of an embedding. tied_tables: whether they hold a table in integers that others
    read, too. paying: layer, format and primitive, for primitives that divide inputs and pay there; the others are not
    offered. None: all are, to who asks for them. ranges_of_rows: whether the device's runtime rounds each row of an
    input with a range of its own, found while the network runs. group_formats: further ones, with a scale for each
    group of inputs, for primitives that are made for them. context: of a language model, None: it does not generate.
    cache_bits: in which its cache is counted, whatever plans choose; None: as they choose. has_onnx_form: whether
    onnxruntime evaluates plans. int16_sums: whether the device may saturate where it adds two products of integers, so
    that weights of 8 bits are limited.
    """

    formats: Sequence[Format]
    channel_divisor: int
    primitives: str | Sequence[str] = "auto"
    symmetric: bool = False
    strict_divisor: bool = False
    excluded: frozenset[str] = frozenset()
    quantizes_tensors: bool = False
    trains: bool = False
    importance: Mapping[str, np.ndarray] = field(default_factory=dict, compare=False)
    gains: Mapping[str, tuple[Value, ...]] | None = None
    float_layers: frozenset[str] = frozenset()
    restrictions: tuple[Restricted, ...] = ()
    low_formats: tuple[Format, ...] = ()
    table_bits: tuple[int, ...] = (8, 4)
    tied_tables: bool = True
    paying: frozenset[tuple[str, str, str]] | None = None
    ranges_of_rows: bool = False
    group_formats: tuple[Format, ...] = ()
    context: int | None = None
    cache_bits: int | None = None
    has_onnx_form: bool = True
    int16_sums: bool = True

    @property
    def ordered(self) -> tuple[Format, ...]:
        """All formats, mildest first: one with groups comes before that with one scale for each output."""
        found: list[Format] = []
        for some in self.formats:
            alike = some.activation_bits == FLOAT_BITS
            found += [one for one in self.group_formats if alike and one.weight_bits == some.weight_bits]
            found.append(some)
        return (*found, *self.low_formats)
