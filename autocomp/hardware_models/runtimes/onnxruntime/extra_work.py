"""The work of onnxruntime in addition to an operator's arithmetic, and the constants for its time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from autocomp.hardware_models.gemm import Gemm
from autocomp.hardware_models.lowered import LoweredNetwork
from autocomp.hardware_models.operators import Operator
from autocomp.hardware_models.rates import FLOAT, RuntimeRates, RuntimeWork

from .blocks import reordered
from .groups import moved
from .integers import passes, rounded
from .kernels import im2col_elements

BEFORE_ROWS, AFTER_ROWS = 5, 2  # operators on a layer's input, and on its output, where each row has a range of its own
WHOLE_ROWS = 3  # of those on the input that read all of it


@dataclass(frozen=True)
class OnnxruntimeWork(RuntimeWork):
    """Extra work of an operator, elements (n,) each.

    rounded: activations converted to integers, or back, by separate operators.
    gathered: inputs copied together for each position of a kernel before they are multiplied.
    activated: what activations after a layer in floats read and write once more.
    passed: the same of separate kernels in integers, as additions, and of those that move channels.
    reordered: activations whose layout is changed.
    """

    rounded: np.ndarray
    gathered: np.ndarray
    activated: np.ndarray
    passed: np.ndarray
    reordered: np.ndarray


@dataclass(frozen=True)
class OnnxruntimeRates(RuntimeRates):
    """Constants of that work: elements in a second."""

    round_per_s: float = math.inf
    gather_per_s: float = math.inf
    activate_per_s: float = math.inf
    pass_per_s: float = math.inf
    reorder_per_s: float = math.inf

    def serial(self, vector: np.ndarray, grouped: np.ndarray, work: RuntimeWork) -> np.ndarray:
        if not isinstance(work, OnnxruntimeWork):
            raise TypeError(f"rates of onnxruntime must price onnxruntime's work, but got {type(work).__name__}")
        serial = vector + grouped + work.rounded / self.round_per_s + work.gathered / self.gather_per_s
        serial = serial + work.activated / self.activate_per_s + work.passed / self.pass_per_s
        return serial + work.reordered / self.reorder_per_s


def extra_work(lowered: LoweredNetwork, position: int, layer: Gemm | None, grouped: np.ndarray) -> OnnxruntimeWork:
    """layer: what is multiplied. grouped: (n,) multiply-accumulates outside the matrix unit."""
    operator = lowered.program.operators[position]
    node, precision = lowered.graph.nodes[operator.head], lowered.precision(operator.head)
    return OnnxruntimeWork(
        rounded=rounded(lowered, operator) + _divided(lowered, operator, precision),
        gathered=im2col_elements(node, layer, precision, grouped),
        activated=_activated(lowered, operator, precision) + _of_rows(lowered, operator),
        passed=lowered.elements(operator.output) * passes(lowered, operator) + moved(lowered, operator),
        reordered=reordered(lowered, position),
    )


def _divided(lowered: LoweredNetwork, operator: Operator, precision: np.ndarray) -> np.ndarray:
    """(n,) elements of an input that is divided by scales, and rounded by an operator of its own."""
    if not operator.reads:
        return np.zeros(len(lowered.workload))
    return lowered.elements(operator.reads[0]) * lowered.divisions(operator.head) * (precision != FLOAT)


def _of_rows(lowered: LoweredNetwork, operator: Operator) -> np.ndarray:
    """(n,) elements that the operators of rows with ranges of their own read and write."""
    by_row = lowered.workload.by_row_of(operator.head)
    if not operator.reads or not by_row.any():
        return np.zeros(len(lowered.workload))
    before = WHOLE_ROWS * lowered.divisions(operator.head) * lowered.elements(operator.reads[0])
    return by_row * (before + AFTER_ROWS * lowered.elements(operator.output))


def _activated(lowered: LoweredNetwork, operator: Operator, precision: np.ndarray) -> np.ndarray:
    """(n,) elements that fused activations read and write again after a layer in floats."""
    free, nodes = lowered.device.free_activations, (lowered.graph.nodes[i] for i in operator.nodes[1:])
    passes = 0 if free is None else sum(node.kind == "activation" and node.op not in free for node in nodes)
    return lowered.elements(operator.output) * passes * (precision == FLOAT)
