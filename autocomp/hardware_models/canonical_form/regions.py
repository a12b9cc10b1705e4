"""Regions: the operators between one tensor and another that is made of it alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from autocomp.search_spaces import NetworkGraph, Node

from .evaluation import KNOWN, REDUCED, Unknown, axes_of, evaluate
from .functions import activation_of, reduction_of

MOST = 16  # operators of a region
FEW = 6  # positions of an axis in a sample
POINTS = np.concatenate([np.linspace(-7.3, 7.3, 41), np.linspace(-2.1, 2.1, 24)])


@dataclass(frozen=True)
class Region:
    """Operators in execution order; the last gives what the region computes from ``source``."""

    nodes: tuple[int, ...]
    source: int


def regions(graph: NetworkGraph, last: int) -> Iterator[Region]:
    """All regions that end in a node, the smallest first. Nothing else reads what is computed inside of one."""
    inside, frontier = {last}, set(graph.nodes[last].inputs)
    while len(inside) <= MOST:
        if len(frontier) == 1:
            yield Region(tuple(sorted(inside)), next(iter(frontier)))
        newest = max(frontier, default=-1)
        if newest < 0 or newest in graph.outputs or not _joins(graph, newest, inside):
            return
        inside.add(newest)
        frontier = (frontier - {newest}) | set(graph.nodes[newest].inputs)


def _joins(graph: NetworkGraph, node: int, inside: set[int]) -> bool:
    """Whether a region may contain the node: it is computed elementwise or over axes, and read inside alone."""
    return computable(graph.nodes[node]) and all(reader in inside for reader in graph.consumers[node])


def computable(node: Node) -> bool:
    return node.op in KNOWN and bool(node.inputs)


def function_of(graph: NetworkGraph, region: Region) -> tuple[str, str] | None:
    """Kind and operator of the function that a region computes; None for an unknown one."""
    nodes = {i: graph.nodes[i] for i in region.nodes}
    if graph.nodes[region.nodes[-1]].shape != graph.nodes[region.source].shape:
        return None
    try:
        axes = {axes_of(node) for node in nodes.values() if node.op in REDUCED}
        if len(axes) > 1:
            return None
        sample = POINTS if not axes else _sample(graph.nodes[region.source].shape)
        value = evaluate(nodes, region.nodes, region.source, sample)
    except (Unknown, ValueError, TypeError):
        return None
    if np.shape(value) != sample.shape:
        return None
    return reduction_of(sample, value, axes.pop()) if axes else activation_of(sample, value)


def _sample(shape: tuple[int, ...]) -> np.ndarray:
    """Numbers around 0, on a few positions of each axis: reductions are told apart by any of them."""
    few = tuple(min(size, FEW) for size in shape)
    found: np.ndarray = np.random.default_rng(0).normal(0.3, 2.0, few)
    return found
