"""Layers as products of smaller ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autocomp.primitives import ChannelPruner, LowRank, SimQAT
from autocomp.primitives.export.files import norm_error
from autocomp.primitives.replacement.factors import RIDGE, Spectrum
from autocomp.primitives.tracing.platform import forward, load_mindspore
from autocomp.primitives.tracing.tracer import trace
from tests.networks import NETWORKS, images, randomised
from tests.primitives.contract import X

load_mindspore()

from mindspore import nn  # noqa: E402

SHAPES = st.sampled_from([(6, 9), (9, 6), (5, 8, 3, 3), (8, 5, 3, 1)])


@given(seed=st.integers(0, 1000), shape=SHAPES)
def test_full_ranks_give_the_weight_back(seed: int, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(seed)
    weight, x = rng.standard_normal(shape), rng.standard_normal((40, shape[1]))
    for covariance in (None, x.T @ x / 40):
        spectrum = Spectrum.of(weight, covariance)
        full = tuple(map(len, spectrum.values))
        np.testing.assert_allclose(spectrum.factors(full).weight(), weight, atol=1e-8)
        assert spectrum.lost(full) == 0 and spectrum.ranks_for(1.0) == full


@given(seed=st.integers(0, 1000), rank=st.integers(1, 4))
def test_of_matrices_no_other_product_is_nearer_in_the_outputs(seed: int, rank: int) -> None:
    """The error in the outputs is what the singular values say, and less than that of the plain SVD."""
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((6, 9))
    x = rng.standard_normal((200, 9)) @ rng.standard_normal((9, 9)) * np.geomspace(1, 30, 9)
    second = x.T @ x / len(x)

    def error(spectrum: Spectrum) -> float:
        difference = weight - spectrum.factors((rank,)).weight()
        return float(((x @ difference.T) ** 2).sum() / ((x @ weight.T) ** 2).sum())

    aware = Spectrum.of(weight, second)
    assert error(aware) == pytest.approx(aware.lost((rank,)), rel=0.05, abs=RIDGE)
    assert error(aware) <= error(Spectrum.of(weight)) * 1.01


@given(seed=st.integers(0, 1000), ranks=st.tuples(st.integers(1, 8), st.integers(1, 5)))
def test_of_kernels_the_error_is_within_its_bounds(seed: int, ranks: tuple[int, int]) -> None:
    """At most what both unfoldings leave out together, at least what either does."""
    weight = np.random.default_rng(seed).standard_normal((5, 8, 3, 3))
    spectrum = Spectrum.of(weight)
    difference = weight - spectrum.factors(ranks).weight()
    error = float((difference**2).sum() / (weight**2).sum())
    alone = [spectrum.lost((ranks[0], 5)), spectrum.lost((8, ranks[1]))]
    assert max(alone) - 1e-9 <= error <= spectrum.lost(ranks) + 1e-9


@given(seed=st.integers(0, 1000), energy=st.floats(0.1, 0.99))
def test_ranks_are_the_smallest_that_keep_the_energy(seed: int, energy: float) -> None:
    spectrum = Spectrum.of(np.random.default_rng(seed).standard_normal((6, 9)))
    (rank,) = spectrum.ranks_for(energy)
    assert spectrum.lost((rank,)) <= 1 - energy + 1e-9
    assert rank == 1 or spectrum.lost((rank - 1,)) > 1 - energy


def test_the_product_is_of_plain_layers_under_the_layers_name() -> None:
    net = randomised(NETWORKS["residual"]())
    net_f = LowRank(macs=0.6).apply(net, calibrate=X)
    names = {p.name for p in net_f.get_parameters()}
    assert all(p.name in names or p.name.rpartition(".")[2] in ("weight", "bias") for p in net.get_parameters())
    assert any(name.endswith("conv2.1.weight") for name in names)
    for path, cell in net_f.cells_and_names():
        if path.endswith(("conv2.0", "conv2.2")):
            assert type(cell) is nn.Conv2d and cell.kernel_size == (1, 1)


@pytest.mark.parametrize("name", list(NETWORKS))
def test_with_full_ranks_nothing_is_lost(name: str) -> None:
    """Strided and 1x1 convolutions, biases, a dense layer behind Flatten."""
    net = randomised(NETWORKS[name]())
    graph = trace(net, (X[:1],))
    algorithm = LowRank(ranks=full_ranks(graph))
    net_f = algorithm.apply(net, calibrate=X)
    np.testing.assert_allclose(forward(net_f, (X,), graph=False)[0], forward(net, (X,), graph=False)[0], atol=2e-3)
    assert trace(algorithm.convert(net_f), (X[:1],)).macs == algorithm.size(net_f).macs


def full_ranks(graph: Any) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for path, i in graph.layers.items():
        node = graph.nodes[i]
        outputs, inputs, *kernel = node.weight_shape
        if node.groups == 1:
            taps = int(np.prod(kernel))
            matrix = (min(inputs, outputs),)
            found[path] = matrix if taps == 1 else (min(inputs, outputs * taps), min(outputs, inputs * taps))
    return found


def test_calibration_brings_the_outputs_nearer() -> None:
    """Images whose channels are nearly alike: the network reads few directions."""
    net, errors = randomised(NETWORKS["residual"]()), []
    x = np.repeat(images(64)[:, :1], 3, axis=1) + 0.1 * X
    for calibrate in (None, x):
        net_f = LowRank(energy=0.8).apply(net, inputs=X[:1], calibrate=calibrate)
        errors.append(norm_error(forward(net_f, (x,), graph=False)[0], forward(net, (x,), graph=False)[0]))
    assert errors[1] < errors[0]


def test_factors_can_be_pruned_and_quantized() -> None:
    factors, pruner, quantizer = LowRank(macs=0.6), ChannelPruner("magnitude", flops=0.8), SimQAT(8, 8)
    net_f = factors.apply(randomised(NETWORKS["residual"]()), calibrate=X)
    net_p = pruner.apply(factors.convert(net_f), inputs=X[:1])
    assert any(".conv2.0" in name for group in pruner.groups(net_p) for name in group.layers)
    pruner.prune(net_p)
    smaller = pruner.convert(net_p)
    deployed = quantizer.convert(quantizer.apply(smaller, calibrate=X[:32]))
    expected = forward(smaller, (X,), graph=False)[0]
    assert norm_error(forward(deployed, (X,), graph=False)[0], expected) < 0.2


def test_what_cannot_be_done_is_refused() -> None:
    net = randomised(NETWORKS["residual"]())
    with pytest.raises(ValueError, match="exactly one of energy, macs and ranks must be given"):
        LowRank()
    with pytest.raises(ValueError, match=r"macs must be in \(0, 1\), but got macs=2"):
        LowRank(macs=2)
    with pytest.raises(ValueError, match="channel_divisor must be 1 or more"):
        LowRank(macs=0.5, channel_divisor=0)
    with pytest.raises(ValueError, match=r"macs=0\.001 cannot be reached: the lowest ranks leave 0\.\d+ of them"):
        LowRank(macs=0.001).apply(net, inputs=X[:1])
    with pytest.raises(ValueError, match=r"ranks of head are 1 numbers from 1 to \(5,\), but got \(6,\)"):
        LowRank(ranks={"head": (6,)}).apply(net, inputs=X[:1])
    with pytest.raises(ValueError, match=r"ranks are given for layers of stem, .*, but got 'nothing'"):
        LowRank(ranks={"nothing": (6,)}).apply(net, inputs=X[:1])
