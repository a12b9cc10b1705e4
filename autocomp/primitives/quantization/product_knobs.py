"""Knobs for products of two activations, as attention has two of them: queries by keys, and weights by values; and for
the cache from which a language model reads keys and values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from autocomp.errors import NoEffectError
from autocomp.primitives.numerics.reconstruction import Moments
from autocomp.search_spaces import CACHE_BITS, Format, Knob, NetworkGraph
from autocomp.search_spaces.decoding import attentions

PRODUCTS = "activation-products"
CACHE = "cache-quantization"
BOTH = Format(8, 8)  # of the two operands


class ProductKnobs:
    """A knob for each product of two activations: in floats, or of two operands with 8 bits each.

    Both operands are rounded with ranges that calibration finds, one scale for a tensor; a softmax's result has levels
    from 0 on. The product is then one of integers (I-BERT, Kim et al., ICML 2021, section 3; FQ-ViT, Lin et al., IJCAI
    2022). Files have it where the runtime rounds tensors between layers, onnxruntime and TensorRT; MindSpore's forms of
    a plan compute it in floats.
    """

    name = PRODUCTS

    def knobs(
        self,
        graph: NetworkGraph,
        parameters: Mapping[str, np.ndarray],
        formats: Sequence[Format],
        channel_divisor: int,
        moments: Mapping[str, Moments],
    ) -> tuple[Knob, ...]:
        if not graph.products:
            raise NoEffectError(f"{self.name} found no product of two activations, as in attention")
        if BOTH not in formats:
            raise NoEffectError(f"{self.name} needs a device that multiplies integers of 8 bits: {BOTH} is not offered")
        values = (str(Format()), str(BOTH))
        return tuple(Knob(f"format/{name}", self.name, (name,), values) for name in graph.products)


class CacheKnobs:
    """A knob for each attention of a language model: keys and values in floats, in 8 or in 4 bits.

    Each token and head has a scale, around zero, as KIVI (Liu et al., ICML 2024) rounds values token by token; here
    keys, too, as they enter the product. :class:`IntegerCache` computes the same; an odd depth takes no 4 bits.
    """

    name = CACHE

    def knobs(
        self,
        graph: NetworkGraph,
        parameters: Mapping[str, np.ndarray],
        formats: Sequence[Format],
        channel_divisor: int,
        moments: Mapping[str, Moments],
    ) -> tuple[Knob, ...]:
        found = attentions(graph)
        if not found:
            raise NoEffectError(
                f"{self.name} found no attention whose tokens attend to those before them: its first input must be "
                "tokens (n, length)"
            )
        values = tuple(CACHE_BITS)
        return tuple(
            Knob(f"cache/{one.name}", self.name, one.products, values[:2] if one.depth % 2 else values) for one in found
        )
