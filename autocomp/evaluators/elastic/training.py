"""Trains one network for all plans of a space: its weights are used to being compressed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from autocomp.evaluators.accuracy import PlanEvaluator
from autocomp.evaluators.fine_tuning import FineTuning, Progress, TrainingSamples
from autocomp.primitives.numerics.plan_compressor import Parameters
from autocomp.primitives.numerics.quantizers import ActivationQuantizer
from autocomp.primitives.tracing.platform import execution_mode, load_mindspore
from autocomp.search_spaces import Plan, SearchSpace

KINDS = ("format", "keep", "skip")  # of knobs that the network trains; chains and zeros of 2:4 are left as they are
IN_TURN = 4  # steps: the largest plan, the smallest, and two random ones


@dataclass(frozen=True)
class ElasticWeights:
    """What the training gives.

    parameters: of the network, by name. ranges: (layer, bits) -> quantizer of the layer's input. steps: that were
    trained, one plan each. samples: in an epoch.
    """

    parameters: Parameters
    ranges: Mapping[tuple[str, int], ActivationQuantizer]
    steps: int
    samples: int


def train_shared(
    net: Any, evaluator: PlanEvaluator, train: Any, settings: FineTuning, progress: Progress | None = None
) -> ElasticWeights:
    """Train a copy of the network so that the plans of the evaluator's space can share its weights.

    Each step trains one plan, in turn the largest one (the float network), the smallest one and two random ones: the
    sandwich rule (Yu and Huang, ICCV 2019, section 3.1), in steps one after the other in the place of one step with
    four gradients. The float network is the teacher of all (Cai et al., ICLR 2020, section 3.3).

    train, settings: see :func:`autocomp.evaluators.fine_tuning.fine_tune`.
    """
    load_mindspore()
    from autocomp.primitives.cells.elastic_training import TrainableElasticNetwork

    samples = TrainingSamples(evaluator, train, settings)
    elastic = TrainableElasticNetwork(net, evaluator.space, evaluator.compressor.ranges, evaluator.symmetric)
    drawn = sandwich(evaluator.space, settings.seed)
    with execution_mode(graph=True):
        steps = samples.train(elastic.cell, net, [_choosing(elastic, drawn)], progress)
    return ElasticWeights(elastic.parameters(), elastic.ranges(), steps, samples.count)


def sandwich(space: SearchSpace, seed: int) -> Iterator[Plan]:
    """Plans in the order in which they are trained, without end."""
    rng = np.random.default_rng(seed)
    trained = np.array([knob.kind in KINDS for knob in space.knobs])
    smallest = space.decode(np.where(trained, space.sizes - 1, 0))
    while True:
        yield Plan()
        yield space.decode(np.where(trained, space.random(rng, 1)[0], 0))
        yield smallest
        yield space.decode(np.where(trained, space.random(rng, 1)[0], 0))


def _choosing(elastic: Any, plans: Iterator[Plan]) -> Any:
    """A callback that sets the next plan before each step."""
    from mindspore.train import LambdaCallback

    return LambdaCallback(on_train_step_begin=lambda _: elastic.set(next(plans)))
