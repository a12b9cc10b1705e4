"""Plans with 2:4 sparse layers: trained, rebuilt, saved and loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autocomp
from autocomp.deployment.deploy import NetworkDeployer
from autocomp.deployment.restore import restore
from autocomp.evaluators.fine_tuning import FineTuning, fine_tune
from autocomp.primitives.choices import Choices
from autocomp.primitives.numerics.plan_compressor import parameters_of
from autocomp.primitives.tracing.platform import load_mindspore
from autocomp.problem.jobs import evaluator_of
from autocomp.results.front import ParetoSet
from autocomp.search_spaces import Format, Plan
from tests.conftest import Subject

CHOICES = Choices(
    [Format.parse(text) for text in ("w8", "w4")], 4, ("channel-pruning", "adaround", "sparsity"), gains={
        "sparsity/blocks.0.conv2": ("2:4",), "sparsity/head": ("2:4",)
    },
)  # fmt: skip
PLAN = Plan({"sparsity/blocks.0.conv2": "2:4", "format/blocks.0.conv2": "w4", "sparsity/head": "2:4", "keep/stem": 0.5})
Made = tuple[Subject, Any]


@pytest.fixture(scope="module")
def made(named_subject: Callable[[str], Subject]) -> Made:
    subject = named_subject("residual")
    return subject, evaluator_of(subject.net, subject.graph, CHOICES, (subject.x,), None, (subject.x,))


def _most_in_four(weight: np.ndarray) -> int:
    rows = np.moveaxis(weight, 1, -1)
    return int((rows.reshape(-1, 4) != 0).sum(1).max())


def test_zeros_stay_zeros_while_a_plan_trains(made: Made) -> None:
    subject, evaluator = made
    settings = FineTuning(epochs=1, batch=16, rate=0.01)
    tuned = fine_tune(subject.net, evaluator, PLAN, (subject.x, None), settings, (subject.x,))
    before = evaluator.compress(PLAN).layers
    for layer in ("blocks.0.conv2", "head"):
        weight = tuned.compressed.layers[layer].weight
        assert _most_in_four(weight) == 2
        assert np.abs(weight - before[layer].weight).max() > 1e-4, "it is trained"
    assert _most_in_four(tuned.compressed.layers["blocks.1.conv2"].weight) > 2


def test_levels_without_a_zero_are_not_trained(named_subject: Callable[[str], Subject]) -> None:
    subject = named_subject("residual")
    choices = Choices([Format.parse("w2")], 4, ("rtn", "sparsity"))
    evaluator = evaluator_of(subject.net, subject.graph, choices, (subject.x,), None, (subject.x,))
    plan = Plan({"sparsity/head": "2:4", "format/head": "w2"})
    with pytest.raises(ValueError, match="lsq has no zero among its levels of 2 bits, but head is sparse"):
        fine_tune(subject.net, evaluator, plan, (subject.x, None), FineTuning(epochs=1), (subject.x,))


def test_a_sparse_network_is_rebuilt(made: Made) -> None:
    ms, (subject, evaluator) = load_mindspore(), made
    small = NetworkDeployer(subject.net, evaluator, (subject.x,), CHOICES).net(PLAN)
    again = autocomp.rebuild(subject.net, PLAN, subject.x[:1])
    missing, unused = ms.load_param_into_net(again, {p.name: p for p in small.get_parameters()}, True)
    assert not missing and not unused
    for name, value in parameters_of(small).items():
        np.testing.assert_array_equal(parameters_of(again)[name], value)
    for plan in ({"sparsity/nowhere": "2:4"}, {"sparsity/head": "1:4"}):
        with pytest.raises(ValueError, match="the plan must make a layer '2:4' sparse"):
            autocomp.rebuild(subject.net, plan, subject.x[:1])


def test_the_space_and_its_numbers_are_restored(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject, evaluator = made
    NetworkDeployer(subject.net, evaluator, (subject.x,), CHOICES).store(tmp_path, [])
    monkeypatch.setattr(ParetoSet, "load", lambda folder, deployer, resolver: deployer)
    monkeypatch.setattr("autocomp.deployment.restore._resolver", lambda *_: None)  # there is no front in the folder
    restored: Any = restore(subject.net, tmp_path)
    assert restored.evaluator.space.key == evaluator.space.key and restored.choices.gains == CHOICES.gains
    before, after = evaluator.compress(PLAN).layers, restored.evaluator.compress(PLAN).layers
    for layer, state in before.items():
        np.testing.assert_array_equal(after[layer].weight, state.weight)
