"""Ascend: networks compiled by atc, or run by MindSpore's graph mode.

A max pool runs in the convolution whose only reader it is. Tensors have layout blocks (NC1HWC0), whose sizes are in the
device file under [layout]. Weights that are only stored in integers become floats when the network is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass

from autocomp.search_spaces import Node

from .base import Runtime


@dataclass(frozen=True)
class Atc(Runtime):
    """Files that atc compiles have AscendQuant and AscendDequant around convolutions and dense layers."""

    def multiplies_integers(self, node: Node) -> bool:
        """The toolkit's deployable models have no transposed convolution with a dilation in integers."""
        return not (node.transposed and node.convolution.dilation != (1, 1))


@dataclass(frozen=True)
class MindSpore(Runtime):
    """MindIR files have QuantV2 and QuantBatchMatmul for dense layers; MindSpore has no convolution in integers."""

    def multiplies_integers(self, node: Node) -> bool:
        return node.kind == "dense"


ASCEND = Atc("ascend", title="atc", fuses_pools=True, container="atc")
MINDSPORE = MindSpore("mindspore", fuses_pools=True, reads=("mindir",), container="mindir", integers="dense layers")
