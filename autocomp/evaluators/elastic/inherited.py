"""Measures plans by the weights that they inherit from a trained elastic network."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np

from autocomp.evaluators.accuracy import PlanEvaluator
from autocomp.evaluators.engines import Arrays, MindSporeEngine, OnnxEngine, with_structures
from autocomp.primitives.numerics.plan_compressor import Parameters, PlanCompressor
from autocomp.primitives.tracing.mindir import copy_network
from autocomp.primitives.tracing.platform import load_mindspore
from autocomp.search_spaces import Plan

from .training import ElasticWeights

IMAGES = 16, 1024  # fewest and most calibration samples for BatchNorm's statistics of the largest plan
WORK = 8e9  # MACs that they may take


def inheriting(net: Any, evaluator: PlanEvaluator, trained: ElasticWeights, calibration: Arrays) -> PlanEvaluator:
    """The evaluator of a search, with weights that plans inherit from a trained elastic network.

    BatchNorm's statistics of the largest plan are those of calibration samples, arrays (n, ...); those of other plans
    are moved from there, as in a search without training. The float network itself is measured as it was.
    """
    found = copy(evaluator)
    found.parameters = _with_statistics(net, evaluator, trained.parameters, calibration)
    found.engine = _engine(net, evaluator, found.parameters)
    before = evaluator.compressor
    found.compressor = PlanCompressor(
        before.space, found.parameters, {**before.ranges, **trained.ranges}, tensors=before.tensors,
        samples=before.samples, symmetric=before.symmetric, corrects=before.corrects,
        int16_sums=before.int16_sums,
    )  # fmt: skip
    plain = found.compressor(Plan())
    found.plain_statistics = found.engine.batch_statistics(plain, evaluator.statistics_inputs)
    found.plain_uncut = found.engine.batch_statistics(plain, evaluator.statistics_uncut)
    return found


def _with_statistics(
    net: Any, evaluator: PlanEvaluator, parameters: Parameters, calibration: Arrays
) -> dict[str, np.ndarray]:
    """The parameters with BatchNorm's statistics of the largest plan."""
    graph = evaluator.space.graph
    images = tuple(array[: int(np.clip(WORK / max(graph.macs, 1), *IMAGES))] for array in calibration)
    plain = PlanCompressor(evaluator.space, parameters)(Plan())
    seen = _engine(net, evaluator, parameters).batch_statistics(plain, images)
    norms = {node.layer: node.normalization for node in graph.nodes if node.kind == "batchnorm"}
    means = {norms[layer].mean: mean for layer, (mean, _) in seen.items()}
    variances = {norms[layer].variance: variance for layer, (_, variance) in seen.items()}
    return {**parameters, **means, **variances}


def with_parameters(net: Any, parameters: Parameters) -> Any:
    """A copy of the network with other values of its parameters."""
    ms = load_mindspore()
    twin = copy_network(net)
    for parameter in twin.get_parameters():
        if parameter.name in parameters:
            parameter.set_data(ms.Tensor(parameters[parameter.name]))
    return twin


def _engine(net: Any, evaluator: PlanEvaluator, parameters: Parameters) -> Any:
    engine = evaluator.engine
    if isinstance(engine, OnnxEngine):
        return OnnxEngine(engine.graph, parameters, engine.threads, engine.described_outputs)
    own = MindSporeEngine(with_parameters(net, parameters), evaluator.space.graph, engine.described_outputs)
    return with_structures(own, with_parameters(net, parameters), evaluator.space)
