"""One function costs the same, however a network writes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from autocomp.hardware_models import device
from autocomp.hardware_models.canonical_form import canonical
from autocomp.search_spaces import Argument, NetworkGraph, Node, NodeAttributes, SearchSpace

from .networks import Builder

SHAPE = (1, 24, 14, 14)
Value = int | float | str | tuple[int, ...]
Write = Callable[["Code", int], int]


class Code(Builder):
    """Appends operators as tracing does: a float is a constant, text a parameter, an int a node."""

    def call(self, op: str, *given: Value, kind: str = "activation", shape: tuple[int, ...] | None = None) -> int:
        names = {int: "node", float: "constant", str: "parameter", bool: "constant", tuple: "constant"}
        arguments = tuple(Argument(names[type(value)], value) for value in given)
        inputs = tuple(value for value in given if type(value) is int)
        constants = tuple(value for value in given if type(value) in (float, bool, tuple))
        attributes = NodeAttributes(arguments, constants)
        units = np.empty(0, np.int64)
        shape = shape or max((self.nodes[i].shape for i in inputs), key=lambda s: (len(s), np.prod(s)))
        self.nodes.append(Node(f"{op}{len(self.nodes)}", kind, op, inputs, shape, attributes=attributes, units=units))
        return len(self.nodes) - 1

    def add_(self, x: Value, y: Value) -> int:
        return self.call("Add", x, y, kind="add")

    def mul(self, x: Value, y: Value) -> int:
        return self.call("Mul", x, y, kind="mul")

    def div(self, x: Value, y: Value) -> int:
        return self.call("Div", x, y, kind="mul")

    def sub(self, x: Value, y: Value) -> int:
        return self.call("Sub", x, y, kind="add")

    def reduced(self, op: str, x: int) -> int:
        shape = (*self.nodes[x].shape[:-1], 1)
        return self.call(op, x, (-1,), True, kind="mean", shape=shape)

    def apart(self, x: int) -> int:
        return self.sub(x, self.reduced("ReduceMean", x))

    def gelu_by_tanh(self, x: int) -> int:
        cube = self.call("Pow", x, 3.0, kind="mul")
        inner = self.call("Tanh", self.mul(self.add_(x, self.mul(cube, 0.044715)), float(np.sqrt(2 / np.pi))))
        return self.mul(self.mul(x, 0.5), self.add_(inner, 1.0))

    def softmax(self, x: int) -> int:
        powers = self.call("Exp", self.sub(x, self.reduced("ReduceMax", x)))
        return self.div(powers, self.reduced("ReduceSum", powers))

    def norm(self, x: int, parameters: bool = True) -> int:
        apart = self.apart(x)
        variance = self.reduced("ReduceMean", self.call("Square", apart))
        y = self.mul(apart, self.call("Rsqrt", self.add_(variance, 1e-6)))
        return self.add_(self.mul(y, "gamma"), "beta") if parameters else y

    def rms(self, x: int, power: bool = False) -> int:
        square = self.mul(x, x) if power else self.call("Square", x)
        root = self.call("Sqrt", self.add_(self.reduced("ReduceMean", square), 1e-6))
        return self.div(x, root)


FORMS: dict[str, tuple[Write, Write, Write]] = {
    "SiLU": (
        lambda c, x: c.call("SiLU", x),
        lambda c, x: c.mul(x, c.call("Sigmoid", x)),
        lambda c, x: c.div(x, c.add_(c.call("Exp", c.call("Neg", x)), 1.0)),
    ),
    "GELU": (
        lambda c, x: c.call("GeLU", x),
        lambda c, x: c.mul(c.mul(x, 0.5), c.add_(c.call("Erf", c.div(x, float(np.sqrt(2)))), 1.0)),
        lambda c, x: c.gelu_by_tanh(x),
    ),
    "hard swish": (
        lambda c, x: c.call("HSwish", x),
        lambda c, x: c.mul(x, c.call("HSigmoid", x)),
        lambda c, x: c.div(c.mul(x, c.call("ReLU6", c.add_(x, 3.0))), 6.0),
    ),
    "hard sigmoid": (
        lambda c, x: c.call("HSigmoid", x),
        lambda c, x: c.div(c.call("ReLU6", c.add_(x, 3.0)), 6.0),
        lambda c, x: c.mul(c.call("ReLU6", c.sub(x, -3.0)), 1 / 6),
    ),
    "leaky ReLU": (
        lambda c, x: c.call("LeakyReLU", x),
        lambda c, x: c.call("Maximum", c.mul(x, 0.1), x, kind="mul"),
        lambda c, x: c.sub(c.call("ReLU", x), c.mul(c.call("ReLU", c.call("Neg", x)), 0.1)),
    ),
    "Mish": (
        lambda c, x: c.call("Mish", x),
        lambda c, x: c.mul(x, c.call("Tanh", c.call("Softplus", x))),
        lambda c, x: c.mul(c.call("Tanh", c.call("Log", c.add_(c.call("Exp", x), 1.0))), x),
    ),
    "softmax": (
        lambda c, x: c.call("Softmax", x, kind="softmax"),
        lambda c, x: c.softmax(x),
        lambda c, x: c.div(c.call("Exp", x), c.reduced("ReduceSum", c.call("Exp", x))),
    ),
    "layer norm": (
        lambda c, x: c.call("LayerNorm", x, kind="layernorm"),
        lambda c, x: c.norm(x),
        lambda c, x: c.norm(x, parameters=False),
    ),
    "RMS norm": (
        lambda c, x: c.call("RMSNorm", x, kind="layernorm"),
        lambda c, x: c.rms(x),
        lambda c, x: c.rms(x, power=True),
    ),
    "nothing": (
        lambda c, x: x,
        lambda c, x: c.call("Identity", x),
        lambda c, x: c.call("Reshape", c.call("Cast", x), kind="reshape"),
    ),
}


def graph(write: Write) -> NetworkGraph:
    """A layer, the function on a tensor that something else reads, too, and a mean."""
    code = Code(3, SHAPE[2])
    x = code.conv(0, SHAPE[1])
    y = code.call("MaxPool", x, kind="pool", shape=SHAPE)
    z = write(code, y)
    code.call("ReduceMean", code.add_(z, x), (2, 3), False, kind="mean", shape=SHAPE[:2])
    return code.graph()


def costs(write: Write, name: str) -> Any:
    space = SearchSpace(graph(write), ())
    return device(name).costs(space.workload(np.zeros((1, 0), int), 4))[0]


@pytest.mark.parametrize("name", ["ascend", "gpu", "nvidia-h100"])
@pytest.mark.parametrize("function", FORMS)
def test_a_function_costs_the_same_in_all_its_forms(function: str, name: str) -> None:
    plain, *others = (costs(write, name) for write in FORMS[function])
    for other in others:
        assert other.latency_ms == pytest.approx(plain.latency_ms, rel=1e-9)
        assert other.energy_mj == pytest.approx(plain.energy_mj, rel=1e-9)
        assert other.memory_mb == pytest.approx(plain.memory_mb, rel=1e-9)


@pytest.mark.parametrize("function", [name for name in FORMS if name not in ("nothing", "leaky ReLU")])
def test_each_function_costs_something(function: str) -> None:
    assert costs(FORMS[function][1], "ascend").latency_ms > costs(FORMS["nothing"][0], "ascend").latency_ms


def test_what_is_read_elsewhere_is_not_taken_into_a_function() -> None:
    code = Code(24, 14)
    x = code.add("activation", 0)
    gate = code.call("Sigmoid", x)
    code.add_(code.mul(x, gate), gate)
    assert [node.op for node in canonical(code.graph()).nodes[2:]] == ["Sigmoid", "Mul", "Add"]


def test_another_function_stays_as_it_is_written() -> None:
    code = Code(24, 14)
    code.mul(0, code.call("Tanh", 0))
    assert [node.op for node in canonical(code.graph()).nodes[1:]] == ["Tanh", "Mul"]


def test_a_pool_over_the_image_is_a_mean() -> None:
    code = Code(24, 14)
    code.call("AvgPool", 0, kind="pool", shape=(1, 24, 1, 1))
    assert canonical(code.graph()).nodes[1].kind == "mean"


def test_a_transpose_of_axes_with_one_position_moves_nothing() -> None:
    code = Code(24, 14)
    x = code.call("ReduceMean", 0, (2, 3), True, kind="mean", shape=(1, 24, 1, 1))
    code.call("Transpose", x, (0, 2, 3, 1), kind="transpose", shape=(1, 1, 1, 24))
    code.call("Transpose", 0, (0, 2, 3, 1), kind="transpose", shape=(1, 14, 14, 24))
    assert [node.kind for node in canonical(code.graph()).nodes[2:]] == ["reshape", "transpose"]
