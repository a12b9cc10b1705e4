"""Convolutions whose channels are partly made of others."""

from __future__ import annotations

import numpy as np
import pytest

from autocomp.errors import NoEffectError
from autocomp.primitives import Ghost
from autocomp.primitives.export.files import norm_error
from autocomp.primitives.replacement.ghost import GhostConv2d, fitted
from autocomp.primitives.tracing.platform import forward, load_mindspore
from tests.networks import NETWORKS, images, randomised
from tests.primitives.contract import X

ms = load_mindspore()

from mindspore import nn, ops  # noqa: E402


@pytest.mark.parametrize("biased", [False, True])
def test_channels_that_follow_from_others_are_found(biased: bool) -> None:
    """Half of the filters are others behind a 3 x 3 kernel, up to a sign and, biased, a shift: nothing is lost."""
    rng = np.random.default_rng(0)
    computed = rng.standard_normal((8, 4, 9, 9)).astype(np.float32)
    kernels = rng.standard_normal((4, 1, 3, 3)).astype(np.float32)
    made = ops.conv2d(ms.Tensor(computed), ms.Tensor(kernels), pad_mode="pad", padding=1, groups=4).asnumpy()
    made = 0.1 * made + (2 if biased else 0)
    y = np.concatenate((made, computed), 1)[:, [0, 4, 1, 5, 2, 6, 3, 7]]
    fit = fitted([y[:3], y[3:]], 2, 3, biased)
    assert fit.primary.tolist() == [1, 3, 5, 7] and fit.others.tolist() == [0, 2, 4, 6]
    assert fit.sources.tolist() == [0, 1, 2, 3] and fit.lost < 1e-4
    np.testing.assert_allclose(fit.kernels, 0.1 * kernels[:, 0], atol=1e-3)
    np.testing.assert_allclose(fit.shifts, 2 if biased else 0, atol=1e-2)


def test_a_ghost_of_duplicates_is_the_layer() -> None:
    """Channels 4 to 7 are minus those before: a copy of a strided convolution with a bias, with half of its weights."""
    conv = nn.Conv2d(3, 8, 3, 2, "pad", 1, has_bias=True)
    rng = np.random.default_rng(0)
    weight, bias = rng.standard_normal((4, 3, 3, 3)), rng.standard_normal(4)
    conv.weight.set_data(ms.Tensor(np.concatenate((weight, -weight)).astype(np.float32)))
    conv.bias.set_data(ms.Tensor(np.concatenate((bias, 1 - bias)).astype(np.float32)))
    expected = forward(conv, (X,), graph=False)[0]
    ghost = GhostConv2d(conv, fitted([expected], 2, 3, True))
    np.testing.assert_allclose(forward(ghost, (X,), graph=False)[0], expected, atol=0.02)
    assert ghost.primary.weight.shape == (4, 3, 3, 3)


def test_calibration_brings_the_outputs_nearer() -> None:
    """Smooth images, whose neighbouring pixels are alike."""
    net, errors = randomised(NETWORKS["concatenating"]()), []
    x = (np.repeat(np.repeat(images(32)[:, :, ::4, ::4], 4, 2), 4, 3) + 0.1 * images(32)).astype(np.float32)
    for calibrate in (None, x):
        net_g = Ghost().apply(net, inputs=X[:1], calibrate=calibrate)
        errors.append(norm_error(forward(net_g, (x,), graph=False)[0], forward(net, (x,), graph=False)[0]))
    assert errors[1] < errors[0]


def test_what_cannot_be_done_is_refused() -> None:
    with pytest.raises(ValueError, match="ratio must be 2 or more, but got ratio=1"):
        Ghost(ratio=1)
    with pytest.raises(ValueError, match="kernel must be odd, but got kernel=2"):
        Ghost(kernel=2)
    with pytest.raises(ValueError, match=r"macs must be in \(0, 1\)"):
        Ghost(macs=1)
    with pytest.raises(ValueError, match=r"macs=0\.1 cannot be reached: with all layers replaced 0\.\d+ of them stay"):
        Ghost(macs=0.1).apply(randomised(NETWORKS["residual"]()), inputs=X[:1])
    with pytest.raises(NoEffectError, match="ghost found no layer that is cheaper for being replaced"):
        Ghost().apply(nn.SequentialCell(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)), inputs=X[:1])
