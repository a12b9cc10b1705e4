"""Channels and bits of every operator under n plans: all that a hardware model needs to know of the plans."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from .formats import FLOAT_BITS
from .graph import NetworkGraph

if TYPE_CHECKING:
    from .space import SearchSpace


@dataclass(frozen=True, eq=False)
class Workload:
    """n plans of a search space.

    Arrays over all nodes (``channels`` and the bits) are computed when first read. For a million plans, ask node by
    node, or through the few knobs that a node depends on: ``grid`` holds the combinations of these knobs, and ``codes``
    says which combination each plan has.

    vectors: (n, knobs) int of any width.
    batch: images in an inference; the graph's shapes are those of one image.
    """

    space: SearchSpace
    vectors: np.ndarray
    batch: int = 1

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, plans: slice) -> Workload:
        return Workload(self.space, self.vectors[plans], self.batch)

    @property
    def specialised(self) -> Workload:
        """The same plan, of the network in which its chains stand; for a workload of one plan."""
        (vector,) = self.vectors
        return Workload(self.space.of_plan(self.space.decode(vector)), self.vectors, self.batch)

    @property
    def graph(self) -> NetworkGraph:
        return self.space.graph

    @cached_property
    def _columns(self) -> np.ndarray:
        """(knobs, n): the choices of one knob are contiguous in memory. Transposing narrow integers is three times
        faster."""
        narrow = np.int8 if self.space.sizes.max(initial=0) <= 127 else np.int32
        return np.ascontiguousarray(self.vectors.astype(narrow, copy=False).T).astype(np.intp)

    def channels_of(self, node: int) -> np.ndarray:
        """(n,) int: channels that the node's output keeps."""
        narrowing = self.graph.nodes[node].attributes.narrowing
        if narrowing is not None:
            return narrowing.channels(*(self.channels_of(i) for i in self.graph.around(node)))
        channels = np.full(len(self), len(self.graph.nodes[node].units))
        for position, removed in self.space.channel_tables[node]:
            channels -= removed[self._columns[position]]
        return channels

    def bits_of(self, node: int) -> tuple[np.ndarray, np.ndarray]:
        """Two (n,) int: bits of a layer's weights and of its inputs, 32 for the device's own float format."""
        weight = np.full(len(self), FLOAT_BITS)
        activation = weight
        for position, bits in self.space.format_tables[node]:
            weight, activation, _ = bits[self._columns[position]].T
        return weight, activation

    def group_of(self, node: int) -> np.ndarray:
        """(n,) int: how many inputs of an output of a layer share a scale; 0 for all."""
        found = np.zeros(len(self), np.int64)
        if self.graph.nodes[node].attributes.replaces is None:  # layers of chains have one scale for each output
            for position, bits in self.space.format_tables[node]:
                found = bits[self._columns[position], 2]
        return found

    def sparse_of(self, node: int) -> np.ndarray:
        """(n,) bool: whether two of every four weights of a layer are zero."""
        found = np.zeros(len(self), bool)
        for position, values in self.space.sparse_tables[node]:
            found |= values[self._columns[position]]
        return found

    def divided_of(self, node: int) -> np.ndarray:
        """(n,) bool: whether a layer's input is divided by a scale for each channel."""
        return self._divided(node) > 0

    def by_row_of(self, node: int) -> np.ndarray:
        """(n,) bool: whether each row of a layer's input is rounded with a range of its own."""
        return self._divided(node) > 1

    def _divided(self, node: int) -> np.ndarray:
        found = np.zeros(len(self), np.int64)
        for position, values in self.space.divided_tables[node]:
            found = np.maximum(found, values[self._columns[position]])
        return found

    @cached_property
    def channels(self) -> np.ndarray:
        """(n, nodes) int: :meth:`channels_of` for every node."""
        return np.stack([self.channels_of(i) for i in range(len(self.graph.nodes))], 1)

    @cached_property
    def weight_bits(self) -> np.ndarray:
        """(n, nodes) int; 32 means the device's own float format, and is also the value of every node that is no
        layer."""
        return np.stack([self.bits_of(i)[0] for i in range(len(self.graph.nodes))], 1)

    @cached_property
    def activation_bits(self) -> np.ndarray:
        """(n, nodes) int; bits of a layer's inputs."""
        return np.stack([self.bits_of(i)[1] for i in range(len(self.graph.nodes))], 1)

    def knobs_of(
        self, channels: Iterable[int], formats: Iterable[int], integers: Iterable[int] = (), sparse: Iterable[int] = ()
    ) -> tuple[int, ...]:
        """Positions of the knobs that decide these nodes' channels, these nodes' formats and the zeros of ``sparse``.

        integers: nodes of which only matters whether their format is multiplied in integers: for such a knob its
            position's complement, ``~position``, has two values, whatever the knob has.
        """
        found = {position for node in channels for position in self.space.channel_knobs(node)}
        found |= {position for node in formats for position, _ in self.space.format_tables[node]}
        found |= {position for node in sparse for position, _ in self.space.sparse_tables[node]}
        found |= {~position for node in integers for position, _ in self.space.format_tables[node]}
        return once(found)

    def grid_size(self, knobs: Sequence[int]) -> int:
        return math.prod(self._values(k) for k in knobs)

    def _values(self, knob: int) -> int:
        return int(self.space.sizes[knob]) if knob >= 0 else len(self.space.integer_values[~knob][0])

    def grid(self, knobs: Sequence[int]) -> Workload:
        """Every combination of these knobs' values; the last knob changes fastest. All other knobs leave the network as
        it is."""
        vectors = np.zeros((self.grid_size(knobs), len(self.space.knobs)), np.intp)
        combinations = np.indices([self._values(k) for k in knobs]).reshape(len(knobs), len(vectors))
        for knob, values in zip(knobs, combinations, strict=True):
            if knob >= 0:
                vectors[:, knob] = values
            else:
                vectors[:, ~knob] = self.space.integer_values[~knob][0][values]
        return Workload(self.space, vectors, self.batch)

    def codes(self, knobs: Sequence[int]) -> np.ndarray:
        """(n,) int: the row of ``grid(knobs)`` that holds each plan's values of these knobs."""
        codes = np.zeros(len(self), np.intp)
        for knob in knobs:
            codes *= self._values(knob)
            codes += self._columns[knob] if knob >= 0 else self.space.integer_values[~knob][1][self._columns[~knob]]
        return codes


def once(knobs: Iterable[int]) -> tuple[int, ...]:
    """Sorted, without the complements of positions that are among them."""
    found = set(knobs)
    return tuple(sorted(knob for knob in found if knob >= 0 or ~knob not in found))
