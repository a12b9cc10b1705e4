"""Channel pruning: whole channel groups lose their least important units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from autocomp.errors import NoEffectError
from autocomp.primitives.numerics.folding import batchnorm_factors
from autocomp.primitives.numerics.reconstruction import Moments, reconstruction_order
from autocomp.primitives.tracing.weight_layout import weight_of
from autocomp.search_spaces import (
    ChannelGroup,
    Format,
    Knob,
    NetworkGraph,
    Value,
    carried_out_by,
    foldable,
    kept_units,
    split_value,
)

KEEP_RATIOS = (1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25)


class ChannelPruning:
    """A knob for each channel group: the share of its units that stays, in steps of the device's channel_divisor.

    With calibration data, the last units to be cut are those that the layers that read them need most. These layers are
    reconstructed from the kept units (:mod:`autocomp.primitives.numerics.reconstruction`). Without data, units are cut
    by importance: the squared norm of the weights that produce the unit, including BatchNorm's factor, times the
    squared norm of the weights that read it (He et al., ICCV 2017, use only the first one; the product is the unit's
    share in the outputs if all channels carry the same signal). It is summed over the layers of the group.
    """

    name = "channel-pruning"

    def knobs(
        self,
        graph: NetworkGraph,
        parameters: Mapping[str, np.ndarray],
        formats: Sequence[Format],
        channel_divisor: int,
        moments: Mapping[str, Moments],
    ) -> tuple[Knob, ...]:
        importance = unit_importance(graph, parameters)
        knobs = []
        for group in graph.channel_groups:
            step = keep_step(group, channel_divisor)
            values = keep_values(group, step)
            if len(values) > 1:
                order = reconstruction_order(graph, group, parameters, moments)
                if order is None:
                    order = np.argsort(-importance[group.start : group.stop], kind="stable")
                name = f"keep/{group.name}"
                knobs.append(Knob(name, self.name, group.layers, values, group, order, step))
        if not knobs:
            raise NoEffectError(
                f"channel-pruning found no channel group with more than {channel_divisor} channels to cut"
            )
        return tuple(knobs)


def keep_step(group: ChannelGroup, channel_divisor: int) -> int:
    """Units are cut in multiples of channel_divisor; a group smaller than twice the divisor is cut in eighths of its
    units."""
    return channel_divisor if group.units >= 2 * channel_divisor else max(1, group.units // 8)


def keep_values(group: ChannelGroup, step: int) -> tuple[Value, ...]:
    """The shares that are kept for KEEP_RATIOS, rounded to multiples of ``step``, each once."""
    kept = dict.fromkeys(kept_units(group.units, ratio, step) for ratio in KEEP_RATIOS)
    return tuple(count / group.units for count in kept)


def in_multiples(graph: NetworkGraph, knob: Knob, channel_divisor: int) -> Knob | None:
    """The knob without values that keep no multiple of channel_divisor; None where no cut remains.

    Units of several channels each, such as heads, may be cut one by one.
    """
    if knob.group is None or knob.channel_divisor >= channel_divisor:
        return knob
    node = graph.nodes[graph.layers[knob.group.layers[0]]]
    if (node.units == knob.group.start).sum() > 1:
        return knob
    values = keep_values(knob.group, channel_divisor)
    if split_value(knob.values[-1])[1]:
        values = carried_out(values, knob.primitive)
    return replace(knob, values=values, channel_divisor=channel_divisor) if len(values) > 1 else None


def carried_out(values: Sequence[Value], primitive: str) -> tuple[Value, ...]:
    """The shares, each but the first with the name of the primitive in whose order units are cut."""
    return (values[0], *(carried_out_by(value, primitive) for value in values[1:]))


def unit_importance(graph: NetworkGraph, parameters: Mapping[str, np.ndarray]) -> np.ndarray:
    """(units,) float64: see :class:`ChannelPruning`."""
    norms = {node.layer: node for node in graph.nodes if node.kind == "batchnorm" and node.layer is not None}
    factors = {}
    for norm, layer in foldable(graph).items():
        gamma, beta, mean, variance = (parameters[name] for name in norms[norm].normalization.parameters)
        factors[layer] = batchnorm_factors(gamma, beta, mean, variance, norms[norm].normalization.epsilon)[0]
    made, read = np.zeros(graph.unit_count), np.zeros(graph.unit_count)
    for layer, position in graph.layers.items():
        node = graph.nodes[position]
        squares = weight_of(node, parameters).astype(np.float64) ** 2
        rows = (
            squares.reshape(len(squares), -1).sum(1) * factors.get(layer, np.ones(len(squares))).astype(np.float64) ** 2
        )
        _add(made, node.units, rows)
        if not node.depthwise:
            columns = squares.sum(axis=(0, *range(2, squares.ndim)))
            _add(read, graph.input_units(node), np.tile(columns, node.groups))
    return made * read


def _add(total: np.ndarray, units: np.ndarray, values: np.ndarray) -> None:
    inside = units >= 0
    np.add.at(total, units[inside], values[inside])
