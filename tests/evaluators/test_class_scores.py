"""Whether an output is scores of classes, for networks without labels; and the metric of several labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from mindspore import Tensor, nn, ops

import autocomp
from autocomp.errors import EvaluationError
from autocomp.evaluators.class_scores import are_class_scores, are_probabilities
from autocomp.evaluators.multi_label import mean_average_precision
from autocomp.evaluators.user_metric import UserMetric
from autocomp.primitives.tracing.platform import forward
from autocomp.primitives.tracing.tracer import trace
from tests.networks import conv, images, randomised


def body() -> list[Any]:
    return [conv(3, 24, 3, 2), nn.BatchNorm2d(24), nn.ReLU()]


class Ending(nn.Cell):
    """A body whose features, (n, 24), are given as they are."""

    def __init__(self, head: int = 10) -> None:
        super().__init__()
        self.body, self.pool, self.flatten = nn.SequentialCell(*body()), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.head, self.norm = nn.Dense(24, head), nn.BatchNorm1d(head)

    def features(self, x: Tensor) -> Tensor:
        return self.flatten(self.pool(self.body(x)))

    def construct(self, x: Tensor) -> Tensor:
        return self.features(x)


class Logits(Ending):
    def construct(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


class Softmax(Ending):
    def construct(self, x: Tensor) -> Tensor:
        return ops.softmax(self.head(self.features(x)), 1)


class Sigmoid(Ending):
    def construct(self, x: Tensor) -> Tensor:
        return ops.sigmoid(self.head(self.features(x)))


class Scaled(Ending):
    def construct(self, x: Tensor) -> Tensor:
        return self.head(self.features(x)) * 16.0 + 1.0


class Normalised(Ending):
    def construct(self, x: Tensor) -> Tensor:
        y = self.head(self.features(x))
        return y / ops.sqrt((y * y).sum(1, keepdims=True) + 1e-9)


class Necked(Ending):
    def construct(self, x: Tensor) -> Tensor:
        return self.norm(self.head(self.features(x)))


class Summed(Ending):
    def construct(self, x: Tensor) -> Tensor:
        y = self.head(self.features(x))
        return y + self.norm(y)


class Squashed(Ending):
    def construct(self, x: Tensor) -> Tensor:
        return ops.tanh(self.norm(self.head(self.features(x))))


def pooled_behind_a_convolution() -> Any:
    return nn.SequentialCell(*body(), conv(24, 10, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


CLASSES: dict[str, Callable[[], Any]] = {
    "logits": Logits,
    "softmax": Softmax,
    "probabilities of 64": lambda: Softmax(64),
    "scaled and shifted": Scaled,
    "pooled behind a convolution": pooled_behind_a_convolution,
}
EMBEDDINGS: dict[str, Callable[[], Any]] = {
    "pooled features": Ending,
    "a projection to 64": lambda: Logits(64),
    "normalised to length 1": Normalised,
    "behind a BatchNorm": Necked,
    "a sum of two": Summed,
    "a tanh": Squashed,
}


@pytest.mark.parametrize("name", [*CLASSES, *EMBEDDINGS])
def test_an_output_is_told_by_what_makes_it(name: str) -> None:
    net, x = randomised((CLASSES | EMBEDDINGS)[name]()), images(4)
    outputs = forward(net, (x,), graph=False)[0]
    assert are_class_scores(trace(net, (x[:1],)), 0, outputs) == (name in CLASSES)


def test_probabilities_and_their_logarithms() -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(5), 20).astype(np.float32)
    assert are_probabilities(p) and are_probabilities(np.log(p))
    assert not are_probabilities(p * 2) and not are_probabilities(p - 0.2) and not are_probabilities(np.log(p) - 1)


@pytest.fixture(scope="module")
def found() -> Any:
    settings: dict[str, Any] = {"trials": 6, "progress": False, "fine_tune": 0}
    return autocomp.search(randomised(Ending()), "size<80%", "ascend", images(40), **settings)


def test_an_embedding_is_judged_by_its_fidelity(found: Any) -> None:
    assert found.float_point.metric == "fidelity" and found.float_point.accuracy == 1
    assert "the output of 24 numbers is taken for an embedding" in " ".join(found.notes)
    point, x = found.pick(), images(40)
    of_float, of_plan = (forward(one.net, (x,), graph=False)[0] for one in (found.float_point, point))
    cosine = (of_float * of_plan).sum(1) / np.linalg.norm(of_float, axis=1) / np.linalg.norm(of_plan, axis=1)
    assert 0.5 < point.accuracy <= 1 and cosine.min() > 0.9
    spread = ((of_float - of_float.mean(0)) ** 2).sum()
    assert point.accuracy == pytest.approx(1 - ((of_plan - of_float) ** 2).sum() / spread, abs=0.02)


def test_the_user_says_which_it_is(tmp_path: Any, found: Any) -> None:
    net, x = randomised(Ending()), images(40)
    settings: dict[str, Any] = {"trials": 3, "progress": False, "fine_tune": 0}
    data = autocomp.Data(evaluate=x, metric="agreement")
    front = autocomp.search(net, "size<80%", "ascend", data, **settings)
    assert front.float_point.metric == "agreement" and "embedding" not in " ".join(front.notes)
    loaded = autocomp.load(front.save(tmp_path / "front"), net, x)
    assert list(loaded) == list(front), "without a word the loaded front is judged as it was"
    with pytest.raises(
        ValueError, match=r"metric='agreement' compares classes and needs an output of shape \(n, classes"
    ):
        autocomp.search(randomised(nn.SequentialCell(*body())), None, "ascend", data, **settings)


class TestMeanAveragePrecision:
    def test_by_hand(self) -> None:
        scores = np.array([[0.9, 0.1], [0.8, 0.9], [0.7, 0.4], [0.1, 0.3]])
        labels = np.array([[1, 0], [0, 1], [1, 0], [0, 1]])
        first, second = (1 + 2 / 3) / 2, (1 + 2 / 3) / 2
        assert mean_average_precision(scores, labels) == pytest.approx((first + second) / 2)
        assert mean_average_precision(scores * 100 - 7, labels) == mean_average_precision(scores, labels)

    def test_best_and_chance(self) -> None:
        labels = np.random.default_rng(0).random((2000, 4)) < 0.25
        assert mean_average_precision(labels.astype(float), labels) == 1
        assert mean_average_precision(np.random.default_rng(1).random((2000, 4)), labels) == pytest.approx(
            0.25, abs=0.05
        )

    def test_equal_scores_are_worth_the_share_that_has_the_label(self) -> None:
        labels = np.array([[1], [0], [0], [0]])
        assert mean_average_precision(np.zeros((4, 1)), labels) == 0.25
        assert mean_average_precision(np.zeros((4, 1)), labels[::-1]) == 0.25

    def test_labels_that_no_sample_has_do_not_count(self) -> None:
        scores = np.array([[0.9, 0.1], [0.1, 0.9]])
        assert mean_average_precision((scores, "aux"), np.array([[1, 0], [0, 0]])) == 1
        assert mean_average_precision(scores, np.zeros((2, 2))) == 0

    def test_another_shape_is_said(self) -> None:
        sentence = r"labels of shape \(4, 3\) need an output of that shape, but the network's has \(4, 2\); for other"
        with pytest.raises(EvaluationError, match=sentence):
            UserMetric(mean_average_precision)((np.zeros((4, 2)),), np.zeros((4, 3)))


def test_a_network_of_several_labels_is_searched() -> None:
    net, x = randomised(Sigmoid(5)), images(60)
    outputs = forward(net, (x,), graph=False)[0]
    labels = outputs > np.median(outputs, axis=0)
    settings: dict[str, Any] = {"trials": 6, "progress": False, "fine_tune": 0}
    front = autocomp.search(net, "accuracy>-5%", "ascend", (x, labels), **settings)
    assert front.float_point.metric == "mean_average_precision" and front.float_point.accuracy == 1
    assert front.pick("accuracy>-5%").accuracy > 0.95
