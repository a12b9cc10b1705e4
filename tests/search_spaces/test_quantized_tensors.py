"""Which tensors are rounded where layers run in integers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autocomp.search_spaces import Argument, Convolution, IntegerFlow, NetworkGraph
from tests.hardware_models.networks import Builder, spaces

WHOLE = np.full(16, -1)


class Net(Builder):
    """Nodes by name; layers have 16 channels, at 8 x 8 pixels."""

    def __init__(self) -> None:
        super().__init__(16, 8)
        self.at = {"x": 0}

    def put(self, name: str, node: int) -> Net:
        self.at[name] = node
        return self

    def layer(self, name: str, source: str, groups: int = 1) -> Net:
        node = self.conv(self.at[source], 16, 3, groups, WHOLE)
        self.nodes[node] = replace(self.nodes[node], layer=name)
        return self.put(name, node)

    def op(self, name: str, kind: str, op: str, *sources: str, channels: int = 16, pixels: int = 8) -> Net:
        shape, inputs = (1, channels, pixels, pixels), [self.at[source] for source in sources]
        node = self.add(kind, *inputs, op=op, shape=shape, units=np.full(channels, -1))
        attributes = replace(self.nodes[node].attributes, arguments=tuple(Argument("node", i) for i in inputs))
        self.nodes[node] = replace(self.nodes[node], attributes=attributes)
        return self.put(name, node)

    def up(self, name: str, source: str) -> Net:
        """A transposed convolution that doubles the pixels."""
        _, _, height, width = self.nodes[self.at[source]].shape
        node = self.conv(self.at[source], 16, 2, 1, WHOLE)
        window = Convolution((2, 2), (2, 2), transposed=True)
        attributes = replace(self.nodes[node].attributes, convolution=window)
        shape = (1, 16, 2 * height, 2 * width)
        self.nodes[node] = replace(self.nodes[node], layer=name, shape=shape, attributes=attributes)
        return self.put(name, node)

    def head(self, source: str) -> Net:
        """The mean of each channel, and a dense layer."""
        self.put("mean", self.add("mean", self.at[source], op="ReduceMean", shape=(1, 16), units=WHOLE))
        node = self.dense(self.at["mean"], 4)
        self.nodes[node] = replace(self.nodes[node], layer="head")
        return self.put("head", node)

    def rounded(self, *floats: str) -> set[str]:
        """Names of the tensors that are rounded where all layers but some run in integers."""
        names = {node: name for name, node in self.at.items()}
        graph = self.graph()
        chosen = {layer: layer not in floats for layer in graph.layers}
        return {names[i] for i, flag in IntegerFlow.of(graph).tensors(chosen).items() if flag}


def residual() -> Net:
    net = Net().layer("stem", "x").op("relu", "activation", "ReLU", "stem").layer("a", "relu")
    net.layer("b", "a").op("add", "add", "Add", "b", "relu").op("out", "activation", "ReLU", "add")
    return net.layer("last", "out").head("last")


def concatenating() -> Net:
    net = Net().layer("stem", "x").layer("left", "stem").layer("right", "stem")
    net.op("pool", "pool", "MaxPool", "stem")
    net.op("both", "concat", "Concat", "left", "right", "pool", channels=48)
    return net.layer("join", "both").head("join")


def gated() -> Net:
    net = Net().layer("stem", "x", 16).op("silu", "activation", "SiLU", "stem")
    net.op("squeezed", "mean", "ReduceMean", "silu", pixels=1).layer("squeeze", "squeezed").layer("excite", "squeeze")
    net.op("gate", "activation", "Sigmoid", "excite").op("scaled", "mul", "Mul", "silu", "gate")
    return net.layer("project", "scaled").head("project")


def shuffling() -> Net:
    net = Net().layer("stem", "x").op("slice", "slice", "StridedSlice", "stem").layer("branch", "slice")
    net.op("both", "concat", "Concat", "slice", "branch", channels=32)
    net.op("parted", "reshape", "Reshape", "both", channels=32).op(
        "turned", "transpose", "Transpose", "parted", channels=32
    )
    return net.op("joined", "reshape", "Reshape", "turned", channels=32).layer("join", "joined").head("join")


def unet() -> Net:
    net = Net().layer("stem", "x").op("down", "pool", "MaxPool", "stem", pixels=4).layer("inside", "down")
    net.up("up", "inside").op("both", "concat", "Concat", "stem", "up", channels=32)
    return net.layer("join", "both").head("join")


NETS = {"residual": residual, "concatenating": concatenating, "gated": gated, "shuffling": shuffling, "unet": unet}
FUSED = {"residual": {"stem", "add", "head"}}  # a ReLU runs with what is before it; nothing reads the network's output


@pytest.mark.parametrize("name", NETS)
def test_every_tensor_between_layers_in_integers_is_rounded(name: str) -> None:
    net = NETS[name]()
    assert net.rounded() == set(net.at) - FUSED.get(name, {"head"})


@pytest.mark.parametrize("name", NETS)
def test_nothing_is_rounded_where_all_layers_run_in_floats(name: str) -> None:
    net = NETS[name]()
    assert net.rounded(*net.graph().layers) == set()


@pytest.mark.parametrize(
    ("name", "layer", "floats"),
    [
        ("residual", "stem", {"x"}),  # what it writes is read in integers
        ("residual", "a", set()),  # so is this, and what it reads is written in integers
        ("residual", "b", {"b"}),  # the sum is computed in floats, and rounded for its reader
        ("residual", "last", {"out", "last"}),
        ("residual", "head", {"mean"}),
        ("concatenating", "left", {"left"}),
        ("concatenating", "join", {"both", "pool", "join"}),  # of what is joined, layers in integers write the others
        ("gated", "stem", {"x", "stem", "silu"}),  # no operator in integers comes before the gate
        ("gated", "squeeze", {"squeezed"}),
        ("gated", "project", {"scaled", "project"}),
        ("shuffling", "branch", {"branch"}),
        ("shuffling", "join", {"both", "parted", "turned", "joined", "join"}),  # moved elements have one scale
        ("unet", "inside", {"down"}),
        ("unet", "join", {"both", "join"}),
    ],
)
def test_a_layer_in_floats_changes_the_tensors_beside_it_alone(name: str, layer: str, floats: set[str]) -> None:
    net = NETS[name]()
    assert net.rounded() - net.rounded(layer) == floats
    assert net.rounded(layer) <= net.rounded()


def flags(flow: IntegerFlow, graph: NetworkGraph, chosen: dict[str, bool]) -> list[bool]:
    found = flow.tensors(chosen)
    return [bool(found.get(i, False)) for i in range(len(graph.nodes))]


GRAPHS = st.one_of(
    spaces().map(lambda space: space.graph), st.sampled_from(sorted(NETS)).map(lambda n: NETS[n]().graph())
)


@settings(max_examples=60, deadline=None)
@given(GRAPHS, st.integers(0, 999))
def test_the_layers_of_a_condition_decide_it_alone(graph: NetworkGraph, seed: int) -> None:
    rng, flow = np.random.default_rng(seed), IntegerFlow.of(graph)
    one, other = ({layer: bool(rng.integers(2)) for layer in graph.layers} for _ in range(2))
    for i, condition in enumerate(flow.conditions):
        assert condition.layers <= set(graph.layers)
        joined = {layer: (one if layer in condition.layers else other)[layer] for layer in graph.layers}
        assert flags(flow, graph, joined)[i] == flags(flow, graph, one)[i]


@settings(max_examples=60, deadline=None)
@given(GRAPHS, st.integers(0, 999))
def test_many_plans_at_once_equal_one_by_one(graph: NetworkGraph, seed: int) -> None:
    chosen = {layer: np.random.default_rng([seed, i]).random(20) < 0.5 for i, layer in enumerate(graph.layers)}
    flow = IntegerFlow.of(graph)
    together = flow.tensors(chosen)
    for plan in range(20):
        alone = flags(flow, graph, {layer: bool(values[plan]) for layer, values in chosen.items()})
        assert alone == [bool(np.broadcast_to(together.get(i, False), 20)[plan]) for i in range(len(graph.nodes))]


@settings(max_examples=60, deadline=None)
@given(GRAPHS, st.integers(0, 999))
def test_one_more_layer_in_integers_never_frees_a_tensor(graph: NetworkGraph, seed: int) -> None:
    rng, flow = np.random.default_rng(seed), IntegerFlow.of(graph)
    chosen = {layer: bool(rng.integers(2)) for layer in graph.layers}
    more = {**chosen, str(rng.choice(list(graph.layers))): True}
    assert all(b or not a for a, b in zip(flags(flow, graph, chosen), flags(flow, graph, more), strict=True))
