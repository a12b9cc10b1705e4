"""Ascend: networks compiled by atc, or run by MindSpore's graph mode.

A max pool runs in the convolution whose only reader it is. Tensors have layout blocks (NC1HWC0), whose sizes are in the
device file under [layout]. Under atc weights that are only stored in integers become floats when the network is
compiled. MindSpore has a kernel that reads them for the numbers of bits under ``weight_only`` in the device file:
aclnnWeightQuantBatchMatmulV2 (github.com/hicann/ops-nn, matmul/weight_quant_batch_matmul_v2/docs) takes 8 bits on Atlas
inference products and Atlas A2 and A3, and 4 on the latter two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from autocomp.hardware_models.lowered import LoweredNetwork
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
    """MindIR files have QuantV2 and QuantBatchMatmul for dense layers, and WeightQuantBatchMatmul for those of which
    only weights are in integers; MindSpore has no convolution in integers."""

    def multiplies_integers(self, node: Node) -> bool:
        return node.kind == "dense"

    def reads_stored(self, lowered: LoweredNetwork, layer: int) -> np.ndarray:
        bits, activation_bits = lowered.workload.bits_of(layer)
        dense = lowered.graph.nodes[layer].kind == "dense"
        return np.isin(bits, lowered.device.weight_only) & (activation_bits > 8) & dense


ASCEND = Atc("ascend", title="atc", fuses_pools=True, container="atc")
MINDSPORE = MindSpore("mindspore", fuses_pools=True, reads=("mindir",), container="mindir", integers="dense layers")
