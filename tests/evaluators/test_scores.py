"""The scoring pass against measurements of every value, on networks and on sensitivities that are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from autocomp.errors import EvaluationError
from autocomp.evaluators import PlanEvaluator, Scores, score
from autocomp.evaluators import scores as scoring
from autocomp.primitives.choices import Choices
from autocomp.problem.jobs import evaluator_of
from autocomp.search_spaces import ChannelGroup, Format, Knob, NetworkGraph, Plan, SearchSpace
from tests.conftest import Subject

FORMATS = ("float", "w8", "w8a8", "w4", "w4a8")


@dataclass
class Known:
    """What hurts as a table says; ``measured`` counts the plans, ``calls`` how often some were asked for together."""

    space: SearchSpace
    table: Mapping[tuple[str, Any], float]
    measured: int = 0
    calls: int = 0

    def __call__(self, plans: Sequence[Plan]) -> list[float]:
        self.measured += len(plans)
        self.calls += 1
        return [sum(self.table[name, value] for name, value in plan.items()) for plan in plans]


def known(layers: int = 4, inputs: float = 0.05) -> Known:
    group = ChannelGroup("g", ("a",), 0, 8)
    keep = Knob("keep/g", "channels", ("a",), (1.0, 0.75, 0.5, 0.25), group, np.arange(8))
    formats = [Knob(f"format/l{i}", "rtn", (f"l{i}",), FORMATS) for i in range(layers)]
    table: dict[tuple[str, Any], float] = {("keep/g", r): (1 - r) ** 2 for r in (0.75, 0.5, 0.25)}
    for i, knob in enumerate(formats):
        weights = {"w8": 0.001 * i, "w4": 0.1 * i}
        table |= {(knob.name, name): sensitivity for name, sensitivity in weights.items()}
        table |= {(knob.name, f"{name}a8"): sensitivity + inputs * i for name, sensitivity in weights.items()}
    return Known(SearchSpace(NetworkGraph((), ()), (keep, *formats)), table)


def expected(subject: Known) -> list[list[float]]:
    return [[0.0, *(subject.table[k.name, v] for v in k.values[1:])] for k in subject.space.knobs]


def measured(subject: Known, most: int, errors: Mapping[str, np.ndarray] | None = None) -> list[list[float]]:
    return [list(sensitivity) for sensitivity in scoring._scores(subject.space, subject, most, errors or {})]


class Impatient(Known):
    """Measures ``patience`` plans, those at the end of the first call first; then nothing."""

    patience: int = 0

    def __call__(self, plans: Sequence[Plan]) -> list[float]:
        found = super().__call__(plans)
        for i in range(len(plans)):
            self.patience -= 1
            if self.patience < 0:
                found[len(plans) - 1 - i] = np.nan
        return found


@pytest.mark.parametrize("patience", [0, 1, 4, 9, 99])
def test_plans_for_which_there_was_no_time_are_estimated_from_the_others(patience: int) -> None:
    subject = Impatient(known().space, known().table)
    subject.patience = patience
    found = measured(subject, 99)
    assert [len(one) for one in found] == subject.space.sizes.tolist()
    assert all(np.isfinite(one).all() and one[0] == 0 and min(one) >= 0 for one in found)
    whole = measured(known(), 99)
    if patience:
        assert found[0][-1] == pytest.approx(whole[0][-1]), "the strongest cut is measured first here"
    if patience == 99:
        assert found == whole


def test_an_estimate_is_by_the_same_value_of_other_knobs() -> None:
    plans = [Plan({f"format/l{i}": value}) for value in ("w4", "w2") for i in range(3)]
    found = scoring._filled(plans, [0.1, 0.4, np.nan, 2.0, np.nan, np.nan])
    assert found == pytest.approx([0.1, 0.4, 0.2, 2.0, 2.0, 2.0])
    assert scoring._filled(plans[:2], [np.nan, np.nan]) == pytest.approx([0.1, 0.1])
    assert scoring._filled([plans[0], plans[3]], [0.3, np.nan]) == pytest.approx([0.3, 0.3])


def test_all_that_is_affordable_is_measured_and_the_rest_adds_up() -> None:
    subject = known()
    for found, wanted in zip(measured(subject, 99), expected(subject), strict=True):
        np.testing.assert_allclose(found, wanted, atol=scoring.NEGLIGIBLE)
    assert subject.measured < sum(subject.space.sizes) and subject.calls == 3, "four layers are halved twice"


def test_layers_that_8_bits_do_not_hurt_are_measured_once_together() -> None:
    subject = known(layers=32, inputs=0.0)
    subject.table = {key: 1e-6 if str(key[1]).startswith("w8") else 0.1 for key in subject.table}
    found = measured(subject, 99)
    assert subject.measured == 2 + 32 + 3 and subject.calls == 1
    np.testing.assert_allclose([sensitivity[1:3] for sensitivity in found[1:]], 1e-6)


def test_between_measured_ratios_the_logarithm_is_interpolated() -> None:
    subject = known(layers=1)
    found = measured(subject, 3)[0]
    assert found[0] == 0 and found[1:] == sorted(found[1:])
    assert found[3] == pytest.approx(0.75**2) and found[1] == pytest.approx(0.25**2)
    assert found[2] == pytest.approx(np.sqrt(0.75**2 * 0.25**2))
    alone = measured(subject, 1)[0]
    np.testing.assert_allclose(alone, expected(subject)[0], atol=1e-12)  # as the square of what is cut


def test_what_replaces_a_layer_is_told_from_the_errors_of_its_output() -> None:
    """Sensitivities proportional to a power of the error: one measured value of each layer tells all the others."""
    errors = {f"structure/l{i}": np.array([0, 0.2, 0.01, 0.4, 0.05, 0.1]) * (1 + i) / 3 for i in range(3)}
    values = ("whole", "kernel1@smaller-kernel", *(f"rank{r}@low-rank" for r in (0.75, 0.125, 0.5, 0.25)))
    knobs = [Knob(name, "low-rank", (name[-2:],), values) for name in errors]
    sensitivities = {knob.name: (7 + i) * errors[knob.name] ** scoring.POWER for i, knob in enumerate(knobs)}
    table = {(k.name, v): float(d) for k in knobs for v, d in zip(values, sensitivities[k.name], strict=True)}
    subject = Known(SearchSpace(NetworkGraph((), ()), tuple(knobs)), table)
    found = measured(subject, 3, errors)
    assert subject.measured == 3
    np.testing.assert_allclose(found, np.stack(list(sensitivities.values())), rtol=1e-6)
    more = Known(subject.space, {key: 2 * value for key, value in table.items()})
    np.testing.assert_allclose(measured(more, 15, errors), 2 * np.array(found), rtol=1e-6)
    assert more.measured == 15, "all that is affordable is measured"


def test_errors_of_outputs_rank_what_replaces_a_layer(named_subject: Callable[[str], Subject]) -> None:
    subject = named_subject("residual")
    choices = Choices([Format.parse("w8")], 4, "operators")
    evaluator = evaluator_of(subject.net, subject.graph, choices, (subject.x,), None, (subject.x,))
    errors = scoring.output_errors(evaluator)
    ranks = []
    for knob in evaluator.space.knobs:
        if knob.chains:
            assert errors[knob.name][0] == 0 and (errors[knob.name][1:] > 0).all()
            found = [scoring.divergence(evaluator, Plan({knob.name: value})) for value in knob.values[1:]]
            ranks.append(spearmanr(errors[knob.name][1:], found).statistic)
    assert len(ranks) >= 6 and np.mean(ranks) > 0.6, ranks


def test_many_layers_are_measured_with_their_neighbours() -> None:
    subject = known(layers=40, inputs=0.0)
    found = measured(subject, 30)
    assert subject.measured <= 20 + 4 * 40
    total = sum(sensitivity[3] for sensitivity in found[1:])
    assert total == pytest.approx(sum(0.1 * i for i in range(40)))


def test_scores_of_a_network(subject: Subject) -> None:
    """Measured values are the divergence by hand; weighed by some joint plans, their sum ranks others."""
    space, evaluator = subject.space, subject.evaluator
    plain = evaluator.plain_outputs[0]

    def measure(plans: Sequence[Plan]) -> list[float]:
        return [scoring.divergence(evaluator, plan, 64) for plan in plans]

    alone = scoring._scores(space, measure, 150, {})
    for k, knob in enumerate(space.knobs):
        if knob.kind == "keep":
            outputs = evaluator.engine.outputs(evaluator.compress(Plan({knob.name: knob.values[-1]})), (subject.x,))[0]
            assert alone[k][-1] == pytest.approx(by_hand(plain, outputs), rel=1e-5)
    found = score(evaluator, most=200, samples=64)
    for sensitivity, before in zip(found.sensitivity, alone, strict=True):
        np.testing.assert_array_equal(np.argsort(sensitivity), np.argsort(before))
    vectors = space.random(np.random.default_rng(0), 40)
    plans = [space.decode(vector) for vector in vectors]
    joint = [by_hand(plain, evaluator.engine.outputs(evaluator.compress(p), (subject.x,))[0]) for p in plans]
    assert spearmanr(found(vectors), joint)[0] > 0.6


def by_hand(expected: np.ndarray, found: np.ndarray) -> float:
    p, q = (np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (expected.astype(float), found.astype(float)))
    return float((p * np.log(p / q)).sum(1).mean())


def test_the_same_scores_again_whoever_measures(subject: Subject) -> None:
    def elsewhere(plans: Sequence[Plan]) -> list[float]:
        return [scoring.divergence(subject.evaluator, plan) for plan in plans]

    assert score(subject.evaluator) == score(subject.evaluator, measure=elsewhere)


def test_outputs_that_are_probabilities_already() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 20, 5))
    of_logits = scoring.divergences(a, b)
    softmax = [np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (a, b)]
    np.testing.assert_allclose(scoring.divergences(*softmax), of_logits, atol=1e-9)
    assert (of_logits > 0).all() and scoring.divergences(a, a).max() == 0


def test_a_plan_that_cannot_run_counts_as_ruined(subject: Subject, caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("no memory")

    engine = SimpleNamespace(described_outputs=subject.evaluator.engine.described_outputs)
    evaluator = SimpleNamespace(
        engine=engine, run=broken, compress=subject.evaluator.compress, inputs=(subject.x,), metric="accuracy",
        plain_outputs=subject.evaluator.plain_outputs, judged=subject.evaluator.judged,
    )  # fmt: skip
    plan = subject.plans(1)[0]
    with pytest.raises(EvaluationError, match="could not be scored: no memory"):
        scoring.divergence(evaluator, plan)  # type: ignore[arg-type]
    assert scoring._or_ruined(evaluator, plan, 16) == scoring.RUINED  # type: ignore[arg-type]
    assert "no memory" in caplog.text


def test_json_is_read_back_and_anything_else_is_not() -> None:
    space = known().space
    scores = Scores(tuple(map(tuple, expected(known()))))
    assert Scores.from_json(scores.to_json(), space) == scores
    for text in ("", "{}", "[1]", '{"version": 3, "sensitivity": [[0]]}', '{"version": 0, "sensitivity": []}'):
        assert Scores.from_json(text, space) is None


def test_the_pass_costs_no_more_plans_where_there_is_more_work_in_each() -> None:
    def plans(images: int, statistics: int) -> int:
        evaluator: Any = SimpleNamespace(inputs=(np.zeros(images),), statistics_inputs=(np.zeros(statistics),))
        return scoring.affordable_plans(evaluator, scoring.affordable_images(images))

    assert plans(2000, 250) == 48 and plans(2000, 16) == 107
    assert plans(16, 0) == scoring.LEAST_PLANS


def test_takes_an_evaluator_without_labels(subject: Subject) -> None:
    evaluator = PlanEvaluator(
        subject.evaluator.engine, subject.space, subject.parameters, (subject.x,), None, (subject.x,), synthetic=True
    )
    found = score(evaluator, most=40)
    assert evaluator.metric == "fidelity"
    assert all(
        np.isfinite(sensitivity).all() and sensitivity[0] == 0 and min(sensitivity) >= 0
        for sensitivity in found.sensitivity
    )
