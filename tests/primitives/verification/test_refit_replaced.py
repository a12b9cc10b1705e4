"""Cells that took the place of layers, and the layers behind them, fitted to the whole network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from autocomp.primitives import Ghost, LowRank
from autocomp.primitives.export.files import norm_error
from autocomp.primitives.tracing.platform import forward
from autocomp.primitives.tracing.tracer import trace
from tests.networks import NETWORKS, images, randomised

SEEN, OTHERS = images(64), images(64, seed=7)
MAKERS = {"low-rank": lambda **how: LowRank(energy=0.85, **how), "ghost": lambda **how: Ghost(**how)}


@pytest.mark.parametrize("algorithm", list(MAKERS))
@pytest.mark.parametrize("name", list(NETWORKS))
def test_other_images_give_nearer_outputs_at_the_same_cost(name: str, algorithm: str) -> None:
    net, errors, macs = randomised(NETWORKS[name]()), [], []
    expected = forward(net, (OTHERS,), graph=False)[0]
    for reconstruct in (False, True):
        made = MAKERS[algorithm](reconstruct=reconstruct)
        smaller = made.convert(made.apply(net, calibrate=SEEN))
        errors.append(norm_error(forward(smaller, (OTHERS,), graph=False)[0], expected))
        macs.append(trace(smaller, (OTHERS[:1],)).macs)
    assert errors[1] < 0.9 * errors[0]
    assert macs[0] == macs[1]


def test_what_runs_before_the_first_replaced_layer_stays() -> None:
    net = randomised(NETWORKS["residual"]())
    last = [path for path, i in trace(net, (SEEN[:1],)).layers.items() if "conv2" in path][-1]
    net_f = LowRank(energy=0.7, layers=(last,)).apply(net, calibrate=SEEN)
    layers = list(trace(net, (SEEN[:1],)).layers)
    before, behind = layers[: layers.index(last)], layers[layers.index(last) + 1 :]
    assert all((weight(net_f, path) == weight(net, path)).all() for path in before)
    assert any((weight(net_f, path) != weight(net, path)).any() for path in behind)


def test_without_images_nothing_moves() -> None:
    net = randomised(NETWORKS["residual"]())
    fits, does_not = (LowRank(energy=0.7, reconstruct=how).apply(net, inputs=SEEN[:1]) for how in (True, False))
    for one, other in zip(fits.get_parameters(), does_not.get_parameters(), strict=True):
        np.testing.assert_array_equal(one.asnumpy(), other.asnumpy())


def weight(net: Any, path: str) -> np.ndarray:
    return np.asarray(next(p.asnumpy() for p in net.get_parameters() if p.name == f"{path}.weight"))
