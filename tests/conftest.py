"""Networks, traced and calibrated once for all tests: MindSpore needs seconds to import and to compile."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("AUTOCOMP_CPU", "assumed")  # no test depends on how fast this machine is
FORMATS = ("float", "w8", "w8a8", "w4", "w4a8")


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """The command line sets up logging for a process of its own; here the next test gets it as it was."""
    logger = logging.getLogger("autocomp")
    before = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.level, logger.propagate = before


@dataclass
class Subject:
    """A network with everything that carries plans out on it."""

    name: str
    net: Any
    graph: Any
    space: Any
    parameters: dict[str, np.ndarray]
    evaluator: Any
    x: np.ndarray

    def plans(self, count: int, seed: int = 0) -> list[Any]:
        return [self.space.decode(v) for v in self.space.random(np.random.default_rng(seed), count)]


@cache
def subject_of(name: str) -> Subject:
    from autocomp.evaluators import OnnxEngine, PlanEvaluator
    from autocomp.evaluators.calibration import layer_hessians, layer_moments, rounded_layers
    from autocomp.primitives.choices import Choices
    from autocomp.primitives.numerics.plan_compressor import PlanCompressor, parameters_of
    from autocomp.primitives.registry import search_space
    from autocomp.primitives.tracing.tracer import trace
    from autocomp.search_spaces import Format, Plan, SearchSpace

    from .networks import NETWORKS, OTHERS, images, randomised, tokens

    net = randomised((NETWORKS | OTHERS)[name]())
    x = (tokens if name == "tokens" else images)(64)
    graph = trace(net, (x[:1],))
    parameters = parameters_of(net)
    engine = OnnxEngine(graph, parameters)
    plain = PlanCompressor(SearchSpace(graph, ()), parameters)(Plan())
    moments = layer_moments(engine, graph, plain, (x,))
    space = search_space(graph, parameters, Choices([Format.parse(text) for text in FORMATS], 4), moments)
    labels = np.random.default_rng(1).integers(0, 5, len(x))
    patches = layer_hessians(engine, graph, plain, (x,), rounded_layers(space))
    evaluator = PlanEvaluator(engine, space, parameters, (x,), labels, (x,), moments=moments, patches=patches)
    return Subject(name, net, graph, space, parameters, evaluator, x)


@dataclass
class Twice:
    """A network that runs a convolution and a BatchNorm twice, with both engines."""

    net: Any
    space: Any
    parameters: dict[str, np.ndarray]
    plain: Any
    engines: dict[str, Any]
    x: np.ndarray


@pytest.fixture(scope="session")
def normalised_twice() -> Twice:
    from autocomp.evaluators import MindSporeEngine, OnnxEngine
    from autocomp.primitives.choices import Choices
    from autocomp.primitives.numerics.plan_compressor import PlanCompressor, parameters_of
    from autocomp.primitives.registry import search_space
    from autocomp.primitives.tracing.tracer import trace
    from autocomp.search_spaces import Format, Plan

    from .networks import images, randomised
    from .odd_networks import NormalisedTwice

    net, x = randomised(NormalisedTwice()), images(8)
    graph, parameters = trace(net, (x[:1],)), parameters_of(net)
    space = search_space(graph, parameters, Choices([Format.parse(text) for text in FORMATS], 4))
    engines = {"onnx": OnnxEngine(graph, parameters), "mindspore": MindSporeEngine(net, graph)}
    return Twice(net, space, parameters, PlanCompressor(space, parameters)(Plan()), engines, x)


@pytest.fixture(scope="session", params=["residual", "concatenating", "depthwise"])
def subject(request: pytest.FixtureRequest) -> Subject:
    return subject_of(request.param)


@pytest.fixture(scope="session")
def named_subject() -> Callable[[str], Subject]:
    return subject_of
