"""AdaRound as an algorithm by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from autocomp.primitives import RTN, AdaRound
from autocomp.primitives.cells.compression_state import state_of
from autocomp.primitives.export.files import norm_error
from autocomp.primitives.tracing.platform import forward
from autocomp.search_spaces import FLOAT_BITS
from tests.networks import NETWORKS, images, randomised
from tests.primitives.adversarial import Upsampler

X, OTHERS = images(64), images(64, seed=7)
SQUARES = np.random.default_rng(0).standard_normal((8, 3, 16, 16)).astype(np.float32)


@pytest.fixture(scope="module")
def applied() -> tuple[Any, AdaRound, Any]:
    net = randomised(NETWORKS["residual"]())
    adaround = AdaRound(3, FLOAT_BITS)
    return net, adaround, adaround.apply(net, calibrate=X)


def test_it_errs_less_than_rounding_to_nearest(applied: tuple[Any, AdaRound, Any]) -> None:
    """On images that it did not see."""
    net, adaround, net_q = applied
    rtn = RTN(3, FLOAT_BITS, first_last_bits=8)
    expected = forward(net, (OTHERS,), graph=False)[0]
    nearest = norm_error(forward(rtn.convert(rtn.apply(net, inputs=X[:1])), (OTHERS,), graph=False)[0], expected)
    assert norm_error(forward(adaround.convert(net_q), (OTHERS,), graph=False)[0], expected) < 0.8 * nearest


def test_what_is_stored_is_what_was_rounded(applied: tuple[Any, AdaRound, Any]) -> None:
    net, adaround, net_q = applied
    deployed = adaround.convert(net_q)
    assert norm_error(forward(deployed, (X,), graph=False)[0], forward(net_q, (X,), graph=False)[0]) < 1e-4
    stored = [p for p in deployed.get_parameters() if p.asnumpy().dtype == np.int8]
    assert len(stored) == len(state_of(net_q).layers)
    assert not any("quantizer" in name for name, _ in net.cells_and_names())


def test_another_plan_begins_from_the_float_weights(applied: tuple[Any, AdaRound, Any]) -> None:
    net, adaround, net_q = applied
    before = {p.name: p.asnumpy().copy() for p in net_q.get_parameters()}
    layers = state_of(net_q).layers
    adaround.set_plan(net_q, {f"format/{path}": "w2" for path in layers})
    coarse = norm_error(forward(net_q, (X,), graph=False)[0], forward(net, (X,), graph=False)[0])
    adaround.set_plan(net_q, {})
    assert norm_error(forward(net_q, (X,), graph=False)[0], forward(net, (X,), graph=False)[0]) < 1e-5 < coarse
    adaround.set_plan(net_q)
    for p in net_q.get_parameters():
        np.testing.assert_array_equal(p.asnumpy(), before[p.name])


def test_the_bias_takes_in_the_shift_of_the_mean(applied: tuple[Any, AdaRound, Any]) -> None:
    net, adaround, net_q = applied
    adaround.set_plan(net_q, {"format/head": "w3"})
    before = {p.name: p.asnumpy() for p in net.get_parameters()}
    after = {p.name: p.asnumpy() for p in net_q.get_parameters()}
    mean = state_of(net_q).patches["head"].mean[0]
    shift = (after["head.weight"] - before["head.weight"]) @ mean
    assert np.abs(shift).max() > 1e-4
    np.testing.assert_allclose(after["head.bias"] - before["head.bias"], -shift, atol=1e-5)
    adaround.set_plan(net_q)


def test_it_asks_for_samples() -> None:
    with pytest.raises(ValueError, match=r"apply\(net, calibrate=samples\)"):
        AdaRound().apply(NETWORKS["residual"]())


def test_transposed_convolutions_of_all_kinds() -> None:
    """Their weights lie as (in, out, kh, kw), and are rounded as (out, in, kh, kw)."""
    net, adaround = randomised(Upsampler()), AdaRound(8, FLOAT_BITS)
    net_q = adaround.apply(net, calibrate=SQUARES)
    expected = forward(net, (SQUARES,), graph=False)[0]
    assert norm_error(forward(net_q, (SQUARES,), graph=False)[0], expected) < 0.02
    assert norm_error(forward(adaround.convert(net_q), (SQUARES,), graph=False)[0], expected) < 0.02
