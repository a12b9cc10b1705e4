"""Both engines give the same numbers: one contract, run over each."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from mindspore import Parameter, Tensor, int32

from autocomp.errors import EvaluationError
from autocomp.evaluators import Engine, MindSporeEngine, OnnxEngine, PlanEvaluator, choose_engine, relative_error
from autocomp.evaluators.engines import BATCH
from autocomp.primitives.export.onnx_network import onnx_network
from autocomp.primitives.numerics.plan_compressor import PlanCompressor, parameters_of
from autocomp.primitives.tracing.platform import forward
from autocomp.primitives.tracing.tracer import trace
from autocomp.search_spaces import NetworkGraph, Plan, SearchSpace
from autocomp.study.executors import executor
from tests.conftest import Subject, Twice
from tests.networks import images, nn, randomised
from tests.odd_networks import BesselFunction, SeveralEnds


def engine_of(kind: str, subject: Subject) -> Engine:
    if kind == "onnx":
        return OnnxEngine(subject.graph, subject.parameters)
    return MindSporeEngine(subject.net, subject.graph)


def weights_only(subject: Subject, seed: int = 3) -> Plan:
    """A random plan without rounded activations."""
    return Plan({name: str(v).partition("a8")[0] if name.startswith("format") else v
                 for name, v in subject.plans(1, seed)[0].items()})  # fmt: skip


@pytest.mark.parametrize("kind", ["onnx", "mindspore"])
class TestContract:
    @pytest.fixture
    def engine(self, kind: str, subject: Subject) -> Engine:
        return engine_of(kind, subject)

    def test_float_outputs_are_the_networks(self, engine: Engine, subject: Subject) -> None:
        found = engine.outputs(subject.evaluator.compress(Plan()), (subject.x[:8],))
        expected = forward(subject.net, (subject.x[:8],), graph=False)
        assert len(found) == 1 and found[0].shape == (8, 5) and found[0].dtype == np.float32
        assert relative_error(found[0], expected[0]) < 1e-5

    def test_one_output_for_each_image_whatever_the_batches(self, engine: Engine, subject: Subject) -> None:
        compressed = subject.evaluator.compress(weights_only(subject))
        x = images(BATCH + 7)
        found = engine.outputs(compressed, (x,))[0]
        assert found.shape == (BATCH + 7, 5)
        alone = engine.outputs(compressed, (x[BATCH:],))[0]
        np.testing.assert_allclose(found[BATCH:], alone, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(found, engine.outputs(compressed, (x,))[0])

    def test_layer_inputs(self, engine: Engine, subject: Subject) -> None:
        found = engine.layer_inputs(subject.evaluator.compress(Plan()), (subject.x[:8],))
        assert set(found) == set(subject.graph.layers)
        for layer, calls in found.items():
            source = subject.graph.nodes[subject.graph.nodes[subject.graph.layers[layer]].inputs[0]]
            assert [values.shape for values in calls] == [(8, *source.shape[1:])]
        first = next(iter(subject.graph.layers))
        np.testing.assert_array_equal(found[first][0], subject.x[:8])

    def test_batch_statistics(self, engine: Engine, subject: Subject) -> None:
        """Of the first BatchNorm they are the moments of what its convolution puts out, computed here by hand."""
        compressed = subject.evaluator.compress(Plan())
        found = engine.batch_statistics(compressed, (subject.x[:16],))
        norms = [node for node in subject.graph.nodes if node.kind == "batchnorm"]
        assert set(found) == {node.layer for node in norms}
        source = subject.graph.nodes[norms[0].inputs[0]]
        assert source.layer is not None
        (mean, variance), x = found[norms[0].layer or ""], self.layer_input(engine, subject, source.layer)
        y = convolved(x, subject.parameters[source.weight], source.convolution.stride[0])
        np.testing.assert_allclose(mean, y.mean((0, 2, 3)), rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(variance, y.var((0, 2, 3)), rtol=1e-3, atol=1e-4)

    @staticmethod
    def layer_input(engine: Engine, subject: Subject, layer: str) -> np.ndarray:
        return engine.layer_inputs(subject.evaluator.compress(Plan()), (subject.x[:16],))[layer][0]


def convolved(x: np.ndarray, weight: np.ndarray, stride: int) -> np.ndarray:
    """A 3x3 convolution with padding 1."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))  # type: ignore[call-overload]
    windows = windows[:, :, ::stride, ::stride]
    return np.einsum("nchwij,ocij->nohw", windows, weight)


class TestSameNumbers:
    @pytest.fixture
    def both(self, subject: Subject) -> tuple[Engine, Engine]:
        return engine_of("onnx", subject), engine_of("mindspore", subject)

    def test_outputs(self, both: tuple[Engine, Engine], subject: Subject) -> None:
        for seed in range(3):
            compressed = subject.evaluator.compress(weights_only(subject, seed))
            found, expected = (engine.outputs(compressed, (subject.x,))[0] for engine in both)
            assert relative_error(found, expected) < 1e-4

    def test_classes_under_rounded_activations(self, both: tuple[Engine, Engine], subject: Subject) -> None:
        for plan in subject.plans(3, seed=4):
            compressed = subject.evaluator.compress(plan)
            found, expected = (engine.outputs(compressed, (subject.x,))[0] for engine in both)
            assert np.mean(found.argmax(1) == expected.argmax(1)) >= 0.95

    def test_layer_inputs_of_what_is_kept(self, both: tuple[Engine, Engine], subject: Subject) -> None:
        """The elastic network still computes cut channels, and its readers' weights there are zero."""
        from autocomp.primitives.numerics.plan_compressor import kept_channels

        compressed = subject.evaluator.compress(weights_only(subject))
        found, whole = (engine.layer_inputs(compressed, (subject.x[:8],)) for engine in both)
        for layer, i in subject.graph.layers.items():
            kept = kept_channels(subject.graph.input_units(subject.graph.nodes[i]), compressed.kept)
            expected = whole[layer][0][:, kept]
            assert relative_error(found[layer][0], expected) < 1e-4, layer

    def test_statistics_of_what_is_kept(self, both: tuple[Engine, Engine], subject: Subject) -> None:
        compressed = subject.evaluator.compress(weights_only(subject))
        found, expected = (engine.batch_statistics(compressed, (subject.x,)) for engine in both)
        assert found.keys() == expected.keys()
        for layer, moments in found.items():
            for a, b in zip(moments, expected[layer], strict=True):
                assert relative_error(a, b) < 1e-4, layer

    def test_of_all_calls_of_what_runs_several_times(self, normalised_twice: Twice) -> None:
        twice = normalised_twice
        found, expected = (engine.layer_inputs(twice.plain, (twice.x,))["twice.0"] for engine in twice.engines.values())
        assert len(found) == len(expected) == 2
        assert all(relative_error(a, b) < 1e-5 for a, b in zip(found, expected, strict=True))
        assert relative_error(found[0], found[1]) > 0.5

    @pytest.mark.parametrize("kind", ["onnx", "mindspore"])
    def test_statistics_are_averages_over_calls(self, normalised_twice: Twice, kind: str) -> None:
        twice, parameters = normalised_twice, normalised_twice.parameters
        engine = twice.engines[kind]
        read = engine.layer_inputs(twice.plain, (twice.x,))["twice.0"][0]
        moments = []
        for _ in range(2):
            y = convolved(read, parameters["twice.0.weight"], 1)
            moments.append((y.mean((0, 2, 3)), y.var((0, 2, 3))))
            mean, deviation = moments[-1][0][:, None, None], np.sqrt(moments[-1][1] + 1e-5)[:, None, None]
            gamma, beta = (parameters[f"twice.1.{name}"][:, None, None] for name in ("gamma", "beta"))
            read = 10 * np.maximum((y - mean) / deviation * gamma + beta, 0)
        found = engine.batch_statistics(twice.plain, (twice.x,))
        assert set(found) == {"twice.1"}
        np.testing.assert_allclose(found["twice.1"], np.mean(moments, 0), rtol=1e-3, atol=1e-4)


class TestOnnxEngine:
    def test_threads_do_not_change_a_bit(self, subject: Subject) -> None:
        compressed = subject.evaluator.compress(subject.plans(1)[0])
        x = images(3 * BATCH + 11)
        found = [OnnxEngine(subject.graph, subject.parameters, n).outputs(compressed, (x,))[0] for n in (1, 2, 5)]
        np.testing.assert_array_equal(found[0], found[1])
        np.testing.assert_array_equal(found[0], found[2])

    def test_plans_at_once_give_the_outputs_of_plans_by_themselves(self, subject: Subject) -> None:
        fresh = pickle.loads(pickle.dumps(subject.evaluator))  # which has nothing made yet
        fresh.engine.threads = 3
        assert fresh.at_once == 3
        plans = subject.plans(9, seed=6)
        with executor(fresh) as evaluate:
            found = dict(evaluate.ask(first_output, plans))
        for i, plan in enumerate(plans):
            outputs = found[i]
            assert isinstance(outputs, np.ndarray)
            np.testing.assert_array_equal(outputs, first_output(subject.evaluator, plan))

    def test_large_networks_run_alone(self) -> None:
        graph = NetworkGraph((), ())
        large = OnnxEngine(graph, {"weight": np.broadcast_to(np.float32(0), (80_000_000,))}, threads=8)
        assert (large.at_once, OnnxEngine(graph, {}, threads=8).at_once) == (1, 4)

    def test_picklable(self, subject: Subject) -> None:
        engine = OnnxEngine(subject.graph, subject.parameters)
        copy = pickle.loads(pickle.dumps(engine))
        compressed = subject.evaluator.compress(subject.plans(1)[0])
        np.testing.assert_array_equal(
            copy.outputs(compressed, (subject.x,))[0], engine.outputs(compressed, (subject.x,))[0]
        )


def first_output(evaluator: PlanEvaluator, plan: Plan) -> np.ndarray:
    return evaluator.engine.outputs(evaluator.compress(plan), evaluator.inputs)[0]


def test_mindspore_cannot_be_sent_to_workers(named_subject: Callable[[str], Subject]) -> None:
    with pytest.raises(EvaluationError, match=r"evaluated by MindSpore, which cannot be sent to workers: use workers="):
        pickle.dumps(engine_of("mindspore", named_subject("residual")))


class TestChoice:
    @staticmethod
    def choose(net: nn.Cell, inputs: tuple[np.ndarray, ...], factor: float = 1.0) -> tuple[Engine, SearchSpace]:
        graph = trace(net, tuple(x[:1] for x in inputs))
        parameters = parameters_of(net)
        space = SearchSpace(graph, ())
        outputs = tuple(factor * output for output in forward(net, inputs, graph=False))
        return choose_engine(net, graph, parameters, PlanCompressor(space, parameters)(Plan()), inputs, outputs), space

    def test_onnx_where_it_can_be(self) -> None:
        engine, _ = self.choose(randomised(SeveralEnds()), (images(2), np.ones((2, 6), np.float32)))
        assert isinstance(engine, OnnxEngine)

    def test_mindspore_where_there_is_no_onnx_form(self, caplog: pytest.LogCaptureFixture) -> None:
        net, x = randomised(BesselFunction()), images(3)
        with caplog.at_level(logging.INFO, logger="autocomp"):
            engine, space = self.choose(net, (x,))
        assert isinstance(engine, MindSporeEngine)
        assert "MindSpore evaluates plans, since the network has no ONNX form" in caplog.text
        assert "BesselI0" in caplog.text
        found = engine.outputs(PlanCompressor(space, parameters_of(net))(Plan()), (x,))[0]
        assert relative_error(found, forward(net, (x,), graph=False)[0]) < 1e-5

    def test_onnx_where_a_layer_is_called_as_the_argument(self) -> None:
        class Named(nn.Cell):
            def __init__(self) -> None:
                super().__init__()
                self.tokens, self.head = nn.Dense(8, 16), nn.Dense(16, 4)

            def construct(self, tokens: Tensor) -> Tensor:
                return self.head(self.tokens(tokens))

        engine, _ = self.choose(Named(), (np.ones((3, 8), np.float32),))
        assert isinstance(engine, OnnxEngine)

    def test_integers_and_floats_are_multiplied(self) -> None:
        class Masked(nn.Cell):
            def __init__(self) -> None:
                super().__init__()
                self.layer, self.mask = nn.Dense(8, 4), Parameter(Tensor(np.arange(4) % 2, int32), name="mask")

            def construct(self, x: Tensor) -> Tensor:
                return self.layer(x) * self.mask

        engine, _ = self.choose(Masked(), (np.ones((3, 8), np.float32),))
        assert isinstance(engine, OnnxEngine)

    def test_mindspore_where_onnxruntime_refuses_the_model(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refused(*arguments: Any) -> Any:
            model = onnx_network(*arguments)
            model.graph.node[0].op_type = "NoSuchOperator"
            return model

        monkeypatch.setattr("autocomp.evaluators.engines.onnx_network", refused)
        engine, _ = self.choose(nn.SequentialCell(nn.Dense(8, 4)), (np.ones((3, 8), np.float32),))
        assert isinstance(engine, MindSporeEngine)

    def test_mindspore_where_onnx_computes_something_else(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING, logger="autocomp"):
            engine, _ = self.choose(randomised(SeveralEnds()), (images(2), np.ones((2, 6), np.float32)), factor=1.01)
        assert isinstance(engine, MindSporeEngine)
        assert "the ONNX form of the network differs by" in caplog.text


def test_relative_error() -> None:
    assert relative_error(np.array([1.0, 2.2]), np.array([1.0, 2.0])) == pytest.approx(0.1)
    assert relative_error(np.zeros(2), np.zeros(3)) == float("inf")
