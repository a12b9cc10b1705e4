"""Prunes attention heads with trained gates; heads with closed gates are removed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from mindspore import nn, ops
from mindspore.train import Callback

from autocomp.errors import NoEffectError
from autocomp.primitives.arguments import RULES
from autocomp.primitives.cells.compression_state import state_of
from autocomp.primitives.cells.fake_quant import assign
from autocomp.primitives.cells.layers import ms, parameter
from autocomp.primitives.cells.masks import UnitGate, gate_of, gated_layers
from autocomp.primitives.numerics.plan_compressor import parameters_of
from autocomp.primitives.tracing.platform import load_mindspore
from autocomp.rules import checked
from autocomp.search_spaces import ChannelGroup, NetworkGraph

from .attention import open_attention
from .head_knobs import is_of_heads
from .selection import Share
from .trained_pruning import Batch, Batches, TrainedPruning

# stretch and temperature of Louizos et al., ICLR 2018, section 4
LOW, HIGH, TEMPERATURE = -0.1, 1.1, 2 / 3
OPEN_SHIFT = TEMPERATURE * math.log(-LOW / HIGH)
START = 2.5  # log alpha; without noise a gate is open above log((1 - LOW) / (HIGH - 1)) = 2.4


class HeadPruning(TrainedPruning):
    """Hard-concrete gates on attention heads with an L0 penalty (Voita et al., ACL 2019; Louizos et al., ICLR 2018).

    >>> algorithm = HeadPruning(keep_ratio=0.5)
    >>> net_p = algorithm.apply(net, inputs=(1, 64, 128))
    >>> ms.Model(net_p, loss, optimizer).train(10, train_set, callbacks=algorithm.callbacks())
    >>> smaller = algorithm.convert(net_p)                # heads removed from queries, keys, values and projection

    The gate of a head is

        z = min(1, max(0, s (1.1 + 0.1) - 0.1)),    s = sigmoid((log u - log(1 - u) + log alpha) / (2/3)),

    with u uniform, drawn for every step; in evaluation s = sigmoid(log alpha). log alpha trains with the network by the
    user's optimizer. The penalty is ``penalty`` times the mean probability that a gate is open, sigmoid(log alpha - 2/3
    log(0.1 / 1.1)). Its gradient is added where the gradient of the loss passes the gates, so that any loss can be
    used. Its strength grows from 0 to full over the first half of the gated part of the training. After that part the
    heads whose gates are least open are removed, the gates of the others are multiplied into the weights, and the rest
    of the training fine-tunes.

    Heads are those that the tracer can cut as a whole: hand-written attention whose code computes the number of heads,
    and ``nn.MultiheadAttention``, alone or in ``nn.TransformerEncoder``. The latter is replaced by a cell with dense
    layers (:mod:`autocomp.primitives.pruning.attention`), whose names its parameters then have.

    Args:
        keep_ratio, flops, parameters: exactly one of them, the share of the heads, multiply-accumulates or parameters
            that stays.
        per_layer: the same ratio in every attention; otherwise the heads of all attentions compete. At least one head
            of each stays.
        penalty: weight of the penalty, relative to the loss.
        gated: the share of the training in which gates train, in (0, 1).
        gain: log alpha is the trained parameter times it, so that gates train fast enough at a learning rate for
            weights.
        seed: of the gates' noise.
    """

    name = "head-pruning"

    @checked(RULES["HeadPruning"])
    def __init__(
        self,
        *,
        keep_ratio: float | None = None,
        flops: float | None = None,
        parameters: float | None = None,
        per_layer: bool = False,
        penalty: float = 0.5,
        gated: float = 0.5,
        gain: float = 10.0,
        seed: int = 0,
    ) -> None:
        if penalty < 0:
            raise ValueError(f"penalty must be 0 or more, but got penalty={penalty}")
        if not 0 < gated < 1:
            raise ValueError(f"gated must be in (0, 1), but got gated={gated}")
        if not gain > 0:
            raise ValueError(f"gain must be above 0, but got gain={gain}")
        super().__init__(Share(keep_ratio, flops, parameters, per_layer, min_keep_ratio=0.0), reconstruct=False)
        self.penalty, self.gated, self.gain, self.seed = penalty, gated, gain, seed

    def apply(self, net: Any, inputs: Any = None) -> Any:
        """As for the other algorithms that prune; attention of the library is replaced.

        Raises:
            NoEffectError: no attention of the network can lose heads, with the reason.
        """
        load_mindspore()
        return super().apply(open_attention(net) if isinstance(net, nn.Cell) else net, inputs)

    def _graph(self, graph: NetworkGraph) -> NetworkGraph:
        groups = [group for group in graph.channel_groups if is_of_heads(graph, group)]
        if not groups:
            reasons = (
                "; ".join(sorted({why for why in graph.whole.values() if "heads" in why})) or "it has no attention"
            )
            raise NoEffectError(f"{self.name} found no heads to remove: {reasons}")
        return only(graph, groups)

    def _layers(self, twin: Any, graph: NetworkGraph, kept: Any) -> dict[str, Any]:
        gates = Gates(graph, self.gain)
        twin.insert_child_to_cell("head_gating", gates)
        return gated_layers(twin, graph, kept, lambda values, units, shape: HeadGate(values, units, shape, gates))

    def importance(self, net_p: Any, batches: Iterable[Batch] = (), loss: Any = None) -> np.ndarray:
        """(heads,): log alpha, which says how far the gates are open."""
        return np.asarray(_gates(net_p).log_alpha.asnumpy() * self.gain, np.float64)

    def keep(self, net_p: Any, kept: np.ndarray, batches: Iterable[Batch] = ()) -> None:
        """Remove all other heads than these, (heads,) bool; the gates of the kept heads are multiplied into the
        weights."""
        gates, graph = _gates(net_p), state_of(net_p).graph
        if gates.on.asnumpy() > 0.5:
            values = gates.evaluated()
            trained, parameters = parameters_of(net_p), {p.name: p for p in net_p.get_parameters()}
            for path in state_of(net_p).layers:
                node = graph.nodes[graph.layers[path]]
                units = graph.input_units(node).reshape(node.groups, -1)[0]
                factor = np.where(units >= 0, values[np.maximum(units, 0)], 1)
                name = node.weight
                weight = trained[name]
                assign(parameters[name], weight * factor.reshape(1, -1, *[1] * (weight.ndim - 2)))
            assign(gates.on, 0)
        super().keep(net_p, kept, batches)

    def callbacks(self) -> list[Any]:
        *_, calibrate = super().callbacks()
        return [GateSchedule(self, self._last), calibrate]


class Gates(nn.Cell):
    """The gates' parameters, (heads,); ``on`` becomes 0 when the heads are chosen."""

    def __init__(self, graph: NetworkGraph, gain: float) -> None:
        super().__init__()
        count, self.gain = graph.unit_count, gain
        self.log_alpha = parameter(np.full(count, START / gain, np.float32), "log_alpha", trains=True)
        self.noise = parameter(np.zeros(count, np.float32), "noise")
        self.strength = parameter(np.float32(0), "strength")
        self.on = parameter(np.float32(1), "on")

    def evaluated(self) -> np.ndarray:
        """(heads,): the gates without noise."""
        open_ = 1 / (1 + np.exp(-self.gain * self.log_alpha.asnumpy().astype(np.float64)))
        return np.asarray(np.clip(open_ * (HIGH - LOW) + LOW, 0, 1))

    def construct(self, x: Any) -> Any:
        return x


class Penalised(nn.Cell):
    """Returns log alpha; the backward pass adds the gradient of the penalty.

    weights: (heads,), the weight of each head's probability to be open at this place.
    """

    def __init__(self, weights: np.ndarray, gain: float) -> None:
        super().__init__()
        self.weights, self.gain = ms.Tensor(weights.astype(np.float32)), gain

    def construct(self, log_alpha: Any, strength: Any) -> Any:
        return log_alpha + 0 * strength

    def bprop(self, log_alpha: Any, strength: Any, out: Any, dout: Any) -> Any:
        is_open = ops.sigmoid(self.gain * log_alpha - OPEN_SHIFT)
        return dout + strength * self.gain * self.weights * is_open * (1 - is_open), ops.zeros_like(strength)


class HeadGate(UnitGate):
    """The gate of a layer that reads heads."""

    def __init__(self, values: Any, units: np.ndarray, shape: tuple[int, ...], gates: Gates) -> None:
        super().__init__(values, units, shape)
        self.log_alpha, self.noise, self.strength, self.on = gates.log_alpha, gates.noise, gates.strength, gates.on
        self.gain = gates.gain
        counted = np.zeros(len(gates.evaluated()))
        counted[np.unique(units[units >= 0])] = 1 / len(counted)
        self.penalised = Penalised(counted, gates.gain)

    def gate(self) -> Any:
        log_alpha = self.gain * self.penalised(self.log_alpha, self.strength)
        if self.training:
            log_alpha = (log_alpha + self.noise) * (1 / TEMPERATURE)
        z = ops.clamp(ops.sigmoid(log_alpha) * (HIGH - LOW) + LOW, 0.0, 1.0)
        values = self.values * (z * self.on + (1 - self.on))
        return gate_of(values, self.index, self.free).reshape(self.shape)


class GateSchedule(Callback):
    """Before every step it draws the gates' noise and sets the penalty; after the gated part it removes heads."""

    def __init__(self, algorithm: HeadPruning, net_p: Any) -> None:
        super().__init__()
        self.algorithm, self.net_p = algorithm, net_p
        self.rng = np.random.default_rng(algorithm.seed)

    def on_train_step_begin(self, run_context: Any) -> None:
        arguments, algorithm, gates = run_context.original_args(), self.algorithm, _gates(self.net_p)
        if algorithm.is_pruned(self.net_p):
            return
        steps = max(arguments.epoch_num * arguments.batch_num, 1)
        progress = (arguments.cur_step_num - 1) / steps / algorithm.gated
        if progress >= 1:
            algorithm.prune(self.net_p, Batches(arguments.train_dataset))
            return
        uniform = self.rng.uniform(1e-6, 1 - 1e-6, gates.noise.shape)
        assign(gates.noise, np.log(uniform) - np.log(1 - uniform))
        assign(gates.strength, algorithm.penalty * min(1.0, 2 * progress))

    def on_train_end(self, run_context: Any) -> None:
        if not self.algorithm.is_pruned(self.net_p):
            self.algorithm.prune(self.net_p, Batches(run_context.original_args().train_dataset))


def _gates(net_p: Any) -> Gates:
    found = getattr(net_p, "head_gating", None)
    if not isinstance(found, Gates):
        raise ValueError(f"{type(net_p).__name__} has no gates on heads: it did not come from HeadPruning.apply(net)")
    return found


def only(graph: NetworkGraph, groups: list[ChannelGroup]) -> NetworkGraph:
    """The graph with only these channel groups; units of the others are not cut."""
    renumbered = np.full(graph.unit_count + 1, -1)  # the last entry is for channels that stay
    kept, start = [], 0
    for group in groups:
        renumbered[group.start : group.stop] = np.arange(start, start + group.units)
        kept.append(replace(group, start=start, stop=start + group.units))
        start += group.units
    nodes = tuple(replace(node, units=renumbered[node.units]) for node in graph.nodes)
    return replace(graph, nodes=nodes, channel_groups=tuple(kept))
