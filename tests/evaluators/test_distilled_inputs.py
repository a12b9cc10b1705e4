"""Inputs for networks without data, held against BatchNorm's running statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from mindspore import Tensor, nn, ops

import autocomp
from autocomp.evaluators import distilled_inputs, synthetic_inputs
from autocomp.evaluators.accuracy import calibrated_on
from autocomp.evaluators.distilled_inputs import affordable_steps, distil, inputs_without_data
from autocomp.primitives.cells.layer_pass import inputs_of_calls
from autocomp.primitives.distillation import matched_statistics
from autocomp.primitives.distillation.matched_statistics import batchnorms, statistics_gradient
from autocomp.primitives.numerics.plan_compressor import parameters_of
from autocomp.primitives.tracing.surgery import cell_at
from autocomp.primitives.tracing.tracer import trace
from autocomp.process.deadline import Deadline
from autocomp.search_spaces import NetworkGraph
from tests.clock import FakeClock
from tests.conftest import Subject, Twice
from tests.networks import conv, images, randomised

Arrays = tuple[np.ndarray, ...]
STEPS = 30


class TwoRoads(nn.Cell):
    """An image and a vector in, each behind a BatchNorm of its own that only one of two nested outputs sees."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.SequentialCell(conv(3, 8), nn.BatchNorm2d(8))
        self.vector = nn.SequentialCell(nn.Dense(6, 8), nn.BatchNorm1d(8))

    def construct(self, x: Tensor, y: Tensor) -> Any:
        return ops.mean(self.image(x), (2, 3)), (self.vector(y), y)


@pytest.fixture(scope="module")
def residual(named_subject: Callable[[str], Subject]) -> Subject:
    return named_subject("residual")


@pytest.fixture(scope="module", autouse=True)
def few_steps() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distilled_inputs, "STEPS", STEPS)
        yield


@pytest.fixture(scope="module")
def distilled(residual: Subject, few_steps: None) -> np.ndarray:
    return inputs_without_data(residual.net, residual.graph, residual.parameters, 0)[0]


def running(graph: NetworkGraph, parameters: Mapping[str, np.ndarray], layer: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation."""
    node = batchnorms(graph)[layer]
    mean, variance = (parameters[name] for name in node.normalization.statistics)
    return mean, np.sqrt(variance + node.normalization.epsilon)


def distance(net: Any, graph: NetworkGraph, parameters: Mapping[str, np.ndarray], inputs: Arrays) -> float:
    """From what each BatchNorm reads, over all of its calls."""
    cells = {layer: cell_at(net, layer) for layer in batchnorms(graph)}
    found = []
    for layer, calls in inputs_of_calls(net, cells, inputs).items():
        mean, deviation = running(graph, parameters, layer)
        for read in calls:
            axes = (0, *range(2, read.ndim))
            moved, wider = read.mean(axes) - mean, read.std(axes) - deviation
            found.append(np.mean((moved**2 + wider**2) / deviation**2))
    return float(np.mean(found))


def test_distance_and_gradient_are_those_of_the_statistics(residual: Subject) -> None:
    parts = residual.net, residual.graph, residual.parameters
    x = images(8, seed=3)
    found, (slope,) = statistics_gradient(*parts)((x,))
    assert found == pytest.approx(distance(*parts, (x,)), rel=1e-3)
    length, direction = np.float32(1e-2), np.sign(slope)
    ahead, behind = (distance(*parts, (x + side * length * direction,)) for side in (1, -1))
    assert (ahead - behind) / (2 * length) == pytest.approx(float(np.abs(slope).sum()), rel=0.05)


def test_statistics_come_nearer(residual: Subject, distilled: np.ndarray) -> None:
    parts = residual.net, residual.graph, residual.parameters
    (noise,) = synthetic_inputs(residual.graph, 0)
    assert distilled.shape == (64, *noise.shape[1:]) and distilled.dtype == np.float32
    assert distance(*parts, (distilled,)) < 0.5 * distance(*parts, (noise[:64],))


def test_same_seed_same_inputs_and_the_network_stays_as_it_is(residual: Subject, distilled: np.ndarray) -> None:
    before = {name: value.copy() for name, value in parameters_of(residual.net).items()}
    (again,) = inputs_without_data(residual.net, residual.graph, residual.parameters, 0)
    np.testing.assert_array_equal(distilled, again)
    after = parameters_of(residual.net)
    assert before.keys() == after.keys() and all(np.array_equal(before[name], after[name]) for name in before)


def test_a_batchnorm_that_runs_twice(normalised_twice: Twice) -> None:
    """Of what it reads the second time little can be what its statistics say; together both come nearer."""
    parts = normalised_twice.net, normalised_twice.space.graph, normalised_twice.parameters
    start = (normalised_twice.x,)
    found = distil(statistics_gradient(*parts), start, STEPS)
    assert found is not None and distance(*parts, found) < 0.9 * distance(*parts, start)


def test_several_inputs_and_nested_outputs() -> None:
    net = randomised(TwoRoads())
    graph = trace(net, (images(1), np.zeros((1, 6), np.float32)))
    noise = synthetic_inputs(graph, 0)
    found = inputs_without_data(net, graph, parameters_of(net), 0)
    assert [x.shape for x in found] == [(64, *x.shape[1:]) for x in noise]
    assert all(np.abs(x - y[:64]).max() > 0.1 for x, y in zip(found, noise, strict=True))


class TestNoise:
    """Where nothing can be distilled."""

    def test_without_batchnorm(self) -> None:
        net = randomised(nn.SequentialCell(conv(3, 8), nn.ReLU(), conv(8, 4)))
        graph = trace(net, (images(1),))
        (found,) = inputs_without_data(net, graph, parameters_of(net), 0)
        np.testing.assert_array_equal(found, synthetic_inputs(graph, 0)[0])

    @pytest.mark.parametrize(("limit", "calls"), [(0.0, 1), (20.0, 2), (61.0, 2), (63.0, 31), (None, 31)])
    def test_steps_that_would_end_too_late_are_not_made(
        self, limit: float | None, calls: int, residual: Subject, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A step takes 2 seconds of this clock, and there are 30."""
        clock, made = FakeClock.install(monkeypatch), []

        def gradient(inputs: Arrays) -> tuple[float, Arrays]:
            clock.now += 2
            made.append(1)
            return 1 / len(made), tuple(np.ones_like(x) for x in inputs)

        monkeypatch.setattr(matched_statistics, "statistics_gradient", lambda *_: gradient)
        (found,) = inputs_without_data(
            residual.net, residual.graph, residual.parameters, 0, deadline=None if limit is None else Deadline(limit)
        )
        assert len(made) == calls
        assert np.array_equal(found, synthetic_inputs(residual.graph, 0)[0]) == (calls < 31)

    def test_without_a_gradient(self, residual: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
        def fails(*_: Any) -> Any:
            raise RuntimeError("no gradient of this operator")

        monkeypatch.setattr(matched_statistics, "statistics_gradient", fails)
        (found,) = inputs_without_data(residual.net, residual.graph, residual.parameters, 0)
        np.testing.assert_array_equal(found, synthetic_inputs(residual.graph, 0)[0])

    @pytest.mark.parametrize(("later", "slope"), [(np.nan, 1.0), (0.5, np.nan), (2.0, 1.0)])
    def test_where_it_comes_no_nearer(self, later: float, slope: float) -> None:
        distances = iter([1.0] + [later] * STEPS)
        x = np.ones((4, 3), np.float32)
        assert distil(lambda _: (next(distances), (np.full_like(x, slope),)), (x,), STEPS) is None

    def test_where_it_is_too_much_work(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(distilled_inputs, "STEPS", 100)
        small, large = SimpleNamespace(shape=(1, 8, 5, 5)), SimpleNamespace(shape=(1, 2000, 100, 100))
        work: list[Any] = [SimpleNamespace(macs=macs, nodes=(small,)) for macs in (0, 4e7, 3e8, 1.8e9, 4.1e9)]
        work.append(SimpleNamespace(macs=3e8, nodes=(small, large)))
        expected = [(64, 100), (64, 100), (36, 100), (16, 38), (16, 0), (16, 29)]
        assert [affordable_steps(graph) for graph in work] == expected


def test_all_are_calibrated_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A saved front has what it was calibrated on, and is judged on that again."""
    monkeypatch.setattr(distilled_inputs, "STEPS", 100)
    for macs in np.logspace(5, 9, 9):
        graph: Any = SimpleNamespace(macs=macs, nodes=())
        count, _ = affordable_steps(graph)
        assert len(calibrated_on(graph, (np.zeros(count),))[0]) == count


def test_a_front_is_judged_on_the_same_inputs_again(tmp_path: Path) -> None:
    net = randomised(nn.SequentialCell(conv(3, 8), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Dense(1152, 4)))
    search: dict[str, Any] = {"inputs": (1, 3, 12, 12), "trials": 4, "progress": False}
    found = autocomp.search(net, None, "cpu", **search)
    assert found.float_point.fidelity == "64 synthetic inputs"
    loaded = autocomp.load(found.save(tmp_path / "front"), net)
    plan, expected = next((point.plan, point.accuracy) for point in found.evaluated if point.accuracy < 1)
    deployer: Any = loaded.deployer
    assert deployer.evaluator.evaluate(plan).accuracy == expected
