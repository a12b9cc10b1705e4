"""What a network is read as: operators, shapes, MACs and parameters, by hand and as published."""

from __future__ import annotations

import gc
import inspect
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from autocomp.errors import TraceError
from autocomp.primitives.tracing.platform import forward
from autocomp.primitives.tracing.tracer import find_inputs, trace
from autocomp.search_spaces import NetworkGraph
from tests.big_networks import MobileNetV2, ResNet50
from tests.conftest import Subject
from tests.networks import NETWORKS, images, nn, ops, randomised
from tests.odd_networks import BesselFunction, SeveralEnds, UsedTwice
from tests.primitives.adversarial import Upsampler

# layer: shape of the output, MACs = pixels out * channels out * (kernel * channels in / groups)
EXPECTED: dict[str, dict[str, tuple[tuple[int, ...], int]]] = {
    "residual": {
        "stem": ((1, 16, 12, 12), 144 * 16 * 9 * 3),
        "blocks.0.conv1": ((1, 16, 12, 12), 144 * 16 * 9 * 16),
        "blocks.0.conv2": ((1, 16, 12, 12), 144 * 16 * 9 * 16),
        "blocks.0.shortcut.0": ((1, 16, 12, 12), 144 * 16 * 16),
        "blocks.1.conv1": ((1, 32, 6, 6), 36 * 32 * 9 * 16),
        "blocks.1.conv2": ((1, 32, 6, 6), 36 * 32 * 9 * 32),
        "blocks.1.shortcut.0": ((1, 32, 6, 6), 36 * 32 * 16),
        "head": ((1, 5), 32 * 5),
    },
    "concatenating": {
        "stem.0": ((1, 16, 6, 6), 36 * 16 * 9 * 3),
        "narrow.0": ((1, 8, 6, 6), 36 * 8 * 16),
        "wide.0": ((1, 24, 6, 6), 36 * 24 * 9 * 16),
        "join.0": ((1, 16, 6, 6), 36 * 16 * 9 * 48),
        "hidden": ((1, 20), 144 * 20),
        "head": ((1, 5), 20 * 5),
    },
    "depthwise": {
        "stem.0": ((1, 16, 6, 6), 36 * 16 * 9 * 3),
        "expand.0": ((1, 32, 6, 6), 36 * 32 * 16),
        "depthwise.0": ((1, 32, 6, 6), 36 * 32 * 9),
        "squeeze": ((1, 8), 32 * 8),
        "excite": ((1, 32), 8 * 32),
        "project.0": ((1, 16, 6, 6), 36 * 16 * 32),
        "grouped.0": ((1, 24, 6, 6), 36 * 24 * 9 * 4),
        "head": ((1, 5), 24 * 5),
    },
}


def read(net: Any, *shapes: tuple[int, ...]) -> NetworkGraph:
    return trace(net, shapes or [(1, 3, 12, 12)])


@pytest.mark.parametrize("name", NETWORKS)
def test_layers_by_hand(named_subject: Callable[[str], Subject], name: str) -> None:
    graph = named_subject(name).graph
    found = {layer: (graph.nodes[i].shape, graph.nodes[i].macs) for layer, i in graph.layers.items()}
    assert found == EXPECTED[name]
    assert graph.macs == sum(macs for _, macs in EXPECTED[name].values())


def test_transposed_convolutions_by_hand() -> None:
    """MACs = pixels in * channels in * (kernel * channels out / groups); the weight's shape is (out, in / groups)."""
    graph = read(Upsampler(), (1, 3, 16, 16))
    found = {layer: (graph.nodes[i].shape, graph.nodes[i].macs) for layer, i in graph.layers.items()}
    assert found == {
        "stem.0": ((1, 12, 8, 8), 64 * 12 * 9 * 3),
        "plain": ((1, 8, 16, 16), 64 * 12 * 9 * 8),
        "grouped": ((1, 12, 31, 31), 256 * 8 * 9 * 6),
        "depthwise": ((1, 12, 33, 33), 1024 * 12 * 4),
        "wide": ((1, 6, 34, 65), 1089 * 12 * 6 * 6),
        "image": ((1, 3, 34, 65), 34 * 65 * 6 * 3),
    }
    shapes = [graph.nodes[graph.layers[layer]].weight_shape for layer in ("plain", "grouped", "depthwise")]
    assert shapes == [(8, 12, 3, 3), (12, 4, 3, 3), (12, 1, 2, 2)]
    assert not any(node.op == "BiasAdd" for node in graph.nodes)


def test_operators_in_order(named_subject: Callable[[str], Subject]) -> None:
    graph = named_subject("concatenating").graph
    branch = ["conv", "batchnorm", "activation"]
    tail = ["pool", "flatten", "dense", "reshape", "batchnorm", "reshape", "activation", "dense"]
    assert [node.kind for node in graph.nodes] == ["input", *3 * branch, "concat", *branch, *tail]
    concat = next(node for node in graph.nodes if node.kind == "concat")
    assert [graph.nodes[i].op for i in concat.inputs] == ["ReLU", "ReLU", "PReLU"]
    assert [graph.nodes[i].shape[1] for i in concat.inputs] == [8, 16, 24]
    for i, node in enumerate(graph.nodes):
        assert all(source < i for source in node.inputs)
    assert graph.unknown == {} and graph.outputs == (len(graph.nodes) - 1,)


def test_window_of_a_convolution(named_subject: Callable[[str], Subject]) -> None:
    graph = named_subject("depthwise").graph
    wanted = {
        "stem.0": ((3, 3), (2, 2), (1, 1, 1, 1), 1),
        "expand.0": ((1, 1), (1, 1), (0, 0, 0, 0), 1),
        "depthwise.0": ((3, 3), (1, 1), (1, 1, 1, 1), 32),
        "grouped.0": ((3, 3), (1, 1), (1, 1, 1, 1), 4),
    }
    for layer, window in wanted.items():
        a = graph.nodes[graph.layers[layer]].convolution
        assert (a.kernel, a.stride, a.pad, a.groups) == window
    assert [layer for layer, i in graph.layers.items() if graph.nodes[i].depthwise] == ["depthwise.0"]


@pytest.mark.parametrize(
    ("build", "macs", "params"), [(ResNet50, 4.09e9, 25_557_032), (MobileNetV2, 0.300e9, 3_504_872)]
)
def test_published_figures(build: type[Any], macs: float, params: int) -> None:
    net = build()
    graph = read(net, (1, 3, 224, 224))
    assert graph.macs == pytest.approx(macs, rel=0.005)
    names = {name for node in graph.nodes for name in (node.attributes.weight, node.bias) if name is not None}
    elements = {p.name: p.size for p in net.get_parameters()}
    statistics = sum(size for name, size in elements.items() if "moving_" in name)
    assert sum(elements[name] for name in names) + graph.other_params - statistics == params
    assert graph.unknown == {}


def test_layer_bias_is_part_of_the_layer(named_subject: Callable[[str], Subject]) -> None:
    graph = named_subject("residual").graph
    assert {node.name for node in graph.nodes if node.bias} == {"stem", "head"}
    assert graph.nodes[graph.layers["stem"]].bias == "stem.bias"
    assert not any(node.op == "BiasAdd" for node in graph.nodes)


def test_cell_used_twice() -> None:
    graph = read(UsedTwice())
    assert [node.name for node in graph.nodes if node.layer == "twice"] == ["twice", "twice@4"]
    assert graph.layers == {"first": 1, "twice": 2, "head": 6}
    assert graph.macs == 144 * 8 * 9 * (3 + 8 + 8) + 8 * 4


class Tied(nn.Cell):
    """Two dense layers of one class hold one parameter."""

    def __init__(self, attribute: str) -> None:
        super().__init__()
        self.first, self.left, self.right, self.head = (nn.Dense(8, 8) for _ in range(4))
        setattr(self.right, attribute, getattr(self.left, attribute))

    def construct(self, x: Any) -> Any:
        return self.head(ops.relu(self.right(ops.relu(self.left(ops.relu(self.first(x)))))))


@pytest.mark.parametrize("attribute", ["weight", "bias"])
def test_layers_with_a_tied_parameter_stay_as_they_are(attribute: str) -> None:
    graph = read(Tied(attribute), (1, 8))
    assert list(graph.layers) == ["first", "head"]
    assert graph.channel_groups == ()


def test_several_inputs_and_outputs() -> None:
    graph = read(SeveralEnds(), (2, 3, 12, 12), (2, 6))
    assert [node.shape for node in graph.nodes if node.kind == "input"] == [(1, 3, 12, 12), (1, 6)]
    assert [graph.nodes[i].shape for i in graph.outputs] == [(1, 4), (1, 8)]
    joined = next(node for node in graph.nodes if node.kind == "add")
    assert [graph.nodes[i].op for i in joined.inputs] == ["ReduceMean", "ReLU"]
    assert graph.nodes[graph.layers["image"]].bias == "image.bias"


class Functional(nn.Cell):
    """Operators called as functions and as operators of Python, and a weight that no layer owns."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.mix = nn.Dense(8, 8).weight

    def construct(self, x: Any) -> Any:
        y = ops.relu(self.conv(x)) * 2 + 1
        return ops.matmul(ops.mean(y, (2, 3)), self.mix)


def test_functional_operators() -> None:
    graph = read(Functional())
    kinds = [node.kind for node in graph.nodes]
    assert kinds == ["input", "conv", "activation", "mul", "add", "mean", "matmul"]
    assert list(graph.layers) == ["conv"]
    assert graph.other_params == 64


def test_unknown_operators_are_named(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="autocomp"):
        graph = read(BesselFunction())
    assert graph.unknown == {"BesselI0": 1}
    assert "operators that are not changed, nor the channels that reach them: BesselI0 x1" in caplog.text
    assert [node.kind for node in graph.nodes if node.op == "BesselI0"] == ["other"]


def test_network_is_left_as_it_is() -> None:
    net = randomised(NETWORKS["depthwise"]()).set_train(True)
    x = images(2)
    before = {p.name: p.asnumpy().copy() for p in net.get_parameters()}
    cells = {name: type(cell) for name, cell in net.cells_and_names()}
    outputs = forward(net, (x,), graph=False)
    trace(net, (x,))
    assert net.training
    assert {name: type(cell) for name, cell in net.cells_and_names()} == cells
    after = {p.name: p.asnumpy() for p in net.get_parameters()}
    assert list(after) == list(before)
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)
    np.testing.assert_array_equal(forward(net, (x,), graph=False)[0], outputs[0])


class TestInputs:
    def test_what_is_no_cell(self) -> None:
        with pytest.raises(TypeError, match=r"net must be a mindspore.nn.Cell, but got function"):
            trace(lambda x: x, (1, 3, 12, 12))

    @pytest.mark.parametrize("inputs", [(1, 3, 0, 12), [(1, 3), "x"], [(1, -3, 12, 12)]])
    def test_what_is_no_shape(self, inputs: Any) -> None:
        with pytest.raises(ValueError, match=r"inputs must be arrays, a shape such as \(1, 3, 224, 224\) or a list"):
            trace(UsedTwice(), inputs)

    def test_shape_that_does_not_fit(self) -> None:
        with pytest.raises(TraceError, match=r"does not compile for inputs of shape \(1, 4, 12, 12\): "):
            trace(UsedTwice(), (1, 4, 12, 12))

    def test_found_by_probing(self, caplog: pytest.LogCaptureFixture) -> None:
        net = nn.SequentialCell(nn.Conv2d(1, 4, 3, 2), nn.ReLU(), nn.Flatten(), nn.Dense(4 * 14 * 14, 3))
        with caplog.at_level(logging.INFO, logger="autocomp"):
            (x,) = find_inputs(net)
        assert x.shape == (1, 1, 28, 28)
        assert "no inputs= given: the network takes images of shape (1, 28, 28)" in caplog.text

    def test_not_found_by_probing(self) -> None:
        with pytest.raises(TraceError, match=r"takes none of the usual image sizes .*: give inputs=") as error:
            find_inputs(nn.Dense(7, 3))
        assert "(1, 3, 224, 224)" in str(error.value)


def test_the_network_is_untouched() -> None:
    net = randomised(NETWORKS["depthwise"](), 0)
    before = state(net)
    read(net)
    assert state(net) == before


def state(net: Any) -> list[Any]:
    """Every parameter by identity and value, every primitive with its attributes, every cell with its flags."""
    parameters = [(p.name, id(p), p.requires_grad, p.asnumpy().tobytes()) for p in net.get_parameters()]
    cells = [cell for _, cell in net.cells_and_names()]
    primitives = [(name, id(p), str(p.attrs)) for cell in cells for name, p in cell._primitives.items()]
    return [parameters, primitives, [(id(cell), cell.training, sorted(cell.phase)) for cell in cells]]


def test_what_a_compilation_borrows_is_given_back() -> None:
    source, frozen = inspect.getsourcelines, gc.get_freeze_count()
    with pytest.raises(TraceError):
        read(NETWORKS["residual"](), (1, 5, 12, 12))
    assert inspect.getsourcelines is source
    assert gc.get_freeze_count() == frozen
