"""On whole networks the cost model credits the layers with integers under atc that stand in integers in the file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from mindspore import nn

from autocomp.evaluators import OnnxEngine
from autocomp.evaluators.calibration import calibrate_ranges
from autocomp.hardware_models import device
from autocomp.hardware_models.lowered import LoweredNetwork
from autocomp.hardware_models.rates import FLOAT
from autocomp.primitives.choices import Choices
from autocomp.primitives.export.ascend.checking import checked_model
from autocomp.primitives.export.ascend.deployable import deployable_model
from autocomp.primitives.numerics.plan_compressor import PlanCompressor, parameters_of
from autocomp.primitives.registry import search_space
from autocomp.primitives.tracing.tracer import trace
from autocomp.search_spaces import Format, Plan, SearchSpace
from tests.big_networks import MobileNetV2, ResNet50
from tests.networks import randomised
from tests.primitives.export.integer_networks import FORMATS

NETWORKS: dict[str, Callable[[], nn.Cell]] = {"resnet50": ResNet50, "mobilenet_v2": MobileNetV2}


@dataclass(frozen=True)
class Calibrated:
    space: SearchSpace
    compressor: PlanCompressor

    def written(self, plan: Plan) -> set[str]:
        graph, parameters = self.space.graph, self.compressor.parameters
        model = deployable_model(graph, parameters, self.compressor(plan))
        names = set(checked_model(model, Path("net.onnx")).layers)
        return {node.layer for node in graph.nodes if node.layer and {node.name, f"{node.name}.product"} & names}

    def credited(self, plan: Plan) -> set[str]:
        graph, chip = self.space.graph, device("ascend-310p3")
        workload = self.space.workload(self.space.encode(plan)[None], 1)
        network = LoweredNetwork(chip, chip.program(graph), workload)
        return {layer for layer, i in graph.layers.items() if network.precision(i)[0] > FLOAT}


@pytest.fixture(scope="module", params=NETWORKS)
def network(request: pytest.FixtureRequest) -> Calibrated:
    net = randomised(NETWORKS[request.param]())
    x = np.random.default_rng(0).standard_normal((1, 3, 64, 64)).astype(np.float32)
    graph, parameters = trace(net, (x,)), parameters_of(net)
    space = search_space(graph, parameters, Choices([Format.parse(text) for text in FORMATS], 4, "rtn"))
    ranges = calibrate_ranges(OnnxEngine(graph, parameters), space, PlanCompressor(space, parameters)(Plan()), (x,))
    return Calibrated(space, PlanCompressor(space, parameters, ranges))


def plan_of(network: Calibrated, formats: list[str]) -> Plan:
    pairs = zip(network.space.graph.layers, formats, strict=True)
    return Plan({f"format/{layer}": text for layer, text in pairs if text != "float"})


def test_every_layer_of_a_plan_in_integers_is_credited_and_written(network: Calibrated) -> None:
    layers = list(network.space.graph.layers)
    plan = plan_of(network, ["w8a8"] * len(layers))
    assert network.written(plan) == network.credited(plan) == set(layers)


def test_of_a_mixed_plan_the_same_layers_are_credited_and_written(network: Calibrated) -> None:
    chosen = np.random.default_rng(0).choice(FORMATS, len(network.space.graph.layers))
    plan = plan_of(network, list(map(str, chosen)))
    found = network.written(plan)
    assert found == network.credited(plan) and 0 < len(found) < len(network.space.graph.layers)
