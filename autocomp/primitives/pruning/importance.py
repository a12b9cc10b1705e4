"""Measures of the importance of units, one function each; (units,) float64, larger for more important units.

Importances of a unit's channels are summed over the layers of its group: residual branches, the parts of a concat and
depthwise layers are cut together. Measures of weights alone (magnitude, geometric median) are relative to the mean of
their layer, since filters of different layers have different sizes. Measures of the loss are not relative. BatchNorm's
scales can be compared directly (Liu et al. 2017 rank them over the whole network).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from autocomp.errors import NoEffectError
from autocomp.primitives.tracing.weight_layout import weight_of
from autocomp.search_spaces import NetworkGraph

from .selection import NOT_RATED

Parameters = Mapping[str, np.ndarray]


def magnitude(graph: NetworkGraph, parameters: Parameters) -> np.ndarray:
    """The L1 norm of the filter that produces the channel (Li et al., ICLR 2017, section 3.1)."""
    return _of_filters(graph, parameters, lambda filters: np.abs(filters).sum(1))


def geometric_median(graph: NetworkGraph, parameters: Parameters) -> np.ndarray:
    """The sum of the distances to all filters of the layer (He et al., CVPR 2019, eq. 6).

    It is least for the filters nearest to the geometric median, which the other filters can replace.
    """

    def distances(filters: np.ndarray) -> np.ndarray:
        squares = (filters**2).sum(1)
        between = squares[:, None] + squares[None, :] - 2 * filters @ filters.T
        return np.asarray(np.sqrt(np.maximum(between, 0)).sum(1))

    return _of_filters(graph, parameters, distances)


def batchnorm_scale(graph: NetworkGraph, parameters: Parameters) -> np.ndarray:
    """The magnitude of BatchNorm's factor gamma (Liu et al., ICCV 2017, section 3).

    A unit without BatchNorm is not rated.

    Raises:
        NoEffectError: there is no BatchNorm on any channel group.
    """
    total, count = batchnorm_scales(graph, parameters)
    if not count.any():
        raise NoEffectError("batchnorm_scale found no channel group that runs through a BatchNorm")
    return np.where(count > 0, total, NOT_RATED)


def batchnorm_scales(graph: NetworkGraph, parameters: Parameters) -> tuple[np.ndarray, np.ndarray]:
    """For each unit the sum of the magnitudes of its gammas, and the number of its BatchNorm channels."""
    total, count = np.zeros(graph.unit_count), np.zeros(graph.unit_count)
    for node in _once(graph, "batchnorm"):
        gamma = np.abs(parameters[graph.nodes[node].normalization.scale]).astype(np.float64)
        add_to_units(total, graph.nodes[node].units, gamma)
        add_to_units(count, graph.nodes[node].units, np.ones(len(gamma)))
    return total, count


def taylor(gradients: np.ndarray) -> np.ndarray:
    """The squared first-order change of the loss when the unit's gate closes, averaged over batches.

    (Molchanov et al., CVPR 2019, eq. 8 with gates, section 3.2.)

    gradients: (batches, units), of the mean loss of a batch with respect to gates at 1. One gate covers all channels of
        a unit, so that their changes are summed before they are squared.
    """
    return np.asarray((gradients.astype(np.float64) ** 2).mean(0))


def fisher(gradients: np.ndarray) -> np.ndarray:
    """The second-order change of the loss, by the Fisher information of the unit's gate (Theis et al. 2018,
    arXiv:1801.05787, eq. 9): half the mean square of its gradient over single samples.

    gradients: (samples, units).
    """
    return np.asarray(0.5 * (gradients.astype(np.float64) ** 2).mean(0))


def norms(graph: NetworkGraph, parameters: Parameters) -> np.ndarray:
    """L2 norms of the filters times BatchNorm's factors, averaged over a group's layers, as UniPruning rates channels;
    the factor is 1 without BatchNorm."""
    total, count = np.zeros(graph.unit_count), np.zeros(graph.unit_count)
    for position in graph.layers.values():
        node = graph.nodes[position]
        weight = weight_of(node, parameters).astype(np.float64)
        add_to_units(total, node.units, np.linalg.norm(weight.reshape(len(weight), -1), axis=1))
        add_to_units(count, node.units, np.ones(len(weight)))
    gamma, normalised = batchnorm_scales(graph, parameters)
    factor = np.where(normalised > 0, gamma / np.maximum(normalised, 1), 1.0)
    return np.asarray(total / np.maximum(count, 1) * factor)


OF_WEIGHTS: dict[str, Callable[[NetworkGraph, Parameters], np.ndarray]] = {
    "magnitude": magnitude,
    "batchnorm_scale": batchnorm_scale,
    "geometric_median": geometric_median,
}
OF_THE_LOSS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"taylor": taylor, "fisher": fisher}


def add_to_units(total: np.ndarray, units: np.ndarray, values: np.ndarray) -> None:
    """Add each channel's value to the value of its unit."""
    inside = units >= 0
    np.add.at(total, units[inside], values[inside])


def _of_filters(graph: NetworkGraph, parameters: Parameters, measure: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """measure: gets (filters, elements) and gives one number for each filter."""
    total = np.zeros(graph.unit_count)
    for position in graph.layers.values():
        node = graph.nodes[position]
        weight = weight_of(node, parameters).astype(np.float64)
        values = measure(weight.reshape(len(weight), -1))
        add_to_units(total, node.units, values / max(values.mean(), 1e-12))
    return total


def _once(graph: NetworkGraph, kind: str) -> list[int]:
    """Positions of the nodes of a kind; a layer that runs several times counts once."""
    first: dict[str, int] = {}
    for i, node in enumerate(graph.nodes):
        if node.kind == kind and node.layer is not None:
            first.setdefault(node.layer, i)
    return list(first.values())
