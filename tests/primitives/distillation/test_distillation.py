"""Training towards the float network's outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from autocomp.primitives import Distilled, SimQAT
from autocomp.primitives.distillation.clipped_step import ClippedStep
from autocomp.primitives.distillation.distilled import Taught
from autocomp.primitives.export.files import norm_error
from autocomp.primitives.tracing.platform import execution_mode, forward, load_mindspore
from autocomp.quickstart import load_network, load_samples
from tests.networks import NETWORKS, images, randomised

ms = load_mindspore()

from mindspore import nn, ops  # noqa: E402

X, Y = images(64), np.random.default_rng(1).integers(0, 5, 64).astype(np.int32)


def log_softmax(x: np.ndarray) -> np.ndarray:
    return np.asarray(x - x.max(1, keepdims=True) - np.log(np.exp(x - x.max(1, keepdims=True)).sum(1, keepdims=True)))


def test_the_loss_is_the_papers() -> None:
    student, teacher = (randomised(NETWORKS["concatenating"](), seed) for seed in (0, 1))
    p, q = (log_softmax(forward(net, (X,), graph=False)[0].astype(np.float64) / 3) for net in (teacher, student))
    divergence = float((np.exp(p) * (p - q)).sum(1).mean() * 9)
    of_labels = -float(log_softmax(forward(student, (X,), graph=False)[0].astype(np.float64))[np.arange(64), Y].mean())
    loss = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    x, y = ms.Tensor(X), ms.Tensor(Y)
    alone = Distilled(student, teacher, temperature=3.0).set_train(False)
    both = Distilled(student, teacher, loss, temperature=3.0, share=0.25).set_train(False)
    with execution_mode(graph=True):
        assert float(alone(x).asnumpy()) == pytest.approx(divergence, rel=1e-4)
        assert float(both(x, y).asnumpy()) == pytest.approx(0.25 * divergence + 0.75 * of_labels, rel=1e-4)


class Both(nn.Cell):
    """Outputs of different size, two of them in a tuple of their own."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.net = randomised(NETWORKS["concatenating"](), seed)

    def construct(self, x: Any) -> Any:
        y = self.net(x)
        return y[:, :1], (100 * y, y[:, 1:])


def test_values_are_compared_by_noise_to_signal() -> None:
    """Of all outputs, whatever their size; scores of one class, which a softmax makes equal, among them."""
    student, teacher = Both(0), Both(1)
    found, wanted = (forward(net, (X,), graph=False) for net in (student, teacher))
    ratios = [((a - b) ** 2).mean() / ((b - b.mean(0)) ** 2).mean() for a, b in zip(found, wanted, strict=True)]
    x, expected = ms.Tensor(X), [ms.Tensor(array) for array in wanted]
    distilled = Distilled(student, teacher, compares="values").set_train(False)
    with execution_mode(graph=True):
        assert float(distilled(x).asnumpy()) == pytest.approx(np.mean(ratios), rel=1e-4)
        taught = Taught(student, compares="values").set_train(False)(x, *expected)
    assert float(taught.asnumpy()) == pytest.approx(np.mean(ratios), rel=1e-4)


def test_values_of_a_sample_alone_are_compared_by_its_square() -> None:
    student, teacher = Both(0), Both(1)
    found, wanted = (forward(net, (X[:1],), graph=False) for net in (student, teacher))
    ratios = [((a - b) ** 2).mean() / (b**2).mean() for a, b in zip(found, wanted, strict=True)]
    with execution_mode(graph=True):
        loss = Distilled(student, teacher, compares="values").set_train(False)(ms.Tensor(X[:1]))
    assert float(loss.asnumpy()) == pytest.approx(np.mean(ratios), rel=1e-4)


def test_a_clipped_step_is_as_long_as_it_says() -> None:
    net = randomised(NETWORKS["concatenating"]())
    loss = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    weights, before = net.trainable_params(), {p.name: p.asnumpy().copy() for p in net.trainable_params()}
    step = ClippedStep(nn.WithLossCell(net, loss), nn.SGD(weights, 1.0), 0.01).set_train()
    with execution_mode(graph=True):
        step(ms.Tensor(X), ms.Tensor(Y))
    moved = sum(float(((p.asnumpy() - before[p.name]) ** 2).sum()) for p in weights)
    assert np.sqrt(moved) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("labelled", [False, True])
def test_outputs_of_the_teacher_may_come_with_the_batch(labelled: bool) -> None:
    student, teacher = (randomised(NETWORKS["concatenating"](), seed) for seed in (0, 1))
    loss = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean") if labelled else None
    labels = [ms.Tensor(Y)] if labelled else []
    x, expected = ms.Tensor(X), ms.Tensor(forward(teacher, (X,), graph=False)[0])
    with execution_mode(graph=True):
        wanted = Distilled(student, teacher, loss, share=0.4).set_train(False)(x, *labels)
        found = Taught(student, loss, share=0.4).set_train(False)(x, expected, *labels)
    assert float(found.asnumpy()) == pytest.approx(float(wanted.asnumpy()), rel=1e-5)


def test_training_brings_the_student_nearer_and_leaves_the_teacher() -> None:
    """Without labels: a network rounded to 2 bits learns to answer as the float one."""
    teacher, samples = load_network(), load_samples("calibrate").x[0]
    train, held = samples[:256], samples[256:512]
    expected = forward(teacher, (held,), graph=False)[0]
    algorithm = SimQAT(2, 8)
    net_q = algorithm.apply(teacher, calibrate=train)
    before = norm_error(forward(net_q, (held,), graph=False)[0], expected)
    distilled = Distilled(net_q, teacher, blocks=["stages.0", "stages.1"], example=train[:64], block_weight=10.0)
    assert {p.name for p in distilled.trainable_params()} == {p.name for p in net_q.trainable_params()}
    step = nn.TrainOneStepCell(distilled, nn.Adam(distilled.trainable_params(), 1e-3)).set_train()
    distances = []
    with execution_mode(graph=True):
        for i in range(20):
            start = 64 * (i % 4)
            step(ms.Tensor(train[start : start + 64]))
            distances.append([float(distance.asnumpy()) for distance in distilled.distances])
    assert all(last < 0.9 * first for first, last in zip(distances[0], distances[-4], strict=True))
    assert not any("target" in p.name for p in net_q.get_parameters())
    assert norm_error(forward(net_q, (held,), graph=False)[0], expected) < 0.8 * before
    np.testing.assert_array_equal(forward(teacher, (held,), graph=False)[0], expected)
    distilled.teacher.set_train(True)
    with execution_mode(graph=True):
        found = distilled.teacher(ms.Tensor(held[:64])).asnumpy()
    np.testing.assert_allclose(found, expected[:64], rtol=1e-4, atol=1e-5)


class WithHidden(nn.Cell):
    """Logits, and what they are made of."""

    def __init__(self, several: bool) -> None:
        super().__init__()
        self.body, self.head, self.several = nn.Dense(6, 8, activation="relu"), nn.Dense(8, 3), several

    def construct(self, x: Any) -> Any:
        hidden = self.body(x)
        return (self.head(hidden), hidden) if self.several else self.head(hidden)


@pytest.mark.parametrize("graph", [True, False])
def test_of_several_outputs_the_first_is_compared(graph: bool) -> None:
    x = np.random.default_rng(0).standard_normal((5, 6)).astype(np.float32)
    loss = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    found = []
    for several in (False, True):
        student, teacher = (randomised(WithHidden(several), seed) for seed in (0, 1))
        step = ms.value_and_grad(Distilled(student, teacher, loss), None, student.trainable_params())
        with execution_mode(graph):
            value, gradients = step(ms.Tensor(x), ms.Tensor(Y[:5] % 3))
        found.append([tensor.asnumpy() for tensor in (value, *gradients)])
    for alone, among in zip(*found, strict=True):
        np.testing.assert_allclose(among, alone, rtol=1e-5, atol=1e-7)


def test_the_teacher_drops_nothing() -> None:
    """Attention keeps the share that it drops as a number of its own."""
    net = nn.SequentialCell(nn.Dense(3, 8), nn.TransformerEncoderLayer(8, 2, 8, dropout=0.5, batch_first=True))
    x = np.random.default_rng(0).standard_normal((2, 4, 3)).astype(np.float32)
    teacher = Distilled(net, net).set_train(True).teacher
    found = teacher(ms.Tensor(x)).asnumpy()
    np.testing.assert_allclose(found, forward(net.set_train(False), (x,), graph=False)[0], rtol=1e-5, atol=1e-6)
    assert net[1].self_attn.dropout == 0.5


class Explicit(nn.Cell):
    """The same loss written down for one network, whose block can be called apart."""

    def __init__(self, student: Any, teacher: Any, weight: float) -> None:
        super().__init__(auto_prefix=False)
        self.student, self.teacher, self.weight = student, teacher, weight

    def construct(self, x: Any) -> Any:
        mine, its = self.student.stem(x), ops.stop_gradient(self.teacher.stem(x))
        inner, wanted = self.student.wide(mine), ops.stop_gradient(self.teacher.wide(its))
        outputs, expected = self.student.rest(inner), ops.stop_gradient(self.teacher.rest(wanted))
        p, q = ops.log_softmax(expected / 4, 1), ops.log_softmax(outputs / 4, 1)
        loss = (ops.exp(p) * (p - q)).sum(1).mean() * 16
        for a, b in ((mine, its), (inner, wanted)):
            loss = loss + self.weight / 2 * ((a - b) ** 2).mean() / (b**2).mean()
        return loss


class Parts(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.wide = nn.Dense(6, 8, activation="relu"), nn.Dense(8, 8)
        self.rest = nn.SequentialCell(nn.ReLU(), nn.Dense(8, 3))

    def construct(self, x: Any) -> Any:
        return self.rest(self.wide(self.stem(x)))


@pytest.mark.parametrize("graph", [True, False])
def test_blocks_add_their_distance_and_its_gradient(graph: bool) -> None:
    student, teacher = (randomised(Parts(), seed) for seed in (0, 1))
    x = np.random.default_rng(0).standard_normal((5, 6)).astype(np.float32)
    weights = student.trainable_params()
    distilled = Distilled(student, teacher, blocks=["stem", "wide"], example=x, block_weight=0.7)
    for parameter in teacher.get_parameters():
        parameter.name = f"its.{parameter.name}"
    expected = ms.value_and_grad(Explicit(student, teacher, 0.7), None, weights)
    assert [p.name for p in distilled.trainable_params()] == [p.name for p in weights]
    found = ms.value_and_grad(distilled, None, weights)
    with execution_mode(graph):
        for scale in (1, 2):
            values, others = found(ms.Tensor(scale * x)), expected(ms.Tensor(scale * x))
            assert float(values[0].asnumpy()) == pytest.approx(float(others[0].asnumpy()), rel=1e-5)
            for mine, its in zip(values[1], others[1], strict=True):
                np.testing.assert_allclose(mine.asnumpy(), its.asnumpy(), rtol=1e-4, atol=1e-6)


def test_blocks_that_cannot_be_compared() -> None:
    net, x = randomised(Parts()), np.zeros((2, 6), np.float32)
    with pytest.raises(
        ValueError, match=r"blocks must be cells of the network, but got body; cells: stem, .*wide, rest"
    ):
        Distilled(net, net, blocks=["body"], example=x)
    with pytest.raises(ValueError, match="blocks need example"):
        Distilled(net, net, blocks=["stem"])
    narrow = randomised(Parts())
    narrow.stem, narrow.wide = nn.Dense(6, 4, activation="relu"), nn.Dense(4, 8)
    with pytest.raises(ValueError, match=r"stem must give one shape in both networks, but got \(2, 4\) and \(2, 8\)"):
        Distilled(narrow, net, blocks=["stem"], example=x)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0.0}, "temperature must"),
        ({"share": 2.0}, "share must"),
        ({"compares": "logits"}, "compares must be 'classes' or 'values'"),
    ],
)
def test_bad_arguments(settings: dict[str, Any], message: str) -> None:
    net = NETWORKS["concatenating"]()
    with pytest.raises(ValueError, match=message):
        Distilled(net, net, **settings)
