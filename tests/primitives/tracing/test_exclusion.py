from __future__ import annotations

import pytest
from mindspore import Tensor, nn, ops

from autocomp.primitives import SCOP, ChannelPruner, UniPruning
from autocomp.primitives.cells.compression_state import state_of
from autocomp.primitives.choices import Choices
from autocomp.primitives.numerics.plan_compressor import parameters_of
from autocomp.primitives.registry import search_space
from autocomp.primitives.tracing.exclusion import excluded_layers, leave_whole
from autocomp.primitives.tracing.tracer import trace
from autocomp.search_spaces import Format, NetworkGraph


class Block(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Dense(32, 32), nn.Dense(32, 32)

    def construct(self, x: Tensor) -> Tensor:
        return self.second(ops.relu(self.first(x)))


class Net(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block, self.head = nn.Dense(8, 32), Block(), nn.Dense(32, 4)

    def construct(self, x: Tensor) -> Tensor:
        return self.head(ops.relu(self.block(ops.relu(self.stem(x)))))


@pytest.fixture(scope="module")
def traced() -> tuple[Net, NetworkGraph]:
    net = Net()
    return net, trace(net, (1, 8))


@pytest.mark.parametrize(
    ("given", "layers"),
    [
        ((), set()),
        ("stem", {"stem"}),
        (["block"], {"block.first", "block.second"}),
        (["block.*"], {"block.first", "block.second"}),
        (["*.second", "head"], {"block.second", "head"}),
    ],
)
def test_names_prefixes_and_patterns(traced: tuple[Net, NetworkGraph], given: object, layers: set[str]) -> None:
    assert excluded_layers(*traced, given) == layers  # type: ignore[arg-type]


def test_an_unknown_name_is_refused_with_the_nearest(traced: tuple[Net, NetworkGraph]) -> None:
    with pytest.raises(ValueError, match=r"none fits 'blok\.first'; the nearest: block\.first"):
        excluded_layers(*traced, ["stem", "blok.first"])
    with pytest.raises(TypeError, match="exclude must be names or patterns of layers, but got int"):
        excluded_layers(*traced, [3])  # type: ignore[list-item]


def test_frozen_layers_are_excluded_unless_all_are(traced: tuple[Net, NetworkGraph]) -> None:
    net, graph = Net(), traced[1]
    net.stem.weight.requires_grad = False
    assert excluded_layers(net, graph) == {"stem"}
    assert excluded_layers(net, graph, "head") == {"stem", "head"}
    for parameter in net.get_parameters():
        parameter.requires_grad = False
    assert excluded_layers(net, graph) == set()


def test_neither_what_a_layer_makes_nor_what_it_reads_is_cut(traced: tuple[Net, NetworkGraph]) -> None:
    net, graph = traced
    assert {group.name for group in graph.channel_groups} == {"stem", "block.first", "block.second"}
    left = leave_whole(graph, ["block.second"])
    assert {group.name for group in left.channel_groups} == {"stem"}
    assert left.whole["block.first"] == left.whole["block.second"] == "block.second is excluded"
    choices = Choices([Format.parse("w8")], 4, excluded=frozenset({"block.second"}))
    space = search_space(left, parameters_of(net), choices)
    assert {knob.name for knob in space.knobs} == {
        "keep/stem", "format/stem", "format/block.first", "format/head",
    }  # fmt: skip


ALGORITHMS = [
    ChannelPruner("magnitude", keep_ratio=0.5, exclude="stem"),
    SCOP(flops=0.5, exclude=["st*"]),
    UniPruning(flops=0.5, exclude=["stem"]),
]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_pruning_leaves_excluded_layers_whole(algorithm: ChannelPruner) -> None:
    pruned = algorithm.apply(Net(), (1, 8))
    assert {group.name for group in state_of(pruned).graph.channel_groups} == {"block.first", "block.second"}
