"""Costs of the networks of a declared space: from the merged graph, and of thousands of networks at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import autocomp
from autocomp import nas
from autocomp.errors import TraceError
from autocomp.measurement.processor import device
from autocomp.nas.merged_graph import MergedGraph
from autocomp.nas.network_costs import NetworkCosts
from autocomp.primitives.tracing.platform import load_mindspore
from autocomp.primitives.tracing.tracer import trace

from .declared_networks import FIRST, Block, Declared

nn: Any = load_mindspore().nn
X = (np.zeros((1, 1, 8, 8), np.float32),)


@pytest.fixture(scope="module")
def costs() -> NetworkCosts:
    return NetworkCosts(MergedGraph(nas.NetworkSpace(Declared), X), device("ascend-310p3"))


def random_choice(space: nas.NetworkSpace, rng: np.random.Generator) -> tuple[list[int], dict[str, Any]]:
    vector = [int(rng.integers(len(values))) for values in space.choices.values()]
    return vector, {name: values[i] for (name, values), i in zip(space.choices.items(), vector, strict=True)}


@pytest.mark.parametrize("seed", range(3))
def test_the_graph_of_a_network_is_what_tracing_it_gives(costs: NetworkCosts, seed: int) -> None:
    merged = costs.merged
    _, choice = random_choice(merged.space, np.random.default_rng(seed))
    own, taken = trace(merged.space.network(choice), X), merged.graph(choice)
    assert [(node.name, node.shape, node.inputs, node.parameters) for node in taken.nodes] == [
        (node.name, node.shape, node.inputs, node.parameters) for node in own.nodes
    ]
    assert taken.other_params == own.other_params and taken.outputs == own.outputs
    assert [(group.layers, group.units) for group in taken.channel_groups] == [
        (group.layers, group.units) for group in own.channel_groups
    ]


def test_a_network_costs_what_its_traced_graph_costs(costs: NetworkCosts) -> None:
    found = costs.of_network(FIRST)
    assert found == autocomp.estimate(costs.merged.space.network(FIRST), "ascend-310p3", inputs=X)


def test_many_networks_cost_what_each_of_them_costs(costs: NetworkCosts) -> None:
    space, rng = costs.merged.space, np.random.default_rng(0)
    drawn = [random_choice(space, rng) for _ in range(60)]
    found, own = costs(np.array([vector for vector, _ in drawn])), [costs.of_network(choice) for _, choice in drawn]
    for name in ("macs", "params", "latency_ms", "memory_mb", "energy_mj"):
        assert np.allclose(getattr(found, name), [getattr(one, name) for one in own], rtol=1e-6), name
    assert np.allclose(found.size_mb, [one.size_mb for one in own], rtol=0.05)
    assert len({one.macs for one in own}) > 20


def test_sizes_that_are_no_sums_of_widths_are_traced() -> None:
    """The product of two widths is not affine in them."""

    def build() -> Any:
        one, two = nas.Width(2, 4), nas.Width(2, 3, 4)
        return nn.SequentialCell(nn.Conv2d(1, one * two, 1), nn.Conv2d(one * two, 2, 1), nn.Flatten())

    costs = NetworkCosts(MergedGraph(nas.NetworkSpace(build), X), device("ascend-310p3"))
    found = costs(np.array([[i, k] for i in range(2) for k in range(3)]))
    assert found.macs.tolist() == [3 * 64 * channels for channels in (4, 6, 8, 8, 12, 16)]


def test_a_choice_that_makes_no_difference_is_named() -> None:
    class Unused(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.unused = Block(1, 2), nas.Choice(Block(1, 2), Block(1, 2, 5))

        def construct(self, x: Any) -> Any:
            return self.conv(x)

    with pytest.raises(TraceError, match=r"^the choice unused makes no difference"):
        MergedGraph(nas.NetworkSpace(Unused), X)
