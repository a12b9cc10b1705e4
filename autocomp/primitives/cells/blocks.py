"""Cells for blocks that plans skip."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from autocomp.primitives.tracing.surgery import cell_at, replace_cells
from autocomp.search_spaces import ResidualBlock

from .layers import ms, nn, parameter


class SkippedBlock(nn.Cell):
    """The first argument as it is."""

    def construct(self, x: Any, *_others: Any) -> Any:
        return x


class ElasticBlock(nn.Cell):
    """A block, or its first argument as it is where ``gate`` is 0."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.block = block
        self.gate = parameter(np.float32(1), "gate")

    def construct(self, x: Any, *others: Any) -> Any:
        return self.block(x, *others) * self.gate + x * (1 - self.gate)

    def set(self, skipped: bool) -> None:
        self.gate.set_data(ms.Tensor(np.float32(not skipped)))


def skip_blocks(net: Any, paths: Collection[str]) -> None:
    """The identity in the place of these cells of a copied network."""
    replace_cells(net, {path: SkippedBlock() for path in paths})


def elastic_blocks(net: Any, blocks: Collection[ResidualBlock]) -> dict[str, ElasticBlock]:
    """Puts a gate around each of these blocks of a copied network; path -> its cell."""
    found = {block.name: ElasticBlock(cell_at(net, block.name)) for block in blocks}
    replace_cells(net, found)
    return found
