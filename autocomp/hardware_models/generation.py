"""Costs of a language model that generates: the prompt, each further token, and the cache of keys and values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from autocomp.search_spaces import SearchSpace, Workload
from autocomp.search_spaces.decoding import Decoding, decoding

from .cost import Cost
from .device_model import Device
from .tables import CostTables

SCALE_BYTES = 4  # of each token and head, where keys and values are integers


class GenerationCosts:
    """As :class:`CostTables`, and the time of a token and the bytes of the cache at one context.

    ``latency_ms`` is that of the prompt as traced, ``tpot_ms`` that of one further token, which reads the keys and
    values of ``context`` tokens, its own among them. ``memory_mb`` is the larger of both runs', with the cache.

    context: tokens. cache_bits: of keys and values in the cache, each token and head with a scale; None: the device's
    floats. They count for memory; a token's time is that of floats.

    ValueError: the network reads no tokens, or nothing in it attends to earlier ones.
    """

    def __init__(
        self, device: Device, space: SearchSpace, batch: int = 1, context: int = 1, cache_bits: int | None = None
    ) -> None:
        self.device, self.batch, self.cache_bits = device, batch, cache_bits
        self.form: Decoding = decoding(space.graph, context)
        self.prompt = CostTables(device, space, batch)
        self.token = CostTables(device, replace(space, graph=self.form.graph), batch)

    def __call__(self, vectors: np.ndarray) -> Cost:
        prompt, token = self.prompt(vectors), self.token(vectors)
        cache = self.cache_bytes(vectors) / 1e6
        memory = np.maximum(prompt.memory_mb, token.memory_mb) + cache
        return replace(prompt, memory_mb=memory, tpot_ms=token.latency_ms, cache_mb=cache)

    def cache_bytes(self, vectors: np.ndarray) -> np.ndarray:
        """(n,): of the whole batch, all blocks together; heads that a plan cuts and blocks that it skips have none."""
        workload: Workload = self.token.space.workload(vectors, self.batch)
        width = self.device.float_bits if self.cache_bits is None else self.cache_bits
        total = np.zeros(len(workload))
        for index, depth in self.form.cached:
            node = self.form.graph.nodes[index]
            share = workload.channels_of(index) / len(node.units) if len(node.units) else 1.0
            each = width / 8 + (0.0 if self.cache_bits is None else SCALE_BYTES / depth)
            total += node.elements * self.batch * each * share * self._stays(workload, index)
        return total

    def _stays(self, workload: Workload, index: int) -> np.ndarray:
        stays = np.ones(len(workload))
        for position, block in workload.space.blocks.items():
            if index in block.nodes:
                stays *= workload.vectors[:, position] == 0
        return stays


def costs_of(
    device: Device, space: SearchSpace, batch: int = 1, context: int | None = None, cache_bits: int | None = None
) -> CostTables | GenerationCosts:
    """Gives the costs of vectors, (n, knobs) int; with a context also those of generating."""
    if context is None:
        return CostTables(device, space, batch)
    return GenerationCosts(device, space, batch, context, cache_bits)
