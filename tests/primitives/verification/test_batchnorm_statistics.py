"""BatchNorm's statistics taken anew."""

from __future__ import annotations

import numpy as np
import pytest

from autocomp.errors import NoEffectError
from autocomp.primitives import reestimate_batchnorm
from autocomp.primitives.export.files import norm_error
from autocomp.primitives.tracing.platform import forward, load_mindspore
from tests.networks import NETWORKS, images, randomised

ms = load_mindspore()

from mindspore import nn  # noqa: E402

X = images(40)


def test_they_are_the_mean_and_variance_of_what_the_layer_reads() -> None:
    net = nn.SequentialCell(nn.Conv2d(3, 4, 3, has_bias=True), nn.BatchNorm2d(4), nn.ReLU())
    before = {p.name: p.asnumpy().copy() for p in net.get_parameters()}
    found = reestimate_batchnorm(net, X, batch=16)
    read = forward(net[0], (X,), graph=False)[0].astype(np.float64)
    np.testing.assert_allclose(found[1].moving_mean.asnumpy(), read.mean((0, 2, 3)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found[1].moving_variance.asnumpy(), read.var((0, 2, 3)), rtol=1e-4)
    y = forward(found[1], (read.astype(np.float32),), graph=False)[0]
    np.testing.assert_allclose(y.mean((0, 2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(y.var((0, 2, 3)), 1, rtol=1e-3)
    for p in net.get_parameters():
        np.testing.assert_array_equal(p.asnumpy(), before[p.name])


def test_it_undoes_what_scaled_weights_did() -> None:
    """BatchNorm takes a factor of the weights out again, layer behind layer."""
    net = reestimate_batchnorm(randomised(NETWORKS["residual"]()), X)
    expected = forward(net, (X,), graph=False)[0]
    scaled = reestimate_batchnorm(net, X)
    for _, cell in scaled.cells_and_names():
        if isinstance(cell, nn.Conv2d):
            cell.weight.set_data(cell.weight * 1.5)
    moved = norm_error(forward(scaled, (X,), graph=False)[0], expected)
    assert norm_error(forward(reestimate_batchnorm(scaled, X), (X,), graph=False)[0], expected) < 0.1 * moved


def test_what_it_cannot_do_is_said() -> None:
    with pytest.raises(NoEffectError, match=r"found no nn\.BatchNorm"):
        reestimate_batchnorm(nn.Dense(3, 2), np.zeros((4, 3), np.float32))
    with pytest.raises(ValueError, match="needs 2 samples or more at a time, but got batch=1"):
        reestimate_batchnorm(randomised(NETWORKS["residual"]()), X, batch=1)
    with pytest.raises(TypeError, match="must be a mindspore"):
        reestimate_batchnorm("net", X)
