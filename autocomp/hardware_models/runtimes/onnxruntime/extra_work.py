"""The work of onnxruntime in addition to an operator's arithmetic, and the constants for its time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from autocomp.hardware_models.gemm import Gemm
from autocomp.hardware_models.lowered import LoweredNetwork
from autocomp.hardware_models.operators import Operator
from autocomp.hardware_models.rates import FLOAT, UNPACKED, RuntimeRates, RuntimeWork

from .blocks import pooled_in_integers, reordered
from .integers import rounded
from .kernels import im2col_overhead


@dataclass(frozen=True)
class OnnxruntimeWork(RuntimeWork):
    """Extra work of an operator, each (n,).

    unpacked, unpacked4: weights converted from integers to floats at each inference; those of 4 bits.
    groups: narrow groups of unpacked layers, which run one after another, for all images.
    rounded: activations converted to integers, or back, by separate operators.
    gathered: inputs copied together for each position of a kernel before they are multiplied.
    rows: pieces of these copies: in floats rows of images, in integers rows of kernels, or, with groups, the channels
        of each group; strided: inputs that are copied one by one, where the stride is above 1.
    separate_requantize: outputs of integer convolutions that are rounded by a separate operator.
    activated: elements that activations after a layer read and write once more.
    reordered: activations whose layout is changed.
    pooled: elements of the windows of a max pool in integers without a fast kernel.
    """

    unpacked: np.ndarray
    unpacked4: np.ndarray
    groups: np.ndarray
    rounded: np.ndarray
    gathered: np.ndarray
    rows: np.ndarray
    strided: np.ndarray
    separate_requantize: np.ndarray
    activated: np.ndarray
    reordered: np.ndarray
    pooled: np.ndarray


@dataclass(frozen=True)
class OnnxruntimeRates(RuntimeRates):
    """Constants of that work: elements in a second, and seconds for one group and for one row."""

    unpack_per_s: float = math.inf
    round_per_s: float = math.inf
    gather_per_s: float = math.inf
    activate_per_s: float = math.inf
    unpack4_per_s: float = math.inf
    reorder_per_s: float = math.inf
    pool_per_s: float = math.inf
    stride_per_s: float = math.inf
    separate_requantize_per_s: float = math.inf
    group_s: float = 0.0
    row_s: float = 0.0

    def serial(self, vector: np.ndarray, grouped: np.ndarray, work: RuntimeWork) -> np.ndarray:
        if not isinstance(work, OnnxruntimeWork):
            raise TypeError(f"rates of onnxruntime must price onnxruntime's work, but got {type(work).__name__}")
        serial = vector + (grouped + work.groups * self.group_s) + work.unpacked / self.unpack_per_s
        serial = serial + work.rounded / self.round_per_s + work.gathered / self.gather_per_s
        serial = serial + work.unpacked4 / self.unpack4_per_s + work.activated / self.activate_per_s
        serial = serial + work.reordered / self.reorder_per_s + work.pooled / self.pool_per_s
        serial = serial + work.rows * self.row_s + work.strided / self.stride_per_s
        return serial + work.separate_requantize / self.separate_requantize_per_s


def extra_work(
    lowered: LoweredNetwork,
    position: int,
    layer: Gemm | None,
    grouped: np.ndarray,
    parameters: np.ndarray,
    windows: np.ndarray,
) -> OnnxruntimeWork:
    """The arguments are those of ``Runtime.work``."""
    operator = lowered.program.operators[position]
    node, precision = lowered.graph.nodes[operator.head], lowered.precision(operator.head)
    bits, _ = lowered.workload.bits_of(operator.head)
    return OnnxruntimeWork(
        unpacked=parameters * (precision == UNPACKED) * (bits > 4),
        unpacked4=parameters * (precision == UNPACKED) * (bits <= 4),
        rounded=rounded(lowered, operator),
        activated=_activated(lowered, operator, precision),
        reordered=reordered(lowered, position),
        pooled=windows * pooled_in_integers(lowered, operator),
        **im2col_overhead(node, layer, precision, grouped),
    )


def _activated(lowered: LoweredNetwork, operator: Operator, precision: np.ndarray) -> np.ndarray:
    """(n,) elements that fused activations read and write again after a layer in floats; rounding to integers clips in
    the same pass."""
    free, nodes = lowered.device.free_activations, (lowered.graph.nodes[i] for i in operator.nodes[1:])
    passes = 0 if free is None else sum(node.kind == "activation" and node.op not in free for node in nodes)
    return lowered.elements(operator.output) * passes * (precision == FLOAT)
