"""The common part of the algorithms that replace layers by other cells."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from autocomp.errors import NoEffectError
from autocomp.primitives.arguments import RULES
from autocomp.primitives.cells.compression_state import STATE, CompressionState, attach, state_of
from autocomp.primitives.cells.training_callbacks import CalibrateBatchNorm
from autocomp.primitives.tracing.mindir import copy_network
from autocomp.primitives.tracing.surgery import cell_at, rename_parameters, replace_cells
from autocomp.primitives.tracing.tracer import as_float32, trace
from autocomp.primitives.verification.refit import to_fit_on
from autocomp.primitives.verification.refit_replaced import Part, refit
from autocomp.primitives.verification.standalone import inputs_for
from autocomp.rules import checked
from autocomp.search_spaces import NetworkGraph


@dataclass(frozen=True)
class Replacement:
    """A layer's new cell. macs: multiply-accumulates at batch 1 of all calls; parameters: elements.

    lost: the share of the layer's output energy that the fitted new cell lacks. parts: layers of the new cell that
        compute the old cell's outputs.
    """

    cell: Any
    macs: int
    parameters: int
    lost: float
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True)
class Size:
    """macs: multiply-accumulates at batch 1; parameters: elements, including BatchNorm's statistics."""

    macs: int
    parameters: int


@dataclass
class Replaced(CompressionState):
    replacements: Mapping[str, Replacement] | None = None


class Replacing:
    """Layers are replaced by cheaper cells that are fitted to them; the network is then fine-tuned.

    >>> algorithm = LowRank(macs=0.6)
    >>> net_f = algorithm.apply(net, calibrate=images)    # a new Cell; net is not changed
    >>> ms.Model(net_f, loss, optimizer).train(2, train_set, callbacks=algorithm.callbacks())
    >>> smaller = algorithm.convert(net_f)

    Args:
        layers: paths of the layers that may be replaced, or of cells that hold them; None: all.
        reconstruct: whether, with ``calibrate``, the new cells and the layers after them are fitted, one after the
            other, to the layers' outputs in the original network
            (:mod:`autocomp.primitives.verification.refit_replaced`).

    Subclasses define which layers are replaced, and by which cells.
    """

    name = "replacing"

    def __init__(self, layers: Collection[str] | None = None, reconstruct: bool = True) -> None:
        self.layers, self.reconstruct = layers, reconstruct
        self._last: Any = None  # the network of the last apply, for callbacks

    def allowed(self, graph: NetworkGraph) -> list[str]:
        """Layers that may be replaced; ValueError for a path with none."""
        if self.layers is None:
            return list(graph.layers)
        held = {path: [layer for layer in graph.layers if f"{layer}.".startswith(f"{path}.")] for path in self.layers}
        if empty := [path for path, found in held.items() if not found]:
            raise ValueError(f"layers must be of {', '.join(graph.layers)}, or hold some, but got {', '.join(empty)}")
        return [layer for layer in graph.layers if any(layer in found for found in held.values())]

    def replacements(
        self, net: Any, graph: NetworkGraph, calibrate: tuple[np.ndarray, ...] | None
    ) -> dict[str, Replacement]:
        """The replacements by layer; calibrate: inputs of the network, (n, ...) each, or None."""
        raise NotImplementedError

    @checked(RULES["apply"])
    def apply(self, net: Any, inputs: Any = None, calibrate: np.ndarray | tuple[np.ndarray, ...] | None = None) -> Any:
        """A new Cell of the same class, with the same parameter names except those of the replaced layers.

        Args:
            net: a MindSpore Cell; it is copied, never changed.
            inputs: as ``autocomp.search`` takes them; None uses ``calibrate``, or else tries the usual image sizes.
            calibrate: arrays (n, ...) of the network's inputs, some hundred images; the new cells are fitted to the
                layers' outputs for them. None: to the weights alone.

        Raises:
            TypeError: net is no Cell. NoEffectError: no layer becomes cheaper by a replacement.
        """
        net = as_float32(net)
        arrays = calibrate if isinstance(calibrate, tuple) or calibrate is None else (calibrate,)
        graph = trace(net, inputs_for(net, inputs if inputs is not None or arrays is None else arrays))
        found = self.replacements(net, graph, arrays)
        if not found:
            raise NoEffectError(f"{self.name} found no layer that is cheaper for being replaced")
        twin = copy_network(net)
        names = {id(p): p.name for p in twin.get_parameters()}
        replace_cells(twin, {path: replacement.cell for path, replacement in found.items()})
        rename_parameters(twin, names)
        if self.reconstruct and arrays is not None:
            parts = {path: replacement.parts for path, replacement in found.items()}
            refit(net, graph, twin, trace(twin, tuple(array[:1] for array in arrays)), parts, to_fit_on([arrays]))
        attach(twin, Replaced(net, graph, {}, replacements=found))
        self._last = twin
        return twin.set_train(net.training)

    def callbacks(self) -> list[Any]:
        """For ``mindspore.Model.train``: at its end BatchNorm's statistics are estimated again."""
        if self._last is None:
            raise ValueError(f"{self.name}.callbacks() belongs to a network: call apply(net) first")
        return [CalibrateBatchNorm(self._last)]

    def size(self, net_f: Any) -> Size:
        """The size of the converted network."""
        applied = state_of(net_f)
        graph, found = applied.graph, replaced_layers(net_f)
        macs = graph.macs + sum(r.macs - macs_of(graph, path) for path, r in found.items())
        elements = sum(p.size for p in applied.original.get_parameters())
        own = {path: parameters_of_layer(applied.original, path) for path in found}
        return Size(macs, elements + sum(r.parameters - own[path] for path, r in found.items()))

    def convert(self, net_f: Any) -> Any:
        """A new Cell for deployment, which can be pruned or quantized. ValueError for a network not from ``apply``."""
        replaced_layers(net_f)
        applied = getattr(net_f, STATE)
        object.__setattr__(net_f, STATE, None)  # the original network need not be copied
        try:
            return copy_network(net_f).set_train(False)
        finally:
            attach(net_f, applied)


def replaced_layers(net_f: Any) -> Mapping[str, Replacement]:
    """ValueError for a network in which no layer was replaced."""
    applied = state_of(net_f)
    if not isinstance(applied, Replaced) or applied.replacements is None:
        raise ValueError(f"no layers of {type(net_f).__name__} were replaced: it came from another algorithm")
    return applied.replacements


def macs_of(graph: NetworkGraph, path: str) -> int:
    """Multiply-accumulates of all calls of a layer."""
    return sum(node.macs for node in graph.nodes if node.layer == path)


def parameters_of_layer(net: Any, path: str) -> int:
    return sum(p.size for p in cell_at(net, path).get_parameters())


def enough(graph: NetworkGraph, found: dict[str, Replacement], share: float) -> dict[str, Replacement]:
    """The layers that lose least for the MACs that they save, until the share is met."""
    saved = {path: macs_of(graph, path) - replacement.macs for path, replacement in found.items()}
    chosen: dict[str, Replacement] = {}
    left = graph.macs
    for path in sorted(found, key=lambda path: found[path].lost / saved[path]):
        if left <= share * graph.macs:
            break
        chosen[path] = found[path]
        left -= saved[path]
    if left > share * graph.macs:
        raise ValueError(
            f"macs={share} cannot be reached: with all layers replaced {left / graph.macs:.3f} of them stay"
        )
    return {path: chosen[path] for path in found if path in chosen}
