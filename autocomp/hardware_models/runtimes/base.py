"""The strategy of a runtime. A subclass overrides the methods in which its runtime differs."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from autocomp.hardware_models.gemm import Gemm
from autocomp.hardware_models.lookup import Lookup
from autocomp.hardware_models.lowered import LoweredNetwork
from autocomp.hardware_models.operators import Operator
from autocomp.hardware_models.rates import FLOAT, INT8, RuntimeRates, RuntimeWork
from autocomp.search_spaces import WEIGHTED, Format, Node, Workload

MOST_GROUPED = 4  # channels of a group that a GPU convolves outside its matrix unit


@dataclass(frozen=True)
class Buffers:
    """The memory that a runtime holds in addition to a network's tensors and stored weights: nothing here."""

    def tabulated(self, tabulate: Callable[[Lookup], Lookup]) -> Buffers:
        """With every function as a table, where ``tabulate`` makes one."""
        return self

    def bytes_of(self, workload: Workload, operators: int) -> np.ndarray:
        """(operators, n) or (operators, 1): bytes that are held while each operator runs."""
        return np.zeros((operators, 1))

    def at(self, position: int) -> Lookup | None:
        """Bytes that are held while the operator at a position runs; None: none."""
        return None


@dataclass(frozen=True)
class Runtime:
    """A compiler's runtime: every layer runs in the precision of its format, where the chip has that precision.

    name: its name in device files. title: its name behind a device's, as in ``ascend-310p3:mindspore``; by default the
        same.
    reads: the forms of the files that it takes. container: of these the one that a size is predicted for, an entry of
        ``CONTAINERS``. integers: in words, the layers that it runs in integers.
    floats_alone: whether it takes no file with integers.
    fuses_pools, symmetric_inputs: defaults for device files without these entries, see ``Device``.
    most_grouped: largest number of channels in a group of a layer that is convolved outside the matrix unit.
    quantizes_tensors: whether it runs in integers from layer to layer: additions, concatenations and pools between
        them, too. For the others a file rounds the inputs of layers alone.
    ranges_of_rows: whether it rounds each row of a dense layer's input with a range that it finds while the network
        runs, and multiplies these integers.
    recognises: whether it runs a function as one operator however a network writes it.
    product_share: the time of a product of two activations in integers, relative to that in floats; None: such a
        product gains what a layer does.
    rates: the constants for the runtime's own work; in device files they are under [rates].
    """

    name: str
    title: str = ""
    reads: tuple[str, ...] = ("onnx",)
    container: str = "onnx"
    integers: str = "all layers"
    floats_alone: bool = False
    fuses_pools: bool = False
    symmetric_inputs: bool = False
    most_grouped: int = MOST_GROUPED
    quantizes_tensors: bool = False
    ranges_of_rows: bool = False
    recognises: bool = True
    product_share: float | None = None
    rates: type[RuntimeRates] = RuntimeRates

    def executes(self, some: Format, precisions: Collection[str]) -> bool:
        """Whether the format is computed in integers, instead of only stored, on a chip with these precisions."""
        bits = max(some.weight_bits, some.activation_bits)
        able = (bits <= 8 and "int8" in precisions) or (bits <= 4 and "int4" in precisions)
        return able and not self.floats_alone

    def multiplies_activations(self, precisions: Collection[str]) -> bool:
        """Whether it multiplies two activations in integers: its files round tensors that no layer reads, too."""
        return self.quantizes_tensors and self.executes(Format(8, 8), precisions)

    def multiplies_integers(self, node: Node) -> bool:
        """Whether a layer runs in integers in a format that is executed; else the format is not offered for it."""
        return not self.floats_alone

    def precision(self, lowered: LoweredNetwork, layer: int) -> np.ndarray:
        """(n,) index into PRECISIONS: the arithmetic in which a layer, or a product of two activations, runs.

        At most 8 bits: no file has products of 4-bit integers, whatever the chip could do.
        """
        able = self.multiplies_integers(lowered.graph.nodes[layer])
        able = able and (self.quantizes_tensors or not lowered.is_product(layer))
        return np.minimum(lowered.asked(layer), INT8 if able else FLOAT)

    def reads_stored(self, lowered: LoweredNetwork, layer: int) -> np.ndarray:
        """(n,) bool: whether a layer in floats reads integers of its weight at each inference: nowhere, unless a
        runtime has a kernel for it; they become floats when the network is loaded."""
        return np.zeros(len(lowered.workload), bool)

    def weight_bytes(self, lowered: LoweredNetwork, layer: int) -> np.ndarray:
        """(n,) bytes of an element of a layer's weight in memory."""
        bits, _ = lowered.workload.bits_of(layer)
        widths = lowered.device.bytes_per_element[self.precision(lowered, layer)]
        return np.where(self.reads_stored(lowered, layer), bits / 8, widths)

    def weight_traffic(self, lowered: LoweredNetwork, layer: int) -> np.ndarray:
        """(n,) bytes whose reading takes as long as that of an element of a layer's weight."""
        return self.weight_bytes(lowered, layer)

    def measured_precision(self, lowered: LoweredNetwork, operator: Operator) -> np.ndarray:
        """(n,) index into PRECISIONS: measured operators are only compared with others of the same precision."""
        return lowered.precision(operator.head)

    def width(self, lowered: LoweredNetwork, node: int) -> np.ndarray:
        """(n,) bytes of an element of a node's output in memory: the largest width that any reader needs."""
        widths = lowered.device.bytes_per_element
        widest = np.zeros(len(lowered.workload))
        for position in lowered.program.readers[node]:
            operator = lowered.program.operators[position]
            operands = 2 if lowered.is_product(operator.head) else 1
            multiplies = operands == 2 or lowered.graph.nodes[operator.head].kind in WEIGHTED
            if multiplies and node in operator.reads[:operands] and node not in operator.reads[operands:]:
                found = widths[self.precision(lowered, operator.head)]
                divided = lowered.workload.divided_of(operator.head)
                widest = np.maximum(widest, np.where(divided, widths[FLOAT], found))
            else:
                widest = np.full(len(lowered.workload), widths[FLOAT])
        return widest

    def deciding_width(self, lowered: LoweredNetwork, node: int) -> set[int]:
        """Other layers than its readers whose formats decide the width of a node's output."""
        return set()

    def deciding_precision(self, lowered: LoweredNetwork, operator: Operator) -> set[int]:
        """Other layers than the neighbours whose formats decide the precision of an operator and of its inputs."""
        if not self.quantizes_tensors:
            return set()
        return set().union(*(lowered.deciding(node) for node in (*operator.reads, *operator.nodes)))

    def layout_knobs(self, lowered: LoweredNetwork, operator: Operator) -> tuple[int, ...]:
        """Positions of the knobs that decide the layouts in which an operator reads and writes tensors."""
        return ()

    def arranged(self, lowered: LoweredNetwork, index: int, layer: Gemm) -> Gemm:
        """The layer as its file has it, where that multiplies groups together."""
        return layer

    def grouped_macs(self, lowered: LoweredNetwork, layer: Gemm, precision: np.ndarray) -> np.ndarray | float:
        """(n,): how many times its multiply-accumulates a layer outside the matrix unit computes."""
        return 1.0

    def operators_beside(self, lowered: LoweredNetwork, layer: int, divisions: np.ndarray) -> np.ndarray:
        """(n,): operators that find ranges of a layer's rows and round them, and what follows its product; what brings
        the groups of a convolution together. divisions: (n,), a part of one where several layers share them."""
        return np.zeros(len(lowered.workload))

    def pool_operations(self, lowered: LoweredNetwork, operator: Operator, windows: np.ndarray) -> np.ndarray:
        """(n,) elementwise operations of a pool. windows: (n,) elements of all its windows."""
        return windows

    def work(
        self,
        lowered: LoweredNetwork,
        position: int,
        layer: Gemm | None,
        grouped: np.ndarray,
        parameters: np.ndarray,
        windows: np.ndarray,
    ) -> RuntimeWork:
        """The runtime's own work at an operator.

        layer: what is multiplied. grouped: (n,) multiply-accumulates outside the matrix unit. parameters: (n,) elements
        of parameters that are read. windows: (n,) elements of a pool's windows.
        """
        return RuntimeWork()

    def buffers(self, lowered: LoweredNetwork) -> Buffers:
        """The memory that is held in addition to tensors and weights. lowered: any plans of the network."""
        return Buffers()
