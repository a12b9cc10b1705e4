"""What matrix units multiply beside layers: products of any form, convolutions without knobs, and what is made once."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from mindspore import nn, ops

import autocomp
from autocomp.estimates import operator_costs
from autocomp.hardware_models import Cost, OperatorCost, device, devices
from autocomp.search_spaces import Argument, NetworkGraph, Node, NodeAttributes, SearchSpace

from .networks import Builder

BATCH = 3
Shape = tuple[int, ...]


def product(
    left: Shape, right: Shape, result: Shape, parameter: str = "", turned: bool = False, name: str = "gpu"
) -> OperatorCost:
    """Of two inputs, or of one and a parameter on the side that ``parameter`` names."""
    shapes = {"left": left, "right": right}
    inputs = [Node(side, "input", "Input", (), shape) for side, shape in shapes.items() if side != parameter]
    places = iter(range(len(inputs)))
    held = Argument("parameter", "w")
    arguments = tuple(held if side == parameter else Argument("node", next(places)) for side in shapes)
    attributes = NodeAttributes(arguments, operator={"transpose_a": turned})
    if parameter:
        attributes = replace(attributes, parameters=("w",), parameter_shapes=(shapes[parameter],))
    node = Node("product", "matmul", "MatMul", tuple(range(len(inputs))), result, attributes=attributes)
    graph = NetworkGraph((*inputs, node), (len(inputs),))
    (row,) = device(name).cost_table(SearchSpace(graph, ()).workload(np.zeros((1, 0), int), BATCH))
    return row


@pytest.mark.parametrize(
    ("left", "right", "result", "turned", "macs"),
    [
        ((1, 7, 5), (1, 5, 11), (1, 7, 11), False, 7 * 5 * 11),
        ((1, 4, 7, 5), (1, 4, 5, 11), (1, 4, 7, 11), False, 4 * 7 * 5 * 11),
        ((1, 500, 32), (1, 500, 32), (1, 32, 32), True, 32 * 500 * 32),
        ((1, 7, 5), (5,), (1, 7), False, 7 * 5),
        ((5,), (1, 5, 11), (1, 11), False, 5 * 11),
        ((5,), (5,), (), False, 5),
    ],
)
def test_a_product_of_activations(left: Shape, right: Shape, result: Shape, turned: bool, macs: int) -> None:
    row = product(left, right, result, turned=turned)
    assert row.macs == BATCH * macs
    assert row.bytes == 2 * BATCH * (math.prod(left) + math.prod(right) + math.prod(result))


@pytest.mark.parametrize(
    ("left", "right", "result", "parameter"),
    [
        ((1, 200, 32), (32, 16), (1, 200, 16), "right"),
        ((16, 200), (1, 200, 32), (1, 16, 32), "left"),
        ((1, 4, 7, 5), (4, 5, 11), (1, 4, 7, 11), "right"),
        ((1, 7, 5), (5,), (1, 7), "right"),
    ],
)
def test_a_product_by_a_parameter_reads_it_once(left: Shape, right: Shape, result: Shape, parameter: str) -> None:
    row = product(left, right, result, parameter)
    own, other = (right, left) if parameter == "right" else (left, right)
    depth = left[-1]
    assert row.macs == BATCH * math.prod(result) * depth
    assert row.bytes == 2 * (math.prod(own) + BATCH * (math.prod(other) + math.prod(result)))


def test_rows_that_fill_no_tile_are_converted_on_an_ascend() -> None:
    """Scores of 32 tokens lie as the unit wants them; those of 24 are read and written once more, in whole tiles."""
    whole = product((1, 32, 64), (1, 64, 48), (1, 32, 48), name="ascend")
    assert whole.bytes == 2 * BATCH * (32 * 64 + 64 * 48 + 32 * 48)
    partly = product((1, 24, 64), (1, 64, 48), (1, 24, 48), name="ascend")
    plain, again = 24 * 64 + 64 * 48 + 24 * 48, (24 * 64 + 24 * 48) * 32 / 24
    assert partly.bytes == pytest.approx(2 * BATCH * (plain + again))


def scores(heads: int, tokens: int, batch: int = 1, name: str = "ascend") -> list[OperatorCost]:
    b = Builder()
    b.scores(heads, tokens, 64)
    return device(name).cost_table(SearchSpace(b.graph(), ()).workload(np.zeros((1, 0), int), batch))


def test_matrices_go_round_the_cores() -> None:
    """Twelve heads take eight cores as long as sixteen do; of one or two each is cut for all cores."""
    bare = {heads: sum(row.latency_ms for row in scores(heads, 64)) for heads in (1, 2, 8, 10, 12, 16)}
    launches = 2 * device("ascend").rates.operator_s["float"] * 1e3
    assert bare[10] == pytest.approx(bare[16], rel=1e-6) == pytest.approx(bare[12], rel=1e-6)
    assert bare[16] - launches == pytest.approx(2 * (bare[8] - launches))
    assert bare[8] - launches == pytest.approx(4 * (bare[2] - launches)) == pytest.approx(8 * (bare[1] - launches))
    full = sum(row.latency_ms for row in scores(12, 64, 2)) - launches
    assert full == pytest.approx(1.5 * (bare[12] - launches))


@pytest.mark.parametrize("name", devices())
def test_more_heads_images_or_tokens_are_never_quicker(name: str) -> None:
    def latency(heads: int, tokens: int, batch: int) -> float:
        return sum(row.latency_ms for row in scores(heads, tokens, batch, name))

    for tokens in (16, 300, 1500):
        heads = [latency(n, tokens, 1) for n in range(1, 70)]
        assert np.all(np.diff(heads) >= -1e-12)
        images = [latency(5, tokens, n) for n in range(1, 30)]
        assert np.all(np.diff(images) >= -1e-12)
    lengths = [latency(6, tokens, 2) for tokens in range(16, 700, 16)]  # whole tiles: others are converted
    assert np.all(np.diff(lengths) >= -1e-12)


def test_rows_of_scores_longer_than_a_block_fill_whole_ones() -> None:
    """256 bytes on an Ascend."""
    table = {tokens: scores(8, tokens)[1] for tokens in (96, 320, 384)}
    assert table[320].bytes * 384 == table[384].bytes * 320
    assert table[96].bytes == 2 * 2 * 8 * 96 * 96
    assert table[320].latency_ms < table[384].latency_ms


class OneDimension(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv1d(16, 64, 3), nn.Conv1d(64, 64, 3, group=64)
        self.relu = nn.ReLU()

    def construct(self, x: Any) -> Any:
        return self.second(self.relu(self.first(x)))


class ThreeDimensions(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 16, 3)

    def construct(self, x: Any) -> Any:
        return self.conv(x)


class Standardised(nn.Conv2d):
    def construct(self, x: Any) -> Any:
        return self.conv2d(x, self.weight / ops.abs(self.weight).mean())


class Recurrent(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(32, 64, batch_first=True), nn.Dense(64, 5)

    def construct(self, x: Any) -> Any:
        return self.head(self.lstm(x)[0][:, -1])


def estimated(net: Any, *shape: int) -> Cost:
    return autocomp.estimate(net.set_train(False), "ascend", shape)


@pytest.mark.parametrize(
    ("net", "shape", "macs"),
    [
        (OneDimension(), (16, 128), 128 * 64 * (16 * 3 + 3)),
        (ThreeDimensions(), (3, 4, 8, 8), 4 * 8 * 8 * 16 * 3 * 27),
        (Standardised(8, 16, 3), (8, 10, 10), 10 * 10 * 16 * 8 * 9),
    ],
)
def test_a_convolution_without_knobs_is_costed(net: Any, shape: Shape, macs: int) -> None:
    for batch in (1, 4):
        assert estimated(net, batch, *shape).macs == batch * macs


def test_an_activation_fuses_into_a_convolution_of_one_dimension() -> None:
    rows = operator_costs(OneDimension(), "ascend", (1, 16, 128))
    assert [(row.name, bool(row.fused)) for row in rows] == [("first", True), ("second", False)]


def test_what_is_made_of_parameters_alone_does_not_grow_with_the_batch() -> None:
    net = Recurrent()
    one, many = (estimated(net, batch, 10, 32) for batch in (1, 64))
    weights_mb = 2 * sum(p.size for p in net.get_parameters()) / 1e6
    assert one.memory_mb < 1.2 * weights_mb
    assert many.memory_mb - one.memory_mb < 64 * 2 * (10 * 32 + 3 * 10 * 64) / 1e6
    rows = operator_costs(net, "ascend", (64, 10, 32))
    assert not any("Concat" in row.name for row in rows)


def test_a_layer_called_twice_has_its_weights_once_and_both_norms() -> None:
    class Twice(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.first, self.second = nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.BatchNorm2d(8)

        def construct(self, x: Any) -> Any:
            return self.second(self.conv(self.first(self.conv(x))))

    assert estimated(Twice(), 1, 8, 6, 6).params == 8 * 8 * 9 + 2 * 4 * 8
