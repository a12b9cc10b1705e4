"""Small networks as data, drawn at random or by hand."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from autocomp.search_spaces import (
    Argument,
    ChannelGroup,
    Convolution,
    Knob,
    NetworkGraph,
    Node,
    NodeAttributes,
    SearchSpace,
)

FORMATS = ("float", "w8", "w8a8", "w4", "w4a8", "w4a4")
RATIOS = (1.0, 0.75, 0.5, 0.25)
STEPS = ("conv", "residual", "depthwise", "grouped", "concat", "norm", "pool", "other")


class Builder:
    """Appends nodes; every convolution that is given no units makes its own channel group."""

    def __init__(self, channels: int = 3, pixels: int = 8) -> None:
        shape = (1, channels, pixels, pixels)
        self.nodes = [Node("input", "input", "Parameter", (), shape, units=np.full(channels, -1))]
        self.groups: list[ChannelGroup] = []

    def add(self, kind: str, *inputs: int, shape: tuple[int, ...] | None = None, **kwargs: object) -> int:
        first = self.nodes[inputs[0]]
        kwargs.setdefault("units", first.units)
        op = str(kwargs.pop("op", kind))
        self.nodes.append(Node(f"{kind}{len(self.nodes)}", kind, op, inputs, shape or first.shape, **kwargs))  # type: ignore[arg-type]
        return len(self.nodes) - 1

    def max_pool(self, x: int) -> int:
        batch, channels, h, w = self.nodes[x].shape
        return self.add("pool", x, shape=(batch, channels, -(-h // 2), -(-w // 2)), op="MaxPool")

    def scores(self, heads: int, tokens: int, width: int) -> int:
        """The softmax of two inputs' product: the builder's own input is not read."""
        for shape in ((1, heads, tokens, width), (1, heads, width, tokens)):
            self.nodes.append(Node(f"input{len(self.nodes)}", "input", "Parameter", (), shape))
        sides = (len(self.nodes) - 2, len(self.nodes) - 1)
        attributes = NodeAttributes(tuple(Argument("node", side) for side in sides))
        shape = (1, heads, tokens, tokens)
        product = self.add("matmul", *sides, shape=shape, attributes=attributes, units=np.empty(0, np.int64))
        return self.add("softmax", product)

    def group(self, channels: int) -> np.ndarray:
        start = self.groups[-1].stop if self.groups else 0
        self.groups.append(ChannelGroup(f"g{len(self.groups)}", (), start, start + channels))
        return np.arange(start, start + channels)

    def conv(self, x: int, out: int, kernel: int = 3, groups: int = 1, units: np.ndarray | None = None) -> int:
        _, channels, h, w = self.nodes[x].shape
        if units is None:
            units = self.nodes[x].units if groups == channels == out else self.group(out)
        name = f"conv{len(self.nodes)}"
        shape, weight = (1, out, h, w), (out, channels // groups, kernel, kernel)
        attributes = NodeAttributes(convolution=Convolution((kernel, kernel), (1, 1), groups=groups))
        return self.add("conv", x, shape=shape, layer=name, weight_shape=weight, attributes=attributes, units=units)

    def dense(self, x: int, out: int) -> int:
        features = self.nodes[x].shape[-1]
        layer = f"dense{len(self.nodes)}"
        attributes = NodeAttributes(bias=f"{layer}.bias")
        shape = (*self.nodes[x].shape[:-1], out)
        units = np.full(out, -1) if len(shape) == 2 else np.empty(0, np.int64)
        return self.add(
            "dense", x, shape=shape, layer=layer, weight_shape=(out, features), attributes=attributes, units=units
        )

    def flatten(self, x: int) -> int:
        _, channels, h, w = self.nodes[x].shape
        return self.add("flatten", x, shape=(1, channels * h * w), units=np.repeat(self.nodes[x].units, h * w))

    def graph(self, other_params: int = 0) -> NetworkGraph:
        return NetworkGraph(tuple(self.nodes), (len(self.nodes) - 1,), tuple(self.groups), other_params=other_params)

    def space(self, other_params: int = 0, channel_divisor: int = 1) -> SearchSpace:
        return space_of(self.graph(other_params), channel_divisor)


def space_of(graph: NetworkGraph, channel_divisor: int = 1) -> SearchSpace:
    knobs = [Knob(f"format/{layer}", "rtn", (layer,), FORMATS) for layer in graph.layers]
    for group in graph.channel_groups:
        order = np.arange(group.units)
        knobs.append(Knob(f"keep/{group.name}", "prune", (), RATIOS, group, order, channel_divisor))
    return SearchSpace(graph, tuple(knobs))


def mixed(pixels: int = 8) -> SearchSpace:
    """A residual block, a depthwise layer, a concatenation, a pool, a flatten and a head."""
    b = Builder(3, pixels)
    x = b.add("activation", b.add("batchnorm", b.conv(0, 32)))
    y = b.add("batchnorm", b.conv(x, 32, units=b.nodes[x].units))
    x = b.add("activation", b.add("add", y, x))
    z = b.conv(x, 32, groups=32)
    x = b.add("concat", x, z, shape=(1, 64, pixels, pixels), units=np.concatenate([b.nodes[x].units, b.nodes[z].units]))
    x = b.add("pool", b.conv(x, 48, kernel=1), shape=(1, 48, 2, 2))
    b.dense(b.flatten(x), 10)
    return b.space(other_params=4 * 64)


@st.composite
def spaces(draw: st.DrawFn) -> SearchSpace:
    """Chains of convolutions with shortcuts, depthwise and grouped layers, pools and concatenations between them."""
    b = Builder(draw(st.sampled_from([1, 3, 16])), draw(st.sampled_from([4, 7, 16, 40])))
    x = b.conv(0, draw(st.sampled_from([8, 16, 24, 64])))
    for step in draw(st.lists(st.sampled_from(STEPS), max_size=5)):
        _, channels, h, w = b.nodes[x].shape
        if step == "conv":
            x = b.add("activation", b.conv(x, draw(st.sampled_from([16, 40, 128])), draw(st.sampled_from([1, 3]))))
        elif step == "residual":
            x = b.add("add", b.conv(x, channels, units=b.nodes[x].units), x)
        elif step == "depthwise":
            x = b.conv(x, channels, groups=channels)
        elif step == "grouped":
            x = b.conv(x, channels, groups=4, units=np.full(channels, -1))
        elif step == "concat":
            y = b.conv(x, 16)
            units = np.concatenate([b.nodes[x].units, b.nodes[y].units])
            x = b.add("concat", x, y, shape=(1, channels + 16, h, w), units=units)
        elif step == "pool":
            x = b.max_pool(x)
        else:
            x = b.add("batchnorm" if step == "norm" else "other", x)
    b.dense(b.add("mean", x, shape=(1, b.nodes[x].shape[1])), 10)
    return b.space()
