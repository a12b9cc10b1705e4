"""One compiled network for every plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from autocomp.evaluators import MindSporeEngine
from autocomp.primitives.cells.conversion import convert
from autocomp.primitives.cells.elastic import ElasticNetwork
from autocomp.primitives.tracing.platform import forward
from autocomp.search_spaces import Plan
from tests.conftest import Subject
from tests.primitives.compilations import counted


@pytest.fixture(scope="module")
def elastic(subject: Subject) -> ElasticNetwork:
    return ElasticNetwork(subject.net, subject.graph)


@pytest.fixture(scope="module")
def inputs(subject: Subject) -> tuple[np.ndarray, ...]:
    return (subject.x[:4],)


def test_a_plan_compiles_nothing(subject: Subject, elastic: ElasticNetwork, inputs: tuple[np.ndarray, ...]) -> None:
    with counted() as compiled:
        elastic((subject.x[:3],))
    assert len(compiled) == 1, "another shape compiles, and that is counted"
    elastic(inputs)
    held = set(elastic.cell.compile_cache)
    seen = set()
    with counted() as compiled:
        for plan in [Plan(), *subject.plans(8)]:
            elastic.set(subject.evaluator.compress(plan))
            seen.add(elastic(inputs)[0].tobytes())
    assert compiled == []
    assert set(elastic.cell.compile_cache) == held
    assert len(seen) == 9, "each plan computes something of its own"


def test_without_a_plan_it_is_the_network(
    subject: Subject, elastic: ElasticNetwork, inputs: tuple[np.ndarray, ...]
) -> None:
    expected = forward(subject.net, inputs)[0]
    for plan in (subject.plans(1)[0], Plan()):
        elastic.set(subject.evaluator.compress(plan))
    np.testing.assert_allclose(elastic(inputs)[0], expected, rtol=1e-5, atol=1e-6)


def test_plans_leave_nothing_behind(subject: Subject, elastic: ElasticNetwork, inputs: tuple[np.ndarray, ...]) -> None:
    first, second = map(subject.evaluator.compress, subject.plans(2))
    found = []
    for compressed in (first, second, first):
        elastic.set(compressed)
        found.append(elastic(inputs)[0])
    np.testing.assert_array_equal(found[0], found[2])
    assert np.abs(found[0] - found[1]).max() > 1e-3


def test_the_network_itself_is_not_touched(subject: Subject, elastic: ElasticNetwork) -> None:
    elastic.set(subject.evaluator.compress(subject.plans(1)[0]))
    for parameter in subject.net.get_parameters():
        np.testing.assert_array_equal(parameter.asnumpy(), subject.parameters[parameter.name])


def test_reading_statistics_compiles_nothing_and_keeps_them(subject: Subject, inputs: tuple[np.ndarray, ...]) -> None:
    engine = MindSporeEngine(subject.net, subject.graph)
    compressed = subject.evaluator.compress(subject.plans(1)[0])
    before = engine.outputs(compressed, inputs)[0]
    with counted() as compiled:
        assert engine.batch_statistics(compressed, inputs)
        assert engine.layer_inputs(compressed, inputs)
        after = engine.outputs(compressed, inputs)[0]
    assert compiled == []
    np.testing.assert_array_equal(before, after)


class TestConverted:
    """What a plan says is really done: channels are gone, weights are integers."""

    def test_channels_are_gone(self, named_subject: Callable[[str], Subject]) -> None:
        subject = named_subject("residual")
        net = self.converted(subject, {"keep/stem": 0.5, "keep/blocks.1.conv2": 0.25})
        shapes = {p.name: p.shape for p in net.get_parameters()}
        assert shapes["stem.weight"] == (8, 3, 3, 3)
        assert shapes["blocks.0.conv1.weight"] == (16, 8, 3, 3)
        assert shapes["blocks.0.shortcut.0.weight"] == (16, 8, 1, 1)
        assert shapes["blocks.1.conv2.weight"] == (8, 32, 3, 3)
        assert shapes["blocks.1.shortcut.0.weight"] == (8, 16, 1, 1)
        assert shapes["head.weight"] == (5, 8)

    def test_grouped_convolutions_keep_their_groups(self, named_subject: Callable[[str], Subject]) -> None:
        net = self.converted(named_subject("depthwise"), {"keep/stem.0": 0.5, "keep/expand.0": 0.5})
        shapes = {name: (cell.weight.shape, cell.group) for name, cell in self.convolutions(net)}
        assert shapes["grouped.0"] == ((24, 2, 3, 3), 4)
        assert shapes["depthwise.0"] == ((16, 1, 3, 3), 16)
        assert shapes["project.0"] == ((8, 16, 1, 1), 1)

    def test_batchnorm_is_folded(self, named_subject: Callable[[str], Subject]) -> None:
        net = self.converted(named_subject("residual"), {})
        assert {p.name for p in net.get_parameters()} == {
            f"{layer}.{what}" for layer in named_subject("residual").graph.layers for what in ("weight", "bias")
        }

    def test_weights_are_stored_as_integers(self, named_subject: Callable[[str], Subject]) -> None:
        subject = named_subject("residual")
        net = self.converted(subject, {"format/blocks.0.conv1": "w8", "format/blocks.1.conv1": "w4a8"})
        parameters = {p.name: p.asnumpy() for p in net.get_parameters()}
        eight, four = (
            next(value for name, value in parameters.items() if name.startswith(layer) and value.dtype == np.int8)
            for layer in ("blocks.0.conv1", "blocks.1.conv1")
        )
        assert eight.size == 16 * 16 * 9
        assert four.size == 32 * 16 * 9 // 2, "two weights in a byte"
        assert parameters["stem.weight"].dtype == np.float32

    @staticmethod
    def converted(subject: Subject, plan: dict[str, Any]) -> Any:
        compressed = subject.evaluator.compress(Plan(plan))
        return convert(subject.net, subject.graph, subject.parameters, compressed)

    @staticmethod
    def convolutions(net: Any) -> list[tuple[str, Any]]:
        return [(name, cell) for name, cell in net.cells_and_names() if type(cell).__name__ == "Conv2d"]
