"""SCOP prunes units that the network can replace by a control, which does not depend on the image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from mindspore import ops

from autocomp.primitives.arguments import RULES
from autocomp.primitives.cells.compression_state import state_of
from autocomp.primitives.cells.fake_quant import assign
from autocomp.primitives.cells.layers import StandIn, ms, parameter
from autocomp.primitives.cells.masks import UnitGate
from autocomp.primitives.numerics.plan_compressor import parameters_of
from autocomp.primitives.tracing.batch_axis import batch_axes
from autocomp.primitives.tracing.exclusion import Patterns
from autocomp.primitives.tracing.network_outputs import describe_outputs
from autocomp.primitives.tracing.platform import execution_mode, to_tensors
from autocomp.primitives.tracing.surgery import cell_at, rename_parameters, replace_cells
from autocomp.rules import checked
from autocomp.search_spaces import NetworkGraph

from .importance import batchnorm_scales
from .losses import LossOfHalf
from .selection import NOT_RATED, Share
from .trained_pruning import Batch, TrainedPruning, holds, input_count, with_values

Knockoffs = Callable[[Batch, np.random.Generator], Batch]


def shuffled(inputs: Batch, rng: np.random.Generator) -> Batch:
    """Replaces every sample by another one of the batch."""
    order = rng.permutation(len(inputs[0]))
    source = np.empty_like(order)
    source[order] = np.roll(order, 1)
    return tuple(column[source] for column in inputs)


class SCOP(TrainedPruning):
    """Scientific control (Tang et al., NeurIPS 2020, arXiv:2010.10732) over channel groups.

    >>> algorithm = SCOP(flops=0.5)
    >>> net_p = algorithm.apply(net)
    >>> ms.Model(net_p, loss, optimizer).train(5, train_set, callbacks=algorithm.callbacks())
    >>> smaller = algorithm.convert(net_p)

    Both phases run inside that one call. Before the first step a copy of the network runs in which every layer reads,
    instead of the feature maps A, kappa * A + kappa' * A', with kappa + kappa' = 1; A' are the feature maps of knockoff
    inputs in the same network. Its weights are fixed. Only kappa is trained, from 1/2 and within [0, 1], by the loss on
    the real labels. The score of a unit is

        |gamma| * (kappa - kappa'),

    where gamma is the factor of the unit's BatchNorm, relative to its group's mean, so that units of all groups can be
    compared (the authors' code uses gamma itself and the same share in every layer); it is 1 without BatchNorm. The
    units with the lowest scores are pruned, and the fine-tuning begins. All layers of a channel group share kappa: a
    mixed residual sum is the sum of its mixed terms. Feature maps are mixed where layers read them, after BatchNorm and
    activation, since that is where a cut channel is a zero; MindSpore Golden Stick mixes them between convolution and
    BatchNorm.

    Knockoffs. The paper trains a generator of inputs, which the authors' code feeds with noise. The form here shuffles
    the images of a batch, as Golden Stick does. This is the intended control where images are independent: A' has
    exactly the distribution of A, in every layer and jointly over all channels, and is independent of the label. So
    only the association with the image distinguishes A from A', and exchanging all of A with all of A' changes no
    distribution. It lacks the exchange of single channels, which the paper's definition requires: a shuffled channel is
    independent of its neighbours, an exchangeable one keeps their correlation. A unit that others can replace is
    therefore rated higher than with such a knockoff; the reconstruction of the following layers compensates a part of
    that. ``knockoffs`` takes a generator. Of token ids whole sequences are exchanged, so that knockoffs hold ids of the
    data alone. Outputs may be tuples and dicts; the loss gets the first half of each along its own batch axis, and a
    number of all samples as it is, of both halves.

    Args:
        keep_ratio, flops, parameters: exactly one of them, the share of the units, multiply-accumulates or parameters
            that stays.
        per_layer, channel_divisor, min_keep_ratio, per_cost: see :class:`autocomp.primitives.pruning.selection.Share`.
        reconstruct, exclude: see :class:`TrainedPruning`.
        steps: of the knockoff phase, one batch each. (The authors' code trains kappa by Adam for 20 epochs.)
        travel: how far kappa moves in all for a unit with the root mean square gradient, if the gradient keeps its
            sign.
        knockoffs: a function of (inputs, random generator) that gives arrays of the same shapes; None:
            :func:`shuffled`.
        seed: of the knockoffs.
    """

    name = "scop"

    @checked(RULES["SCOP"])
    def __init__(
        self,
        *,
        keep_ratio: float | None = None,
        flops: float | None = None,
        parameters: float | None = None,
        per_layer: bool = False,
        channel_divisor: int = 1,
        min_keep_ratio: float = 0.1,
        per_cost: bool = False,
        reconstruct: bool = True,
        steps: int = 100,
        travel: float = 0.5,
        knockoffs: Knockoffs | None = None,
        seed: int = 0,
        exclude: Patterns = (),
    ) -> None:
        if steps < 1:
            raise ValueError(f"steps must be 1 or more, but got steps={steps}")
        if not travel > 0:
            raise ValueError(f"travel must be above 0, but got travel={travel}")
        share = Share(keep_ratio, flops, parameters, per_layer, channel_divisor, min_keep_ratio, per_cost)
        super().__init__(share, reconstruct, exclude)
        self.steps, self.travel, self.knockoffs, self.seed = steps, travel, knockoffs or shuffled, seed

    def importance(self, net_p: Any, batches: Iterable[Batch], loss: Any) -> np.ndarray:
        return self.score(net_p, self.kappa(net_p, batches, loss))

    def score(self, net_p: Any, kappa: np.ndarray) -> np.ndarray:
        """(units,): |gamma| * (kappa - kappa'); a unit is not rated where no layer that can be mixed reads it."""
        graph = state_of(net_p).graph
        return np.where(_read(graph), _gamma(graph, parameters_of(net_p)) * (2 * kappa - 1), NOT_RATED)

    def kappa(self, net_p: Any, batches: Iterable[Batch], loss: Any) -> np.ndarray:
        """(units,) in [0, 1]: the trained share of the real feature maps."""
        phase = KnockoffPhase(net_p, loss, self.knockoffs, self.seed)
        kappa, squares = phase.kappa.asnumpy().astype(np.float64), 0.0
        for step, batch in enumerate(_again(batches, self.steps)):
            gradient = phase.gradient(batch)
            squares += (float((gradient**2).mean()) - squares) / (step + 1)
            kappa = np.clip(kappa - self.travel / self.steps * gradient / max(squares**0.5, 1e-12), 0, 1)
            assign(phase.kappa, kappa)
        return kappa


class KnockoffPhase:
    """A copy of the network that mixes its feature maps with those of knockoffs; compiles once."""

    def __init__(self, net_p: Any, loss: Any, knockoffs: Knockoffs = shuffled, seed: int = 0) -> None:
        if loss is None or holds(loss, net_p):
            raise ValueError("scop takes the loss on the real half of the outputs: give Model a loss of its own")
        applied = state_of(net_p)
        graph, twin = applied.graph, with_values(applied.original, parameters_of(net_p))
        self.kappa = parameter(np.full(graph.unit_count, 0.5, np.float32), "kappa", trains=True)
        names = {id(p): p.name for p in twin.get_parameters()} | {id(self.kappa): "kappa"}
        replace_cells(twin, {path: _mixing(cell_at(twin, path), graph, path, self.kappa) for path in _mixed(graph)})
        rename_parameters(twin, names)
        for own in twin.get_parameters():
            own.requires_grad = own is self.kappa
        self.inputs, self.knockoffs, self.rng = input_count(net_p), knockoffs, np.random.default_rng(seed)
        self._twin, self._loss, self._applied = twin, loss, applied
        self._step: Any = None

    def gradient(self, batch: Batch) -> np.ndarray:
        """(units,): gradient of the loss on the real labels. batch: inputs and labels."""
        real = batch[: self.inputs]
        if self._step is None:
            self._step = self._compiled(real)
        doubled = [np.concatenate(pair) for pair in zip(real, self.knockoffs(real, self.rng), strict=True)]
        with execution_mode(graph=True):
            _, (gradient,) = self._step(*to_tensors((*doubled, *batch[self.inputs :])))
        return np.asarray(gradient.asnumpy())

    def _compiled(self, inputs: Batch) -> Any:
        known = describe_outputs(self._applied.original, self._applied.graph, inputs)
        axes = tuple(-1 if output.axis is None else output.axis for output in known)
        whole = LossOfHalf(self._twin, self._loss, self.inputs, axes).set_train(True)
        return ms.value_and_grad(whole, None, weights=ms.ParameterTuple([self.kappa]))


class Mixing(StandIn):
    """A layer that reads, in the first half of the batch, features mixed with those of the second half.

    Both halves run through the layer separately: the control needs no gradient, which saves a third of the step.
    """

    def __init__(self, layer: Any, gate: UnitGate) -> None:
        super().__init__()
        self.layer, self.gate = layer, gate

    def construct(self, x: Any) -> Any:
        half = x.shape[0] // 2
        control = ops.stop_gradient(x[half:])
        mixed = control + self.gate(x[:half] - control)
        return ops.concat((self.layer(mixed), self.layer(control)), 0)


def _mixing(layer: Any, graph: NetworkGraph, path: str, kappa: Any) -> Mixing:
    node = graph.nodes[graph.layers[path]]
    shape = (1, -1, 1, 1) if node.kind == "conv" else (-1,)
    return Mixing(layer, UnitGate(kappa, graph.input_units(node), shape))


def _mixed(graph: NetworkGraph) -> list[str]:
    """Layers that read units and whose inputs have the batch as their first axis."""
    axes = batch_axes(graph)
    found = []
    for path, position in graph.layers.items():
        node = graph.nodes[position]
        if not node.depthwise and (graph.input_units(node) >= 0).any() and axes[node.inputs[0]] == 0:
            found.append(path)
    return found


def _read(graph: NetworkGraph) -> np.ndarray:
    """(units,) bool: whether any layer reads the unit mixed."""
    read = np.zeros(graph.unit_count, bool)
    for path in _mixed(graph):
        units = graph.input_units(graph.nodes[graph.layers[path]])
        read[units[units >= 0]] = True
    return read


def _gamma(graph: NetworkGraph, parameters: dict[str, np.ndarray]) -> np.ndarray:
    """(units,): BatchNorm's factor relative to the mean of the channel group, 1 without BatchNorm."""
    total, count = batchnorm_scales(graph, parameters)
    gamma = np.ones(graph.unit_count)
    for group in graph.channel_groups:
        part = slice(group.start, group.stop)
        normalised = count[part] > 0
        if normalised.any():
            mean = total[part][normalised] / count[part][normalised]
            gamma[part][normalised] = mean / max(mean.mean(), 1e-12)
    return gamma


def _again(batches: Iterable[Batch], steps: int) -> Iterator[Batch]:
    """``steps`` batches of one size, starting from the beginning again where they end."""
    done, size = 0, None
    while done < steps:
        before = done
        for batch in batches:
            size = size or len(batch[0])
            if len(batch[0]) == size:  # another size would be compiled again
                done += 1
                yield batch
            if done == steps:
                return
        if done == before:
            raise ValueError("scop needs data: give batches of inputs and labels")
