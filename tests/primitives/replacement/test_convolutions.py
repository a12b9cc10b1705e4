"""Cheaper convolutions by hand: what stays what it was, what is found, what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from autocomp.errors import NoEffectError
from autocomp.primitives import Grouped, Separable, SmallerKernel
from autocomp.primitives.export.files import norm_error
from autocomp.primitives.tracing.platform import forward, load_mindspore
from autocomp.primitives.tracing.tracer import trace
from tests.networks import NETWORKS, images, randomised
from tests.primitives.contract import X

ms = load_mindspore()

from mindspore import nn  # noqa: E402

SMOOTH = np.repeat(np.repeat(images(32)[:, :, ::4, ::4], 4, 2), 4, 3) + 0.1 * images(32)
SMOOTH = SMOOTH.astype(np.float32)


def test_a_kernel_that_is_zero_around_its_centre_becomes_that_centre() -> None:
    conv = nn.Conv2d(3, 8, 5, 2, "pad", 2, has_bias=True)
    weight = np.zeros((8, 3, 5, 5), np.float32)
    weight[:, :, 1:4, 1:4] = np.random.default_rng(0).standard_normal((8, 3, 3, 3))
    conv.weight.set_data(ms.Tensor(weight))
    net = nn.SequentialCell(conv, nn.ReLU())
    net_k = SmallerKernel(3).apply(net, inputs=X[:1])
    assert net_k[0].weight.shape == (8, 3, 3, 3) and net_k[0].weight.name == conv.weight.name
    expected = forward(net, (X,), graph=False)[0]
    np.testing.assert_allclose(forward(net_k, (X,), graph=False)[0], expected, atol=1e-5)


@pytest.mark.parametrize(
    "algorithm", [SmallerKernel(1, reconstruct=False), Grouped(2, macs=0.8, reconstruct=False), Separable(2)]
)
def test_calibration_brings_the_outputs_nearer(algorithm: Any) -> None:
    net, errors = randomised(NETWORKS["residual"]()), []
    for calibrate in (None, SMOOTH):
        net_c = algorithm.apply(net, inputs=X[:1], calibrate=calibrate)
        errors.append(norm_error(forward(net_c, (SMOOTH,), graph=False)[0], forward(net, (SMOOTH,), graph=False)[0]))
        smaller = algorithm.convert(net_c)
        assert trace(smaller, (X[:1],)).macs == algorithm.size(net_c).macs < trace(net, (X[:1],)).macs
    assert errors[1] < 0.9 * errors[0]


def test_only_named_layers_are_replaced() -> None:
    net = randomised(NETWORKS["residual"]())
    net_g = Grouped(2, layers=["blocks.1"], reconstruct=False).apply(net, inputs=X[:1])
    shapes = {p.name: p.shape for p in net_g.get_parameters()}
    assert shapes["blocks.1.conv2.weight"] == (32, 16, 3, 3) and shapes["blocks.0.conv2.weight"] == (16, 16, 3, 3)


def test_what_cannot_be_done_is_refused() -> None:
    residual = randomised(NETWORKS["residual"]())
    with pytest.raises(ValueError, match=r"macs=0\.1 cannot be reached: with all layers replaced 0\.\d+ of them stay"):
        Grouped(2, macs=0.1).apply(residual, inputs=X[:1])
    with pytest.raises(NoEffectError, match="grouped found no layer that is cheaper for being replaced"):
        Grouped(7).apply(residual, inputs=X[:1])
    with pytest.raises(NoEffectError, match="smaller-kernel found no layer that is cheaper"):
        SmallerKernel(5).apply(residual, inputs=X[:1])
