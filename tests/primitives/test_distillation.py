"""Training towards the float network's outputs."""

from __future__ import annotations

import numpy as np
import pytest

from autocomp.primitives import LSQ, Distilled
from autocomp.primitives.export import norm_error
from autocomp.primitives.platform import execution_mode, forward, load_mindspore
from autocomp.quickstart import load_network, load_samples
from tests.networks import NETWORKS, images, randomised

ms = load_mindspore()
nn = ms.nn
X, Y = images(64), np.random.default_rng(1).integers(0, 5, 64).astype(np.int32)


def log_softmax(x: np.ndarray) -> np.ndarray:
    return np.asarray(x - x.max(1, keepdims=True) - np.log(np.exp(x - x.max(1, keepdims=True)).sum(1, keepdims=True)))


def test_the_loss_is_the_papers() -> None:
    student, teacher = (randomised(NETWORKS["concatenating"](), seed) for seed in (0, 1))
    p, q = (log_softmax(forward(net, (X,))[0].astype(np.float64) / 3) for net in (teacher, student))
    divergence = float((np.exp(p) * (p - q)).sum(1).mean() * 9)
    of_labels = -float(log_softmax(forward(student, (X,))[0].astype(np.float64))[np.arange(64), Y].mean())
    loss = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    x, y = ms.Tensor(X), ms.Tensor(Y)
    alone = Distilled(student, teacher, temperature=3.0).set_train(False)
    both = Distilled(student, teacher, loss, temperature=3.0, share=0.25).set_train(False)
    with execution_mode(graph=True):
        assert float(alone(x).asnumpy()) == pytest.approx(divergence, rel=1e-4)
        assert float(both(x, y).asnumpy()) == pytest.approx(0.25 * divergence + 0.75 * of_labels, rel=1e-4)


def test_training_brings_the_student_nearer_and_leaves_the_teacher() -> None:
    """Without labels: a network rounded to 2 bits learns to answer as the float one."""
    teacher, samples = load_network(), load_samples("calibrate").x[0]
    train, held = samples[:256], samples[256:512]
    expected = forward(teacher, (held,))[0]
    algorithm = LSQ(2, 8)
    net_q = algorithm.apply(teacher, calibrate=train)
    before = norm_error(forward(net_q, (held,))[0], expected)
    distilled = Distilled(net_q, teacher)
    assert {p.name for p in distilled.trainable_params()} == {p.name for p in net_q.trainable_params()}
    step = nn.TrainOneStepCell(distilled, nn.Adam(distilled.trainable_params(), 1e-3)).set_train()
    with execution_mode(graph=True):
        for i in range(20):
            start = 64 * (i % 4)
            step(ms.Tensor(train[start : start + 64]))
    assert norm_error(forward(net_q, (held,))[0], expected) < 0.8 * before
    np.testing.assert_array_equal(forward(teacher, (held,))[0], expected)
    distilled.teacher.set_train(True)
    with execution_mode(graph=True):
        np.testing.assert_allclose(distilled.teacher(ms.Tensor(held)).asnumpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"), [({"temperature": 0.0}, "temperature must"), ({"share": 2.0}, "share must")]
)
def test_bad_arguments(settings: dict[str, float], message: str) -> None:
    net = NETWORKS["concatenating"]()
    with pytest.raises(ValueError, match=message):
        Distilled(net, net, **settings)
