"""Sparse weights: single elements, or two of every four, stay zero while the network trains."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from mindspore import nn
from mindspore.train import Callback

from autocomp.errors import NoEffectError
from autocomp.primitives.arguments import RULES
from autocomp.primitives.cells.compression_state import CompressionState, attach, state_of
from autocomp.primitives.cells.fake_quant import assign
from autocomp.primitives.cells.masks import ElementMask
from autocomp.primitives.cells.trained_layers import lies_in_rows, trained_layer
from autocomp.primitives.cells.training_callbacks import CalibrateBatchNorm
from autocomp.primitives.numerics.first_last_layers import first_and_last
from autocomp.primitives.numerics.plan_compressor import parameters_of
from autocomp.primitives.tracing.mindir import copy_network
from autocomp.primitives.tracing.surgery import cell_at, rename_parameters, replace_cells
from autocomp.primitives.tracing.tracer import as_float32, trace
from autocomp.primitives.verification.standalone import inputs_for
from autocomp.rules import checked
from autocomp.search_spaces import NetworkGraph

from .trained_pruning import with_values

PATTERN = "2:4"


@dataclass(frozen=True)
class Zeros:
    """Numbers of a sparse network: elements of the masked weights, how many of them are zero, and the bytes of storage.

    The other elements take 4 bytes each, and an index of one bit for every element (2:4: two bits for every element
    that stays).
    """

    elements: int
    zeros: int
    stored_bytes: int


class Sparsity:
    """Magnitude pruning of single weights (Han et al., NeurIPS 2015; gradually: Zhu and Gupta 2017, arXiv:1710.01878).

    >>> algorithm = Sparsity("2:4")
    >>> net_s = algorithm.apply(net)                      # a new Cell; net is not changed
    >>> ms.Model(net_s, loss, optimizer).train(2, train_set, callbacks=algorithm.callbacks())
    >>> sparse = algorithm.convert(net_s)                 # the network's own class, zeros in its weights

    The layers keep their shapes: devices that execute 2:4 (NVIDIA from Ampere on) run such weights faster. On other
    devices the zeros only save storage, and cost models count nothing else.

    Args:
        pattern: "2:4", two zeros in every four weights that are neighbours along the input channels (Mishra et al.
            2021, arXiv:2104.08378), or "unstructured".
        share: of the weights that are zero, in (0, 1), for "unstructured"; over the whole network.
        ramp: the share of the training in which the number of zeros grows, by the cubic schedule of Zhu and Gupta (eq.
            1), in [0, 1). With 0 all zeros are set before the first step; so they always are for 2:4.
        first_last_layers: whether the first and the last layer are masked, too.

    Not masked: biases, transposed convolutions, layers without groups of four input channels (2:4).
    """

    name = "sparsity"

    @checked(RULES["Sparsity"])
    def __init__(
        self, pattern: str = PATTERN, share: float | None = None, ramp: float = 0.0, first_last_layers: bool = False
    ) -> None:
        if pattern not in (PATTERN, "unstructured"):
            raise ValueError(f"pattern must be '2:4' or 'unstructured', but got pattern={pattern!r}")
        if (share is None) != (pattern == PATTERN):
            raise ValueError(f"share belongs to 'unstructured' and is needed there, but got {pattern!r}, share={share}")
        if share is not None and not 0 < share < 1:
            raise ValueError(f"share must be in (0, 1), but got share={share}")
        if not 0 <= ramp < 1:
            raise ValueError(f"ramp must be in [0, 1), but got ramp={ramp}")
        self.pattern, self.share, self.ramp, self.first_last_layers = pattern, share, ramp, first_last_layers
        self._last: Any = None

    @checked(RULES["apply"])
    def apply(self, net: Any, inputs: Any = None) -> Any:
        """A new Cell of the same class, with the same parameter names and a mask for each masked weight.

        Args:
            net: a MindSpore Cell; it is copied, never changed.
            inputs: as ``autocomp.search`` takes them; None tries the usual image sizes.

        Raises:
            TypeError: net is no Cell. NoEffectError: it has no layer to mask.
        """
        net = as_float32(net)
        graph = trace(net, inputs_for(net, inputs))
        original, twin = copy_network(net), copy_network(net)
        names = {id(p): p.name for p in twin.get_parameters()}
        cells = {path: cell_at(twin, path) for path in self._masked(graph)}
        layers = {
            path: trained_layer(cell, ElementMask(cell.weight.shape), nn.Identity(), None, None)
            for path, cell in cells.items()
            if lies_in_rows(cell)
        }
        if not layers:
            raise NoEffectError(f"{self.name} found no nn.Conv2d and no nn.Dense to mask by {self.pattern}")
        replace_cells(twin, layers)
        rename_parameters(twin, names)
        attach(twin, CompressionState(original, graph, layers))
        self._last = twin
        if not self.ramp or self.pattern == PATTERN:
            self.mask(twin)
        return twin.set_train(net.training)

    def _masked(self, graph: NetworkGraph) -> list[str]:
        left = frozenset() if self.first_last_layers else first_and_last(graph)
        shapes = {path: graph.nodes[i].weight_shape for path, i in graph.layers.items() if path not in left}
        fits = self.pattern != PATTERN
        return [path for path, shape in shapes.items() if shape is not None and (fits or shape[1] % 4 == 0)]

    @checked(RULES["mask"])
    def mask(self, net_s: Any, share: float | None = None) -> None:
        """Choose the zeros again: of every four weights the two smallest, or this share of all masked weights."""
        layers = state_of(net_s).layers.values()
        weights = [np.abs(layer.weight.asnumpy()) for layer in layers]
        if self.pattern == PATTERN:
            masks = [two_of_four(weight) for weight in weights]
        else:
            share = self.share if share is None else share
            assert share is not None
            masks = largest(weights, 1 - share)
        for layer, kept in zip(layers, masks, strict=True):
            assign(layer.weight_quantizer.mask, kept)

    def callbacks(self) -> list[Any]:
        """For ``mindspore.Model.train``, for the network of the last ``apply``."""
        if self._last is None:
            raise ValueError(f"{self.name}.callbacks() belongs to a network: call apply(net) first")
        growing = [Growing(self, self._last)] if self.ramp and self.pattern != PATTERN else []
        return [*growing, CalibrateBatchNorm(self._last)]

    def zeros(self, net_s: Any) -> Zeros:
        """The numbers of the present masks."""
        layers = state_of(net_s).layers.values()
        elements = sum(layer.weight.size for layer in layers)
        kept = sum(int(layer.weight_quantizer.mask.asnumpy().sum()) for layer in layers)
        index_bits = 2 * kept if self.pattern == PATTERN else elements
        return Zeros(elements, elements - kept, 4 * kept + math.ceil(index_bits / 8))

    def convert(self, net_s: Any) -> Any:
        """A new Cell of the network's own class with zeros in its weights. ValueError for a network not from
        ``apply``."""
        applied, trained = state_of(net_s), parameters_of(net_s)
        for layer in applied.layers.values():
            trained[layer.weight.name] *= layer.weight_quantizer.mask.asnumpy()
        return with_values(applied.original, trained).set_train(False)


class Growing(Callback):
    """Chooses more zeros about ten times in an epoch until the ramp ends; never fewer than before."""

    def __init__(self, algorithm: Sparsity, net_s: Any) -> None:
        super().__init__()
        self.algorithm, self.net_s, self.finished = algorithm, net_s, False

    def on_train_step_begin(self, run_context: Any) -> None:
        arguments = run_context.original_args()
        steps = max(self.algorithm.ramp * arguments.epoch_num * arguments.batch_num, 1)
        done = arguments.cur_step_num - 1
        if self.finished or (done < steps and done % max(1, arguments.batch_num // 10)):
            return
        self.finished = done >= steps
        share, zeros = self.algorithm.share, self.algorithm.zeros(self.net_s)
        assert share is not None
        grown = share * (1 - (1 - min(done / steps, 1.0)) ** 3)
        self.algorithm.mask(self.net_s, max(grown, zeros.zeros / zeros.elements))

    def on_train_end(self, run_context: Any) -> None:
        if not self.finished:
            self.algorithm.mask(self.net_s)


def two_of_four(magnitudes: np.ndarray) -> np.ndarray:
    """(out, in, ...) float32 of 0 and 1: the two largest of every four along the second axis, of equal ones the
    first."""
    rows = np.moveaxis(magnitudes, 1, -1)
    fours = rows.reshape(-1, 4)
    order = np.argsort(-fours, axis=1, kind="stable")
    kept = np.zeros(fours.shape, np.float32)
    np.put_along_axis(kept, order[:, :2], 1, axis=1)
    return np.ascontiguousarray(np.moveaxis(kept.reshape(rows.shape), -1, 1))


def largest(magnitudes: list[np.ndarray], share: float) -> list[np.ndarray]:
    """float32 of 0 and 1: 1 for the largest elements, this share of all."""
    everything = np.concatenate([array.reshape(-1) for array in magnitudes])
    kept = np.zeros(len(everything), np.float32)
    kept[np.argsort(-everything, kind="stable")[: round(share * len(everything))]] = 1
    parts = np.split(kept, np.cumsum([array.size for array in magnitudes])[:-1])
    return [part.reshape(array.shape) for part, array in zip(parts, magnitudes, strict=True)]
