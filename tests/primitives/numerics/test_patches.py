"""Patches of layer inputs: sampled as a convolution reads them, and what their moments say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from autocomp.primitives.numerics.patches import Hessian, PatchSums, normalised_layers, sample_patches
from autocomp.search_spaces import Convolution, NetworkGraph, Node, NodeAttributes
from tests.conftest import Subject


def conv(channels: int, **changes: Any) -> Node:
    window = replace(Convolution((3, 3), (1, 1), (1, 1, 1, 1)), **changes)
    shape = (6, channels // window.groups, *window.kernel)
    attributes = NodeAttributes(convolution=window)
    return Node("conv", "conv", "Conv2D", (), (1, 6, 5, 5), "conv", shape, attributes)


def all_patches(node: Node, x: np.ndarray) -> np.ndarray:
    """(n, groups, k): by loops over images, output positions, channels and taps."""
    a = node.convolution
    top, bottom, left, right = a.pad
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    spread = [(kernel - 1) * dilation for kernel, dilation in zip(a.kernel, a.dilation, strict=True)]
    found = [
        [
            image[channel, y + i * a.dilation[0], column + j * a.dilation[1]]
            for channel in range(len(image))
            for i in range(a.kernel[0])
            for j in range(a.kernel[1])
        ]
        for image in x
        for y in range(0, x.shape[2] - spread[0], a.stride[0])
        for column in range(0, x.shape[3] - spread[1], a.stride[1])
    ]
    return np.array(found).reshape(len(found), node.groups, -1)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"stride": (2, 2)},
        {"stride": (2, 1), "kernel": (3, 2), "pad": (1, 0, 0, 1)},
        {"dilation": (2, 1), "pad": (2, 2, 1, 1)},
        {"groups": 2},
        {"groups": 4},
        {"kernel": (1, 1), "pad": (0, 0, 0, 0), "stride": (2, 2)},
        {"kernel": (5, 5), "pad": (0, 0, 0, 0)},
    ],
)
def test_patches_of_a_convolution(changes: dict[str, object]) -> None:
    node, x = conv(4, **changes), np.random.default_rng(0).standard_normal((3, 4, 7, 6)).astype(np.float32)
    expected = all_patches(node, x)
    found = sample_patches(node, x, 10_000, np.random.default_rng(1))
    assert found.shape == expected.shape
    order = [np.lexsort(array.reshape(len(array), -1).T) for array in (found, expected)]
    np.testing.assert_array_equal(found[order[0]], expected[order[1]])
    some = sample_patches(node, x, 5, np.random.default_rng(1))
    assert len(some) == 5 and len({one.tobytes() for one in some}) == 5
    assert {one.tobytes() for one in some} <= {one.tobytes() for one in expected}


def test_rows_of_a_dense_layer() -> None:
    node = Node("dense", "dense", "Dense", (), (1, 6), "dense", (6, 4))
    x = np.random.default_rng(0).standard_normal((3, 5, 4)).astype(np.float32)
    found = sample_patches(node, x, 100, np.random.default_rng(1))
    assert found.shape == (15, 1, 4)
    assert {row.tobytes() for row in found} == {row.tobytes() for row in x.reshape(15, 1, 4)}


def test_sums_give_mean_and_covariance() -> None:
    x = np.random.default_rng(0).standard_normal((50, 2, 3)).astype(np.float32) + 5
    sums = PatchSums()
    sums.add(x[:20])
    sums.add(x[20:])
    moments = sums.moments()
    assert moments.count == 50 and moments.mean.dtype == moments.covariance.dtype == np.float32
    for group in range(2):
        np.testing.assert_allclose(moments.mean[group], x[:, group].mean(0), rtol=1e-5)
        np.testing.assert_allclose(moments.covariance[group], np.cov(x[:, group].T, bias=True), atol=1e-5)


def test_hessian_trusts_few_patches_less() -> None:
    rng = np.random.default_rng(0)
    mean, covariance = rng.standard_normal((1, 4)).astype(np.float32), np.eye(4, dtype=np.float32)[None] * 2
    many, few = Hessian(mean, covariance, 10**9), Hessian(mean, covariance, 4)
    np.testing.assert_allclose(many.damped(centred=True)[0], 2 * 1.01 * np.eye(4), rtol=1e-5)
    np.testing.assert_allclose(few.damped(centred=True)[0], 2 * 1.21 * np.eye(4), rtol=1e-5)
    raw = covariance[0] + np.outer(mean[0], mean[0])
    np.testing.assert_allclose(many.damped(centred=False)[0], raw + 0.01 * np.trace(raw) / 4 * np.eye(4), rtol=1e-5)
    np.testing.assert_array_equal(many.covariance, covariance)


def test_some_of_a_patch() -> None:
    moments = Hessian(np.arange(4.0)[None], np.arange(16.0).reshape(1, 4, 4), 7)
    part = moments.of(np.array([True, False, False, True]))
    np.testing.assert_array_equal(part.mean, [[0, 3]])
    np.testing.assert_array_equal(part.covariance, [[[0, 3], [12, 15]]])
    assert part.count == 7 and moments.of(np.ones(4, bool)) is moments


def test_mean_of_the_output() -> None:
    x, weight = (
        np.random.default_rng(0).standard_normal((30, 2, 9)),
        np.random.default_rng(1).standard_normal((6, 1, 3, 3)),
    )
    sums = PatchSums()
    sums.add(x)
    rows = weight.reshape(2, 3, 9)
    expected = np.concatenate([(x[:, i] @ rows[i].T).mean(0) for i in range(2)])
    np.testing.assert_allclose(sums.moments().mean_output(weight), expected, rtol=1e-4, atol=1e-6)


def test_layers_that_only_batchnorm_reads(named_subject: Callable[[str], Subject]) -> None:
    residual = named_subject("residual").graph
    assert normalised_layers(residual) == set(residual.layers) - {"stem", "head"}
    assert "hidden" in normalised_layers(named_subject("concatenating").graph), "through BatchNorm1d's reshape"


def test_a_layer_that_something_else_reads_too() -> None:
    layer = Node("conv", "conv", "Conv2D", (), (1, 6, 5, 5), "conv", (6, 4, 3, 3))
    norm = Node("bn", "batchnorm", "BatchNorm", (0,), (1, 6, 5, 5), "bn")
    added = Node("add", "add", "Add", (0, 1), (1, 6, 5, 5))
    assert normalised_layers(NetworkGraph((layer, norm), (1,))) == {"conv"}
    assert normalised_layers(NetworkGraph((layer, norm, added), (2,))) == set()
    assert normalised_layers(NetworkGraph((layer, norm), (0, 1))) == set()
    assert normalised_layers(NetworkGraph((layer,), (0,))) == set()
