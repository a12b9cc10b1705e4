"""Ranges and moments of layer inputs, and BatchNorm's statistics under a plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from autocomp.evaluators import MindSporeEngine, OnnxEngine, calibration
from autocomp.evaluators.calibration import (
    as_concatenated,
    calibrate_ranges,
    calibration_within,
    layer_hessians,
    layer_moments,
    moved_statistics,
    rounded_layers,
)
from autocomp.primitives.numerics import patches
from autocomp.primitives.numerics.patches import patch_width
from autocomp.primitives.numerics.plan_compressor import PlanCompressor, kept_channels, parameters_of
from autocomp.primitives.numerics.quantizers import ActivationQuantizer
from autocomp.primitives.tracing.tracer import trace
from autocomp.process.deadline import Deadline
from autocomp.search_spaces import Argument, NetworkGraph, Node, NodeAttributes, Normalization, Plan, SearchSpace
from tests.clock import FakeClock
from tests.conftest import Subject, Twice
from tests.networks import images, randomised
from tests.odd_networks import ChannelsLast
from tests.primitives.numerics.test_patches import all_patches


def test_ranges_hold_zero_and_most_of_what_was_seen(subject: Subject) -> None:
    ranges = subject.evaluator.compressor.ranges
    seen = subject.evaluator.engine.layer_inputs(subject.evaluator.compress(Plan()), (subject.x,))
    assert set(ranges) == {(layer, 8) for layer in subject.graph.layers}
    for (layer, bits), quantizer in ranges.items():
        assert 0 <= quantizer.zero_point < 2**bits
        assert quantizer(np.zeros(1, np.float32))[0] == 0
        values = np.concatenate(seen[layer])
        if values.min() >= 0:
            assert quantizer.zero_point == 0, "no level is spent on what does not occur"
        error = np.mean((quantizer(values) - values) ** 2) / np.mean(values**2)
        assert 0 < error < 1e-3, layer


def test_ranges_are_the_same_each_time(subject: Subject) -> None:
    plain = subject.evaluator.compress(Plan())
    engine = OnnxEngine(subject.graph, subject.parameters)
    assert calibrate_ranges(engine, subject.space, plain, (subject.x,)) == subject.evaluator.compressor.ranges


def test_no_ranges_where_no_knob_asks_for_them(subject: Subject) -> None:
    plain = subject.evaluator.compress(Plan())
    assert calibrate_ranges(subject.evaluator.engine, SearchSpace(subject.graph, ()), plain, (subject.x,)) == {}


def test_an_empty_plan_moves_nothing(subject: Subject) -> None:
    assert subject.evaluator.compress(Plan()).statistics == {}
    plain, kept = subject.evaluator.plain_statistics, np.ones(subject.graph.unit_count, bool)
    moved = moved_statistics(subject.graph, subject.parameters, kept, plain, plain)
    for node in subject.graph.nodes:
        if node.kind == "batchnorm":
            for name, value in zip(node.normalization.statistics, moved[node.layer], strict=True):
                np.testing.assert_allclose(value, subject.parameters[name], rtol=1e-6)


def test_formula() -> None:
    """mean' = mean + (m_plan - m_float) sqrt(var / v_float), var' = var v_plan / v_float, of kept channels alone."""
    attributes = NodeAttributes(normalization=Normalization("g", "b", "m", "v", 0.0))
    node = Node("bn", "batchnorm", "BatchNorm", (), (1, 3), "bn", None, attributes, np.array([0, 1, -1]))
    parameters = {"m": np.array([1, 2, 3], np.float32), "v": np.array([4, 9, 16], np.float32)}
    plain = {"bn": (np.array([0.0, 0, 0]), np.array([1.0, 1, 4]))}
    found = {"bn": (np.array([1.0, -2.0]), np.array([3.0, 2.0]))}
    moved = moved_statistics(NetworkGraph((node,), (0,)), parameters, np.array([True, False]), plain, found)
    np.testing.assert_allclose(moved["bn"][0], [1 + 1 * 2, 2, 3 - 2 * 2])
    np.testing.assert_allclose(moved["bn"][1], [4 * 3, 9, 16 * 2 / 4])
    np.testing.assert_array_equal(parameters["m"], [1, 2, 3])


def test_statistics_follow_what_a_plan_takes_away(named_subject: Callable[[str], Subject]) -> None:
    """With half of the stem cut, the next BatchNorm reads less: its variance falls, and the outputs come out closer."""
    subject = named_subject("residual")
    plan = Plan({"keep/stem": 0.5})
    compressed = subject.evaluator.compress(plan)
    bare = subject.evaluator.compressor(plan)
    mean, variance = compressed.statistics["blocks.0.bn1"]
    assert mean.shape == variance.shape == (16,) and (variance > 0).all()
    assert variance.mean() < subject.parameters["blocks.0.bn1.moving_variance"].mean()
    assert kept_channels(subject.graph.nodes[1].units, compressed.kept).sum() == 8
    expected = subject.evaluator.plain_outputs[0]
    with_, without = (
        np.linalg.norm(subject.evaluator.engine.outputs(one, (subject.x,))[0] - expected) for one in (compressed, bare)
    )
    assert with_ < without


def test_hessians_are_those_of_every_patch(subject: Subject) -> None:
    """Few images, so that all patches are taken: against loops over positions, channels and taps."""
    engine, plain = subject.evaluator.engine, subject.evaluator.compress(Plan())
    few = (subject.x[:3],)
    found = layer_hessians(engine, subject.graph, plain, few, list(subject.graph.layers))
    assert set(found) == set(subject.graph.layers)
    inputs = engine.layer_inputs(plain, few)
    for layer, moments in found.items():
        node = subject.graph.nodes[subject.graph.layers[layer]]
        patches = inputs[layer][0].reshape(-1, 1, inputs[layer][0].shape[-1])
        patches = (all_patches(node, inputs[layer][0]) if node.kind == "conv" else patches).astype(np.float64)
        assert moments.count == len(patches)
        mean = patches.mean(0)
        centred = patches - mean
        covariance = np.einsum("ngk,ngl->gkl", centred, centred) / len(patches)
        np.testing.assert_allclose(moments.mean, mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(moments.covariance, covariance, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["onnx", "mindspore"])
def test_all_calls_of_a_layer_are_seen(normalised_twice: Twice, kind: str) -> None:
    """The first call reads negative numbers, the second large ones."""
    twice, layer = normalised_twice, "twice.0"
    engine, graph, inputs = twice.engines[kind], twice.space.graph, (twice.x,)
    calls = engine.layer_inputs(twice.plain, inputs)[layer]
    assert calls[0].min() < 0 and calls[1].max() > 5 * calls[0].max()
    quantizer = calibrate_ranges(engine, twice.space, twice.plain, inputs)[layer, 8]
    low, high = (bound * quantizer.scale for bound in quantizer.bounds)
    assert low < 0.8 * calls[0].min() and high > 0.8 * calls[1].max()
    moments = layer_moments(engine, graph, twice.plain, inputs)[layer]
    pixels = np.concatenate([np.moveaxis(values, 1, -1).reshape(-1, 8) for values in calls])
    np.testing.assert_allclose(moments.mean, pixels.mean(0), rtol=1e-3)
    found = layer_hessians(engine, graph, twice.plain, inputs, [layer])[layer]
    node = graph.nodes[graph.layers[layer]]
    patches = np.concatenate([all_patches(node, values) for values in calls])
    assert found.count == len(patches)
    np.testing.assert_allclose(found.mean, patches.mean(0), rtol=1e-3, atol=1e-4)


def test_dense_layers_have_their_channels_last() -> None:
    net, inputs = randomised(ChannelsLast()), (images(8),)
    graph, parameters = trace(net, (inputs[0][:1],)), parameters_of(net)
    engine, plain = MindSporeEngine(net, graph), PlanCompressor(SearchSpace(graph, ()), parameters)(Plan())
    seen, found = engine.layer_inputs(plain, inputs), layer_moments(engine, graph, plain, inputs)
    for layer, channels in (("wide", 12), ("narrow", 24)):
        assert seen[layer][0].shape[1:] == (12, 12, channels)
        np.testing.assert_allclose(found[layer].mean, seen[layer][0].mean((0, 1, 2)), atol=1e-5)


def test_layers_share_a_range_where_all_that_they_read_is_the_same() -> None:
    """``left`` reads what ``both`` reads first; ``both`` runs on something else, too."""

    def dense(name: str, layer: str, source: int) -> Node:
        return Node(
            name, "dense", "MatMul", (source,), (1, 2), layer, (2, 2), NodeAttributes((Argument("node", source),))
        )

    nodes = (Node("x", "input", "Input", (), (1, 2)), Node("relu", "activation", "ReLU", (0,), (1, 2)))
    layers = (
        dense("both", "both", 0),
        dense("left", "left", 0),
        dense("right", "right", 0),
        dense("both@5", "both", 1),
    )
    graph = NetworkGraph((*nodes, *layers), (3, 4, 5))
    assert calibration._readers(graph, graph.layers) == [["both"], ["left", "right"]]


def test_hessians_are_the_same_each_time(subject: Subject) -> None:
    plain, layers = subject.evaluator.compress(Plan()), list(subject.graph.layers)
    again = layer_hessians(OnnxEngine(subject.graph, subject.parameters), subject.graph, plain, (subject.x,), layers)
    for layer, moments in subject.evaluator.compressor.patches.items():
        np.testing.assert_array_equal(again[layer].covariance, moments.covariance)
        np.testing.assert_array_equal(again[layer].mean, moments.mean)


def test_only_layers_that_may_be_rounded_and_are_narrow(
    named_subject: Callable[[str], Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = named_subject("concatenating")
    plain, everything = subject.evaluator.compress(Plan()), set(subject.graph.layers)

    def layers() -> set[str]:
        few = (subject.x[:2],)
        return set(layer_hessians(subject.evaluator.engine, subject.graph, plain, few, everything))

    assert rounded_layers(subject.space) == everything
    assert rounded_layers(subject.space, below=4) == set()
    widest = max(everything, key=lambda layer: patch_width(subject.graph.nodes[subject.graph.layers[layer]]))
    monkeypatch.setattr(patches, "MOST_WIDTH", 431)
    assert layers() == everything - {widest}
    monkeypatch.setattr(patches, "MOST_MOMENTS", 20**2 + 16**2 + 27**2)
    assert layers() == {"head", "narrow.0", "stem.0"}, "the narrowest first"


class Slow:
    """An engine that takes so many seconds of a clock for a pass, and for each sample of it."""

    def __init__(self, clock: FakeClock, seconds: float, begun: float = 0.0) -> None:
        self.clock, self.seconds, self.begun, self.asked = clock, seconds, begun, 0

    def layer_inputs(self, compressed: Any, inputs: tuple[np.ndarray, ...]) -> dict[str, list[np.ndarray]]:
        self.asked += len(inputs[0])
        self.clock.now += self.begun + self.seconds * len(inputs[0])
        return {}


@pytest.mark.parametrize(
    ("limit", "seconds", "count"),
    [
        (None, 10.0, 64),
        (1000.0, 0.1, 64),
        (65.0, 0.1, 32),
        (20.0, 0.1, 16),
        (1.0, 0.1, 4),
        (0.0, 0.1, 4),
        (60.0, 9.0, 4),
    ],
)
def test_fewer_samples_where_time_is_short(
    limit: float | None, seconds: float, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock.install(monkeypatch)
    engine, samples = Slow(clock, seconds), (np.arange(64.0)[:, None], np.arange(64.0))
    deadline = None if limit is None else Deadline(limit)
    found = calibration_within(engine, None, samples, deadline)  # type: ignore[arg-type]
    assert [len(array) for array in found] == [count, count]
    assert engine.asked == (0 if limit is None else 1 if count == 64 else 5)
    np.testing.assert_array_equal(found[1], np.arange(count))


def test_what_a_pass_takes_for_however_few_samples_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock.install(monkeypatch)
    engine, samples = Slow(clock, 0.01, begun=1.0), (np.arange(64.0)[:, None], np.arange(64.0))
    assert len(calibration_within(engine, None, samples, Deadline(60.0))[0]) == 64  # type: ignore[arg-type]
    assert len(calibration_within(engine, None, samples, Deadline(14.0))[0]) == 4  # type: ignore[arg-type]


JOINED = [
    Node("x", "input", "Input", (), (1, 3, 8, 8)),
    Node("a", "conv", "Conv2D", (0,), (1, 4, 8, 8), "a", (4, 3, 1, 1)),
    Node("b", "conv", "Conv2D", (0,), (1, 4, 8, 8), "b", (4, 3, 1, 1)),
    Node("ab", "concat", "Concat", (1, 2), (1, 8, 8, 8)),
    Node("c", "conv", "Conv2D", (3,), (1, 4, 8, 8), "c", (4, 8, 1, 1)),
    Node("abc", "concat", "Concat", (3, 4), (1, 12, 8, 8)),
    Node("d", "conv", "Conv2D", (5,), (1, 4, 8, 8), "d", (4, 12, 1, 1)),
]


def scales(*numbers: float, fixed: tuple[int, ...] = ()) -> list[float]:
    """Of the nodes before the last, as concatenations change them."""
    quantizers = {i: ActivationQuantizer(number, 0, 8) for i, number in enumerate(numbers)}
    found = as_concatenated(NetworkGraph(tuple(JOINED), (6,)), quantizers, fixed)
    return [found[i].scale for i in range(len(numbers))]


def test_what_a_concatenation_alone_reads_is_rounded_as_its_result_is() -> None:
    assert scales(1.0, 0.2, 0.5, 1.0, 0.3, 2.0) == [1.0, 1.0, 1.0, 1.0, 2.0, 2.0]


@pytest.mark.parametrize("wide", [False, True])
def test_nearly_equal_scales_beside_a_concatenation_become_the_larger_one(wide: bool) -> None:
    """Those of a concatenation and of one that others read, too, whichever is the larger one."""
    first, second = (1.1, 1.0) if wide else (1.0, 1.1)
    assert scales(1.0, 0.2, 0.5, first, 0.3, second) == [1.0, 1.1, 1.1, 1.1, 1.1, 1.1]
    assert scales(1.0, 0.2, 0.5, 1.0, 0.3, 1.3) == [1.0, 1.0, 1.0, 1.0, 1.3, 1.3]


def test_trained_scales_stay() -> None:
    assert scales(1.0, 0.2, 0.5, 1.0, 0.3, 1.1, fixed=(3,)) == [1.0, 1.0, 1.0, 1.0, 1.1, 1.1]
    assert scales(1.0, 0.2, 0.5, 1.0, 0.3, 1.1, fixed=(5,)) == [1.0, 1.1, 1.1, 1.1, 1.1, 1.1]
