"""Costs of a language model that generates: the prompt, each further token, and the cache of keys and values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from autocomp.search_spaces import CACHE_BITS, SearchSpace, Workload
from autocomp.search_spaces.decoding import Decoding, decoding

from .cost import Cost
from .device_model import Device
from .tables import CostTables

SCALE_BYTES = 4  # of each token and head, where keys and values are integers


# elementwise operations that make a float of an integer: a cast and a product; more of 4 bits, which are parted first
OPERATIONS = {8: 2.0, 4: 5.0}


class GenerationCosts:
    """As :class:`CostTables`, and the time of a token and the bytes of the cache at one context.

    ``latency_ms`` is that of the prompt as traced, ``tpot_ms`` that of one further token, which reads the keys and
    values of ``context`` tokens, its own among them. ``memory_mb`` is the larger of both runs', with the cache.

    context: tokens. cache_bits: of keys and values in the cache, each token and head with a scale; None: the device's
    floats, or what the space's knobs ``cache/<attention>`` choose. What a plan holds in integers is made floats before
    each product, in an operator of its own that reads and writes it; ``cache_bits`` leaves the time as in floats.

    ValueError: the network reads no tokens, or nothing in it attends to earlier ones.
    """

    def __init__(
        self, device: Device, space: SearchSpace, batch: int = 1, context: int = 1, cache_bits: int | None = None
    ) -> None:
        self.device, self.batch, self.cache_bits = device, batch, cache_bits
        self.form: Decoding = decoding(space.graph, context)
        self.prompt = CostTables(device, space, batch)
        self.token = CostTables(device, replace(space, graph=self.form.graph), batch)
        self.chosen = _chosen(space)

    def __call__(self, vectors: np.ndarray) -> Cost:
        prompt, token = self.prompt(vectors), self.token(vectors)
        bytes_held, seconds = self._held(vectors)
        cache = bytes_held / 1e6
        memory = np.maximum(prompt.memory_mb, token.memory_mb) + cache
        return replace(prompt, memory_mb=memory, tpot_ms=token.latency_ms + seconds * 1e3, cache_mb=cache)

    def _held(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n,) bytes of the whole batch's keys and values, all blocks together, and (n,) seconds that make floats of
        those in integers, for one token; heads that a plan cuts and blocks that it skips have none."""
        workload: Workload = self.token.space.workload(vectors, self.batch)
        total, seconds = np.zeros((2, len(workload)))
        for cached in self.form.cached:
            node = self.form.graph.nodes[cached.node]
            share = workload.channels_of(cached.node) / len(node.units) if len(node.units) else 1.0
            numbers = node.elements * self.batch * share * self._stays(workload, cached.node)
            if cached.product not in self.chosen:
                total += numbers * self._bytes(self.cache_bits, cached.depth)
                continue
            position, values = self.chosen[cached.product]
            choice = vectors[:, position]
            total += numbers * np.array([self._bytes(bits, cached.depth) for bits in values])[choice]
            seconds += np.array([self._seconds(bits, node.elements, cached.depth) for bits in values])[choice] * (
                numbers / (node.elements * self.batch)
            )
        return total, seconds

    def _bytes(self, bits: int | None, depth: int) -> float:
        """Of a number, with its part of the scale."""
        return self.device.float_bits / 8 if bits is None else bits / 8 + SCALE_BYTES / depth

    def _seconds(self, bits: int | None, elements: int, depth: int) -> float:
        """In which the batch's integers become floats, once."""
        if bits is None:
            return 0.0
        count, rates = float(elements * self.batch), self.device.rates
        traffic = np.array([count * (self._bytes(bits, depth) + self.device.float_bits / 8)])
        spilled = float(rates.spilled(traffic, np.zeros(1))[0])
        moved = (traffic[0] - spilled) / rates.cache_bytes_per_s + spilled / rates.dram_bytes_per_s
        computed = count * OPERATIONS[bits] / rates.vector_per_s
        together = max(moved, computed) if rates.overlapped else moved + computed
        return float(together + rates.operator_s["float"])

    def _stays(self, workload: Workload, index: int) -> np.ndarray:
        stays = np.ones(len(workload))
        for position, block in workload.space.blocks.items():
            if index in block.nodes:
                stays *= workload.vectors[:, position] == 0
        return stays


def _chosen(space: SearchSpace) -> dict[str, tuple[int, tuple[int | None, ...]]]:
    """Product that reads the cache -> position of the knob that chooses its bits, and these by value."""
    return {
        product: (position, tuple(CACHE_BITS[str(value)] for value in knob.values))
        for position, knob in enumerate(space.knobs)
        if knob.kind == "cache"
        for product in knob.layers
    }


def costs_of(
    device: Device, space: SearchSpace, batch: int = 1, context: int | None = None, cache_bits: int | None = None
) -> CostTables | GenerationCosts:
    """Gives the costs of vectors, (n, knobs) int; with a context also those of generating."""
    if context is None:
        return CostTables(device, space, batch)
    return GenerationCosts(device, space, batch, context, cache_bits)
