"""Estimates pruned channels from the channels that stay, so that the layer that reads them keeps much of its output.

Channels of a trained network are correlated. With the mean m and covariance C of a layer's input over calibration data,
the best linear estimate of the cut channels P from the kept ones K is, at every pixel,

    x_P = m_P + A (x_K - m_K),    A = C_PK (C_KK + lambda I)^-1

so the layer's weight becomes W'_K = W_K + W_P A, and its bias grows by W_P (m_P - A m_K). This is the least-squares
reconstruction of He et al. (ICCV 2017, eq. 1, second step) restricted to one map for all taps of a kernel. It needs the
covariance once, and for each plan only the solution of a small linear system.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from autocomp.primitives.tracing.weight_layout import weight_of
from autocomp.search_spaces import ChannelGroup, NetworkGraph, Node

MOST_CHANNELS = 2048  # wider inputs (a Flatten before a dense layer) are not reconstructed
RIDGE = 1e-3  # of the mean variance


@dataclass(frozen=True)
class Moments:
    """Moments of a layer's input, over images and pixels: mean (channels,), covariance (channels, channels),
    float32."""

    mean: np.ndarray
    covariance: np.ndarray


def moments_of(rows: np.ndarray) -> Moments:
    """rows: (n, channels)."""
    mean = rows.mean(0, dtype=np.float64)
    centred = (rows - mean).astype(np.float32)
    covariance = centred.T @ centred / max(len(rows), 1)
    return Moments(mean.astype(np.float32), covariance)


def reconstructs(node: Node, moments: Mapping[str, Moments]) -> bool:
    return node.layer in moments and node.groups == 1


def taps_seen(node: Node) -> float:
    """The share of a kernel's taps that are added in a pixel: all; of a transposed convolution one in each stride, in
    the mean over its pixels."""
    return 1 / math.prod(node.convolution.stride) if node.transposed else 1.0


def reconstruct(
    weight: np.ndarray, columns: np.ndarray, moments: Moments, taps: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """The weight for the kept columns, which also replaces the cut ones, and the change of the bias.

    weight: (out, in, ...) float32; columns: (in,) bool, the kept ones; taps: the share of taps that are added in a
        pixel of the output. Returns (out, kept, ...) and (out,).
    """
    cut = ~columns
    c_kk = moments.covariance[np.ix_(columns, columns)].astype(np.float64)
    ridge = RIDGE * max(float(np.trace(c_kk)) / len(c_kk), 1e-12)
    c_kk[np.diag_indices_from(c_kk)] += ridge
    guess = np.linalg.solve(c_kk, moments.covariance[np.ix_(columns, cut)]).T.astype(np.float32)  # (cut, kept)
    added = np.moveaxis(np.tensordot(weight[:, cut], guess, axes=(1, 0)), -1, 1)
    missing = moments.mean[cut] - guess @ moments.mean[columns]
    shift = weight[:, cut].reshape(len(weight), int(cut.sum()), -1).sum(2) @ missing * np.float32(taps)
    return (weight[:, columns] + added).astype(np.float32), shift.astype(np.float32)


def reconstruction_order(
    graph: NetworkGraph, group: ChannelGroup, parameters: Mapping[str, np.ndarray], moments: Mapping[str, Moments]
) -> np.ndarray | None:
    """(units,) int: the units in the order in which each adds most to the inputs of the group's readers.

    It is a pivoted Cholesky factorisation of the covariance as the readers weight it, each reader relative to its own
    output's variance. A unit that the ones before it can predict comes late, even if its values are large. None where
    no reader has moments.
    """
    matrix = np.zeros((group.units, group.units))
    found = False
    for node in graph.nodes:
        if node.weight_shape is None or node.layer is None or not reconstructs(node, moments):
            continue
        units = graph.input_units(node)
        inside = np.flatnonzero((units >= group.start) & (units < group.stop))
        if not len(inside):
            continue
        found = True
        squares = weight_of(node, parameters).astype(np.float64) ** 2
        weights = squares.sum(axis=(0, *range(2, squares.ndim)))
        covariance = moments[node.layer].covariance.astype(np.float64)
        total = float(weights @ np.diag(covariance)) or 1.0
        scale = np.sqrt(weights[inside])
        seen = covariance[np.ix_(inside, inside)] * np.outer(scale, scale) / total
        places = units[inside] - group.start
        same = np.equal.outer(_occurrence(places), _occurrence(places))
        np.add.at(matrix, (places[:, None], places[None, :]), seen * same)
    return pivoted_order(matrix) if found else None


def _occurrence(places: np.ndarray) -> np.ndarray:
    """How often each entry occurred before: 0, 0, 1 for 5, 7, 5."""
    counts: dict[int, int] = {}
    result = np.zeros(len(places), np.int64)
    for i, place in enumerate(places.tolist()):
        result[i] = counts.get(place, 0)
        counts[place] = result[i] + 1
    return result


def pivoted_order(matrix: np.ndarray) -> np.ndarray:
    """Pivots of the Cholesky factorisation of a positive semidefinite matrix, the largest remaining one first."""
    n = len(matrix)
    rest = np.array(np.diag(matrix))
    factor = np.zeros((n, n))
    order = np.full(n, -1)
    chosen = np.zeros(n, bool)
    for step in range(n):
        pivot = int(np.argmax(np.where(chosen, -np.inf, rest)))
        order[step], chosen[pivot] = pivot, True
        if rest[pivot] <= 1e-12:
            remaining = np.flatnonzero(~chosen)
            order[step + 1 :] = remaining[np.argsort(-np.diag(matrix)[remaining], kind="stable")]
            break
        column = (matrix[:, pivot] - factor[:, :step] @ factor[pivot, :step]) / np.sqrt(rest[pivot])
        factor[:, step] = np.where(chosen, 0, column)
        factor[pivot, step] = np.sqrt(rest[pivot])
        rest = np.maximum(rest - np.where(chosen, 0, column) ** 2, 0)
    return order
