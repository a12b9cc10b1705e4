"""Engines run a network under a plan: onnxruntime, or MindSpore where the network has no ONNX form. Same numbers."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from typing import Any, Protocol

import numpy as np

from autocomp.errors import EvaluationError
from autocomp.primitives.export.onnx_network import onnx_network
from autocomp.primitives.export.onnx_writer import MEAN, OUTPUT, REWRITES, TAP, VARIANCE, Style
from autocomp.primitives.numerics.divided_inputs import SUPPRESSION
from autocomp.primitives.numerics.plan_compressor import CompressedWeights, Parameters
from autocomp.primitives.tracing.float32_form import rounds_to_half
from autocomp.primitives.tracing.network_outputs import NetworkOutput
from autocomp.search_spaces import Activation, LayerChain, NetworkGraph, ResidualBlock, SearchSpace

log = logging.getLogger("autocomp")

Arrays = tuple[np.ndarray, ...]
BatchStatistics = Mapping[str, tuple[np.ndarray, np.ndarray]]
BATCH, BATCH_MACS = 32, 2e9  # most images in a batch: fixed, so that a result does not depend on the machine
STATISTICS_THREADS = 2  # for the one batch that cannot be split; fixed for the same reason
SAME = 1e-3  # relative, of the outputs of two engines
HALF_STEPS = 4.0  # times as much, where float16 is computed with
AT_ONCE, HELD_AT_ONCE = 4, 1e8  # most plans at a time, and most elements of their weights in all


class Engine(Protocol):
    """Runs the networks of plans.

    >>> engine.outputs(compressed, (x,))          # an array for each output of the network, (n, ...) as a rule
    >>> engine.layer_inputs(compressed, (x,))     # layer -> the input of each of its calls, for all images
    >>> engine.node_outputs(compressed, (x,), {3})  # node -> its output, for all images; {} where it cannot be read
    >>> engine.batch_statistics(compressed, (x,)) # BatchNorm layer -> mean and variance over x, each (kept channels,)

    A layer that runs several times has several calls, in the order of execution, float32. The statistics of a BatchNorm
    that runs several times are averages over its calls.

    at_once: how many plans it may run at the same time, in threads of one process.
    described_outputs: what is known of each output; batches are joined along its batch axis.
    """

    @property
    def described_outputs(self) -> Sequence[NetworkOutput]: ...

    @property
    def at_once(self) -> int: ...

    def outputs(self, compressed: CompressedWeights, inputs: Arrays) -> Arrays: ...

    def layer_inputs(self, compressed: CompressedWeights, inputs: Arrays) -> dict[str, list[np.ndarray]]: ...

    def node_outputs(
        self, compressed: CompressedWeights, inputs: Arrays, nodes: Collection[int]
    ) -> dict[int, np.ndarray]: ...

    def batch_statistics(self, compressed: CompressedWeights, inputs: Arrays) -> BatchStatistics: ...


def batch_of(graph: NetworkGraph) -> int:
    """Images in a batch: few where one image is much work, so that several processors share the batches."""
    return int(np.clip(BATCH_MACS / max(graph.macs, 1), 1, BATCH))


class OnnxEngine:
    """onnxruntime on CPU. Each plan is a small session of its own, in which pruned channels are removed.

    Batches have a fixed size and run in one thread each, several at a time: the numbers do not depend on the number of
    threads. Picklable; needs no MindSpore. Several plans at once keep all processors busy: while one thread rounds a
    plan and makes its session, another plan runs.
    """

    def __init__(
        self,
        graph: NetworkGraph,
        parameters: Parameters,
        threads: int | None = None,
        described_outputs: Sequence[NetworkOutput] | None = None,
    ) -> None:
        self.described_outputs = _samples_first(graph) if described_outputs is None else tuple(described_outputs)
        self.graph, self.parameters, self.threads = graph, dict(parameters), threads or len(os.sched_getaffinity(0))
        self.providers: tuple[Any, ...] = ("CPUExecutionProvider",)  # onnxruntime's, the first one that can

    @property
    def at_once(self) -> int:
        elements = sum(parameter.size for parameter in self.parameters.values())
        return int(np.clip(HELD_AT_ONCE / max(elements, 1), 1, min(self.threads, AT_ONCE)))

    def running_on(self, compressed: CompressedWeights) -> str:
        """The provider that comes first in a session; onnxruntime leaves out those that cannot start."""
        return str(self._session(compressed, Style()).get_providers()[0])

    def outputs(self, compressed: CompressedWeights, inputs: Arrays) -> Arrays:
        session = self._session(compressed, Style())
        parts = self._map(session, [s.name for s in session.get_outputs()], inputs)
        return joined(self.described_outputs, parts)

    def layer_inputs(self, compressed: CompressedWeights, inputs: Arrays) -> dict[str, list[np.ndarray]]:
        graph = compressed.graph or self.graph
        layers = {node.name + TAP: node.layer for node in graph.nodes if node.layer is not None}
        if not layers:
            return {}
        session = self._session(compressed, Style(taps=True))
        names = [s.name for s in session.get_outputs() if s.name in layers]
        parts = self._map(session, names, inputs)
        found: dict[str, list[np.ndarray]] = {}
        for name, column in zip(names, zip(*parts, strict=True), strict=True):
            found.setdefault(layers[name], []).append(np.concatenate(column))
        return found

    def node_outputs(
        self, compressed: CompressedWeights, inputs: Arrays, nodes: Collection[int]
    ) -> dict[int, np.ndarray]:
        session = self._session(compressed, Style(tapped=frozenset(nodes)))
        graph = compressed.graph or self.graph
        names = {i: graph.nodes[i].name + OUTPUT for i in sorted(nodes)}
        parts = self._map(session, list(names.values()), inputs)
        return {i: np.concatenate(column) for i, column in zip(names, zip(*parts, strict=True), strict=True)}

    def batch_statistics(self, compressed: CompressedWeights, inputs: Arrays) -> BatchStatistics:
        graph = compressed.graph or self.graph
        layers = {node.name: node.layer for node in graph.nodes if node.kind == "batchnorm" and node.layer}
        if not layers:
            return {}
        session = self._session(compressed, Style(statistics=True), threads=STATISTICS_THREADS)
        names = [name + part for name in layers for part in (MEAN, VARIANCE)]
        found = dict(zip(names, session.run(names, self._feed(session, inputs)), strict=True))
        calls: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
        for name, layer in layers.items():
            calls.setdefault(layer, []).append((found[name + MEAN], found[name + VARIANCE]))
        return {layer: tuple(np.mean(moments, 0)) for layer, moments in calls.items()}

    def _session(self, compressed: CompressedWeights, style: Style, threads: int = 1) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        model = onnx_network(self.graph, self.parameters, compressed, replace(style, fast_groups=True))
        as_it_is = {"providers": list(self.providers), "disabled_optimizers": REWRITES}
        return onnxruntime.InferenceSession(model.SerializeToString(), options, **as_it_is)

    def _map(self, session: Any, names: list[str], inputs: Arrays) -> list[list[np.ndarray]]:
        """For each batch the named outputs. A thread reads its batch when it begins with it."""
        size = batch_of(self.graph)

        def run(start: int) -> list[np.ndarray]:
            batch = tuple(array[start : start + size] for array in inputs)
            found: list[np.ndarray] = session.run(names, self._feed(session, batch))
            return found

        return list(_pool(self.threads).map(run, range(0, len(inputs[0]), size)))

    @staticmethod
    def _feed(session: Any, inputs: Arrays) -> dict[str, np.ndarray]:
        return {
            spec.name: np.ascontiguousarray(array) for spec, array in zip(session.get_inputs(), inputs, strict=True)
        }


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """The threads of the process: all plans that run at the same time share them."""
    return ThreadPoolExecutor(threads, "autocomp")


class MindSporeEngine:
    """The elastic network in GRAPH mode: for networks without an ONNX form, and the reference for the other engine."""

    at_once = 1  # it holds one plan at a time

    def __init__(
        self,
        net: Any,
        graph: NetworkGraph,
        described_outputs: Sequence[NetworkOutput] | None = None,
        chains: Mapping[str, Sequence[LayerChain]] | None = None,
        blocks: Collection[ResidualBlock] = (),
        by_row: Collection[str] = (),
        activations: Collection[Activation] = (),
        shifted: Collection[str] = (),
    ) -> None:
        """chains: those that plans may put in the place of a layer. blocks: those that plans may skip. by_row: layers
        whose inputs plans may round with a range for each row. activations: those that ReLUs may stand for. shifted:
        dense layers whose inputs plans may shift."""
        from autocomp.primitives.cells.elastic import ElasticNetwork

        self.graph = graph
        self.described_outputs = _samples_first(graph) if described_outputs is None else tuple(described_outputs)
        self.elastic = ElasticNetwork(net, graph, chains, blocks, by_row, activations, shifted)

    def outputs(self, compressed: CompressedWeights, inputs: Arrays) -> Arrays:
        self.elastic.set(compressed)
        parts, size = [], batch_of(self.graph)
        for i in range(0, len(inputs[0]), size):
            batch = tuple(array[i : i + size] for array in inputs)
            parts.append(self._padded(batch, min(size, len(inputs[0]))))
        return joined(self.described_outputs, parts)

    def _padded(self, batch: Arrays, size: int) -> Arrays:
        """Fills the last batch up, since another shape would be compiled again."""
        count = len(batch[0])
        filled = tuple(np.concatenate([a, np.repeat(a[-1:], size - count, 0)]) for a in batch)
        known = zip(self.described_outputs, self.elastic(filled), strict=True)
        return tuple(output.rows(array, np.arange(count)) for output, array in known)

    def layer_inputs(self, compressed: CompressedWeights, inputs: Arrays) -> dict[str, list[np.ndarray]]:
        self.elastic.set(compressed)
        return self.elastic.layer_inputs(inputs)

    def node_outputs(
        self, compressed: CompressedWeights, inputs: Arrays, nodes: Collection[int]
    ) -> dict[int, np.ndarray]:
        return {}  # a cell holds several nodes

    def batch_statistics(self, compressed: CompressedWeights, inputs: Arrays) -> BatchStatistics:
        self.elastic.set(compressed)
        return self.elastic.batch_statistics(inputs, compressed.kept)

    def __reduce__(self) -> Any:
        raise EvaluationError(NOT_SENT)


NOT_SENT = (
    "this network has no ONNX form and is evaluated by MindSpore, which cannot be sent to workers: use workers=None"
)


def check_sent_to_workers(graph: NetworkGraph, parameters: Parameters, plain: CompressedWeights, one: Arrays) -> None:
    """EvaluationError for a network whose ONNX form does not run, before anything else is prepared."""
    try:
        OnnxEngine(graph, parameters).outputs(plain, one)
    except Exception as error:  # onnxruntime's errors are not RuntimeErrors
        raise EvaluationError(NOT_SENT) from error


def _samples_first(graph: NetworkGraph) -> tuple[NetworkOutput, ...]:
    return tuple(NetworkOutput(f"output {i}") for i in range(len(graph.outputs)))


def joined(described_outputs: Sequence[NetworkOutput], parts: Sequence[Sequence[np.ndarray]]) -> Arrays:
    """The outputs of all batches, each along its own batch axis."""
    return tuple(
        output.joined(column) for output, column in zip(described_outputs, zip(*parts, strict=True), strict=True)
    )


def choose_engine(
    net: Any,
    graph: NetworkGraph,
    parameters: Parameters,
    plain: CompressedWeights,
    inputs: Arrays,
    outputs: Arrays,
    described_outputs: Sequence[NetworkOutput] | None = None,
) -> Engine:
    """The ONNX engine if it reproduces ``outputs``, the float network's for ``inputs``; else MindSpore's.

    plain: the float network's weights.
    """
    engine = OnnxEngine(graph, parameters, described_outputs=described_outputs)
    try:
        found = zip(engine.described_outputs, engine.outputs(plain, inputs), outputs, strict=True)
        worst = max(relative_error(a, b) / _resolution(b) for output, a, b in found if output.axis is not None)
        if worst <= (HALF_STEPS * SAME if rounds_to_half(graph) else SAME):
            return engine
        log.warning("the ONNX form of the network differs by %.1e from MindSpore: MindSpore evaluates plans", worst)
    except Exception as error:  # onnxruntime's errors are not RuntimeErrors
        log.info("MindSpore evaluates plans, since the network has no ONNX form that runs: %s", error)
    return MindSporeEngine(net, graph, described_outputs)


def with_structures(engine: Engine, net: Any, space: SearchSpace) -> Engine:
    """The engine, which also runs plans that put chains in the place of layers or ReLUs in that of other activations,
    skip blocks, round rows or shift inputs."""
    by_row = {layer for knob in space.knobs if any(map(knob.by_row, knob.values)) for layer in knob.layers}
    shifted = {layer for knob in space.knobs if SUPPRESSION in knob.dividing for layer in knob.layers}
    changed = space.chains or space.blocks or by_row or space.activations or shifted
    if not isinstance(engine, MindSporeEngine) or not changed:
        return engine
    blocks, activations = tuple(space.blocks.values()), tuple(space.activations.values())
    outputs = engine.described_outputs
    return MindSporeEngine(net, engine.graph, outputs, space.chains, blocks, by_row, activations, shifted)


def _resolution(array: np.ndarray) -> float:
    """How many times the usual difference counts as none: in float16 two roundings may lie a step apart."""
    return HALF_STEPS if array.dtype == np.float16 else 1.0


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference divided by the largest expected value. For integers the share that differs, less 0.005:
    of two equal scores either may be the largest."""
    if found.shape != expected.shape:
        return float("inf")
    if expected.dtype.kind != "f":
        return max(0.0, float(np.mean(found != expected)) - 0.005) if expected.size else 0.0
    found, expected = found.astype(np.float32, copy=False), expected.astype(np.float32, copy=False)
    return float(np.abs(found - expected).max(initial=0) / max(float(np.abs(expected).max(initial=0)), 1e-12))
