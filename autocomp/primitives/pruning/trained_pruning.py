"""The common part of the algorithms that prune units: apply to a network, fine-tune with their callbacks, convert."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np
from mindspore import nn
from mindspore.train import Callback

from autocomp.errors import NoEffectError
from autocomp.primitives.arguments import RULES
from autocomp.primitives.cells.compression_state import CompressionState, attach, state_of
from autocomp.primitives.cells.conversion import convert
from autocomp.primitives.cells.elastic import ElasticNetwork
from autocomp.primitives.cells.fake_quant import assign
from autocomp.primitives.cells.layers import ms, parameter
from autocomp.primitives.cells.masks import gated_layers
from autocomp.primitives.cells.training_callbacks import CalibrateBatchNorm
from autocomp.primitives.distillation.distilled import Distillation
from autocomp.primitives.numerics.plan_compressor import CompressedWeights, PlanCompressor, parameters_of
from autocomp.primitives.numerics.reconstruction import MOST_CHANNELS, Moments, moments_of
from autocomp.primitives.tracing.exclusion import Patterns, excluded_layers, leave_whole
from autocomp.primitives.tracing.mindir import copy_network
from autocomp.primitives.tracing.platform import execution_mode, to_tensors
from autocomp.primitives.tracing.surgery import rename_parameters, replace_cells
from autocomp.primitives.tracing.tracer import as_float32, trace
from autocomp.primitives.tracing.weight_layout import to_out_first_layout, weight_of
from autocomp.primitives.verification.refit import CHUNK, RECONSTRUCTED, Batch, rebatched, refitted, to_fit_on
from autocomp.primitives.verification.standalone import inputs_for
from autocomp.primitives.verification.trial_cut import verify_channel_groups
from autocomp.rules import checked
from autocomp.search_spaces import ChannelGroup, NetworkGraph, Node, SearchSpace

from .cut_cost import macs_cost, parameters_cost
from .losses import LossOfOutputs
from .selection import Share, mean_importance, select

log = logging.getLogger("autocomp")

KEPT = "kept_units"
ROWS = 20_000  # most pixels of the images, for each layer


@dataclass(frozen=True)
class Cut:
    """The units that a network keeps, (units,) bool, and the exact size of the converted network.

    macs: multiply-accumulates at batch 1; parameters: elements, including BatchNorm's statistics.
    """

    kept: np.ndarray
    macs: int
    parameters: int


class TrainedPruning:
    """Channel groups lose their least important units, the network is fine-tuned, the units are removed.

    >>> algorithm = SCOP(flops=0.5)
    >>> net_p = algorithm.apply(net)                      # a new Cell; net is not changed
    >>> ms.Model(net_p, loss, optimizer).train(5, train_set, callbacks=algorithm.callbacks())
    >>> smaller = algorithm.convert(net_p)                # channels removed; can be trained further or quantized

    The callbacks score and prune on the training set before the first step; ``prune`` does the same without them. The
    parameter ``kept_units`` stores what is pruned, so that every checkpoint contains it.

    Args:
        share: the share that stays. reconstruct: whether the layers that read pruned units are reconstructed from the
            kept ones (:mod:`autocomp.primitives.numerics.reconstruction`), before the fine-tuning. exclude: layers
            that are not changed, as in ``autocomp.search``.

    Subclasses score the units.
    """

    name = "trained-pruning"
    price = staticmethod(mean_importance)

    def __init__(self, share: Share, reconstruct: bool = True, exclude: Patterns = ()) -> None:
        self.share, self.reconstruct, self.exclude = share, reconstruct, exclude
        self._last: Any = None  # the network of the last apply, for callbacks

    def importance(self, net_p: Any, batches: Iterable[Batch], loss: Any) -> np.ndarray:
        """(units,) float64, larger for more important units. batches: inputs and labels; loss: of (outputs, labels)."""
        raise NotImplementedError

    @checked(RULES["apply"])
    def apply(self, net: Any, inputs: Any = None) -> Any:
        """A new Cell of the same class, with the same parameter names and one more, whose units can be pruned.

        Args:
            net: a MindSpore Cell; it is copied, never changed.
            inputs: as ``autocomp.search`` takes them; None tries the usual image sizes.

        Raises:
            TypeError: net is no Cell. NoEffectError: none of its channels can be cut.
        """
        net = as_float32(net)
        arrays = inputs_for(net, inputs)
        traced = trace(net, arrays)
        traced = leave_whole(traced, excluded_layers(net, traced, self.exclude))
        return self.applied(net, verify_channel_groups(net, traced, parameters_of(net), arrays))

    def applied(self, net: Any, traced: NetworkGraph) -> Any:
        """As :meth:`apply`, for a network in float32 whose graph is known, its channel groups verified."""
        graph = self._graph(traced)
        original, twin = copy_network(net), copy_network(net)
        kept = parameter(np.ones(graph.unit_count, np.float32), KEPT)
        names = {id(p): p.name for p in twin.get_parameters()} | {id(kept): KEPT}
        layers = self._layers(twin, graph, kept)
        replace_cells(twin, layers)
        rename_parameters(twin, names)
        attach(twin, CompressionState(original, graph, layers))
        self._last = twin
        return twin.set_train(net.training)

    def _graph(self, graph: NetworkGraph) -> NetworkGraph:
        if not graph.channel_groups:
            reasons = "; ".join(sorted(set(graph.whole.values()))) or "it has no nn.Conv2d and no nn.Dense"
            raise NoEffectError(f"{self.name} found no channel group to cut: {reasons}")
        return graph

    def _layers(self, twin: Any, graph: NetworkGraph, kept: Any) -> dict[str, Any]:
        """New cells for the layers that read units."""
        return gated_layers(twin, graph, kept)

    # pruning ---------------------------------------------------------------------------------------------------------

    def prune(self, net_p: Any, batches: Iterable[Batch] = (), loss: Any = None) -> None:
        """Score and prune without callbacks; compiles nothing in ``net_p`` again.

        Args:
            batches: arrays of the network's inputs and labels, (n, ...) each; they must be iterable several times.
                Measures of the weights alone need none; without batches nothing is reconstructed.
            loss: of (outputs, labels), averaged over the batch, or a Cell that holds ``net_p`` and computes its loss
                from the batch (:class:`autocomp.primitives.Distilled`).

        Raises:
            ValueError: net_p did not come from ``apply``, or the share cannot be reached.
        """
        applied = state_of(net_p)
        importance = self.importance(net_p, batches, loss)
        self.keep(net_p, select(applied.graph, parameters_of(net_p), importance, self.share, self.price), batches)

    def keep(self, net_p: Any, kept: np.ndarray, batches: Iterable[Batch] = ()) -> None:
        """Prune all other units than these, (units,) bool; batches: to reconstruct on, as for ``prune``."""
        compressed = self._compressed(net_p, kept, batches)
        assign(kept_parameter(net_p), kept)
        self._store(net_p, compressed)
        log.info("%s keeps %d of %d units: %d MACs", self.name, int(kept.sum()), len(kept), self.cut(net_p).macs)

    def _compressed(self, net_p: Any, kept: np.ndarray, batches: Iterable[Batch]) -> CompressedWeights:
        """The weights of the cut, reconstructed and fitted where there are batches."""
        applied, trained = state_of(net_p), parameters_of(net_p)
        space, images = SearchSpace(applied.graph, ()), _images(applied.graph, batches) if self.reconstruct else []
        if not images:
            return PlanCompressor(space, trained).of(kept, {})
        whole = with_values(applied.original, trained)
        moments = input_moments(whole, applied.graph, images)
        return refitted(whole, applied.graph, PlanCompressor(space, trained, moments=moments).of(kept, {}), images)

    def _store(self, net_p: Any, compressed: CompressedWeights) -> None:
        """Weights of pruned inputs become zero, the others those of the compressed weights; rows of pruned outputs
        stay."""
        graph, trained = state_of(net_p).graph, parameters_of(net_p)
        parameters = {p.name: p for p in net_p.get_parameters()}
        for path, state in compressed.layers.items():
            if state.columns.all():
                continue
            node = graph.nodes[graph.layers[path]]
            weight = np.array(weight_of(node, trained))
            weight[:, ~state.columns] = 0
            weight[np.ix_(state.rows, state.columns)] = state.weight
            assign(
                parameters[node.weight],
                to_out_first_layout(weight, node.groups) if node.transposed else weight,
            )
            if state.bias is not None:
                assert node.bias is not None
                bias = np.array(trained[node.bias])
                bias[state.rows] = state.bias
                assign(parameters[node.bias], bias)

    def is_pruned(self, net_p: Any) -> bool:
        return bool((kept_parameter(net_p).asnumpy() < 0.5).any())

    def groups(self, net_p: Any) -> tuple[ChannelGroup, ...]:
        """The channel groups; ``start`` to ``stop`` of each are its rows in ``kept_units``."""
        return state_of(net_p).graph.channel_groups

    def cut(self, net_p: Any) -> Cut:
        """The kept units now, and the size of the converted network."""
        graph = state_of(net_p).graph
        kept = kept_parameter(net_p).asnumpy() > 0.5
        own = parameters_of(state_of(net_p).original)
        return Cut(kept, round(macs_cost(graph).of(kept)), round(parameters_cost(graph, own).of(kept)))

    # training and after ----------------------------------------------------------------------------------------------

    def callbacks(self) -> list[Any]:
        """For ``mindspore.Model.train``, for the network of the last ``apply``."""
        if self._last is None:
            raise ValueError(f"{self.name}.callbacks() belongs to a network: call apply(net) first")
        return [PruneFirst(self, self._last), CalibrateBatchNorm(self._last)]

    def convert(self, net_p: Any) -> Any:
        """A new Cell without the pruned units; BatchNorm is not folded, so that it can be trained further, quantized,
        or folded.

        ValueError for a network that did not come from ``apply``, or is not pruned yet.
        """
        applied = state_of(net_p)
        if not self.is_pruned(net_p):
            raise ValueError(
                f"{self.name} has pruned nothing yet: train with callbacks=algorithm.callbacks(), or call "
                "algorithm.prune(net_p, batches, loss)"
            )
        trained = parameters_of(net_p)
        twin = with_values(applied.original, trained)
        compressed = PlanCompressor(SearchSpace(applied.graph, ()), trained).of(trained[KEPT] > 0.5, {})
        return convert(twin, applied.graph, trained, compressed, folds=False)


class PruneFirst(Callback):
    """Before the first step, scores the network on the training set and prunes it, unless it is pruned already."""

    def __init__(self, algorithm: TrainedPruning, net_p: Any) -> None:
        super().__init__()
        self.algorithm, self.net_p = algorithm, net_p

    def on_train_begin(self, run_context: Any) -> None:
        arguments = run_context.original_args()
        if not self.algorithm.is_pruned(self.net_p):
            loss = arguments.network if arguments.loss_fn is None else arguments.loss_fn
            training = self.net_p.training
            self.algorithm.prune(self.net_p, Batches(arguments.train_dataset), loss)
            self.net_p.set_train(training)


class Batches:
    """A MindSpore dataset as batches of arrays, from its beginning each time."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.dataset.create_tuple_iterator(output_numpy=True, num_epochs=1))


def kept_parameter(net_p: Any) -> Any:
    return next(p for p in net_p.get_parameters() if p.name == KEPT)


def with_values(net: Any, values: dict[str, np.ndarray]) -> Any:
    """A copy of a network with these values for its parameters, by name."""
    twin = copy_network(net)
    for own in twin.get_parameters():
        own.set_data(ms.Tensor(values[own.name]))
    return twin


def input_count(net_p: Any) -> int:
    return sum(node.kind == "input" for node in state_of(net_p).graph.nodes)


def _images(graph: NetworkGraph, batches: Iterable[Batch]) -> list[Batch]:
    """Inputs of the network, some at a time, from batches that may also contain labels."""
    count = sum(node.kind == "input" for node in graph.nodes)
    return [batch[:count] for batch in to_fit_on(batches)]


def input_moments(net: Any, graph: NetworkGraph, images: Iterable[Batch]) -> dict[str, Moments]:
    """Moments of the inputs of the network's layers; images: inputs of the network."""
    elastic = ElasticNetwork(net, graph)
    rows: dict[str, list[np.ndarray]] = {}
    for batch in images:
        for path, calls in elastic.layer_inputs(batch).items():
            node = graph.nodes[graph.layers[path]]
            if len(graph.input_units(node)) <= MOST_CHANNELS:
                rows.setdefault(path, []).extend(_pixels(node, values, len(calls)) for values in calls)
    return {path: moments_of(np.concatenate(found)) for path, found in rows.items()}


def _pixels(node: Node, values: np.ndarray, calls: int) -> np.ndarray:
    """(pixels, channels) of the input of one of a layer's calls, a limited number of pixels."""
    channels_last = values if node.kind == "dense" else values.swapaxes(1, -1)
    rows = channels_last.reshape(-1, channels_last.shape[-1])
    return rows[:: max(1, len(rows) * calls * RECONSTRUCTED // CHUNK // ROWS)]


def holds(loss: Any, net_p: Any) -> bool:
    """Whether a loss is a Cell that contains the network."""
    return isinstance(loss, nn.Cell) and any(cell is net_p for _, cell in loss.cells_and_names())


class GateGradients:
    """Gradients of the mean loss of a batch with respect to the gates of all units, in evaluation mode; compiles
    once."""

    def __init__(self, net_p: Any, loss: Any) -> None:
        if loss is None:
            raise ValueError("the importance of units is measured by the loss: give one")
        if isinstance(loss, Distillation) and loss.share == 1:
            raise ValueError(
                "importance is measured by a loss of labels: a network that is its own teacher has no gradient. Call "
                "algorithm.prune(net_p, batches, loss) first, or give Distilled a loss and a share below 1"
            )
        self.network = loss if holds(loss, net_p) else LossOfOutputs(net_p, loss, input_count(net_p))
        self.gate = kept_parameter(net_p)
        self._step = ms.value_and_grad(self.network, None, weights=ms.ParameterTuple([self.gate]))

    def __call__(self, batches: Iterable[Batch], size: int | None, most: int) -> np.ndarray:
        """(batches, units). size: samples in a batch; None: the batches' own size. most: largest number of batches."""
        batches = iter(batches if size is None else rebatched(batches, size))
        first = next(batches, None)
        if first is None:
            raise ValueError("the importance of units is measured on data: give batches of inputs and labels")
        alike = (batch for batch in chain([first], batches) if len(batch[0]) == len(first[0]))  # others compile again
        training = self.network.training
        self.network.set_train(False)
        self.gate.requires_grad = True
        try:
            with execution_mode(graph=True):
                return np.stack([self._step(*to_tensors(b))[1][0].asnumpy() for b in islice(alike, most)])
        finally:
            self.gate.requires_grad = False
            self.network.set_train(training)
