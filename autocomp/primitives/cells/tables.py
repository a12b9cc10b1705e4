"""Embeddings whose tables are stored in integers: only the rows that are read become floats."""

from __future__ import annotations

from typing import Any

import numpy as np

from autocomp.primitives.numerics.bit_packing import BYTE, in_halves
from autocomp.primitives.numerics.quantizers import QuantizedWeight

from .layers import ms, nn, ops, parameter

HALF = BYTE // 2


class QuantizedEmbedding(nn.Cell):
    """Rows of a stored table, each with a scale: of 8 bits a byte for each number, of fewer half a byte.

    Otherwise like the embedding that it replaces: positions of any shape, (..., width) floats.
    """

    def __init__(self, table: QuantizedWeight) -> None:
        super().__init__()
        self.vocab_size, self.embedding_size = table.integers.shape
        self.packed = table.bits <= HALF
        stored = in_halves(table.integers).view(np.int8) if self.packed else table.integers
        self.embedding_table = parameter(stored, "embedding_table")
        self.scale = parameter(table.scale.reshape(-1, 1).astype(np.float32), "scale")
        self.half = ms.Tensor(np.full((1, 1), HALF, np.int8))
        self.gather, self.concat = ops.Gather(), ops.Concat(-1)
        self.shift_left, self.shift_right = ops.LeftShift(), ops.RightShift()

    def construct(self, positions: Any) -> Any:
        flat = positions.reshape((-1,))
        rows = self.gather(self.embedding_table, flat, 0)
        if self.packed:
            low = self.shift_right(self.shift_left(rows, self.half), self.half)
            rows = self.concat((low, self.shift_right(rows, self.half)))
        found = rows.astype(ms.float32) * self.gather(self.scale, flat, 0)
        return found.reshape((*positions.shape, self.embedding_size))


def table_of(cell: Any) -> Any:
    """The parameter (rows, width) of one of MindSpore's embeddings."""
    return next(iter(cell.get_parameters(expand=False)))
