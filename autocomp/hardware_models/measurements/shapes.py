"""Operator shapes as small networks, which are measured where a device has no figures of its own."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from autocomp.process.bounded_files import read_text
from autocomp.search_spaces import (
    Argument,
    Convolution,
    Format,
    Knob,
    NetworkGraph,
    Node,
    NodeAttributes,
    SearchSpace,
    Workload,
)

LAYERS = ("conv", "dense")
KINDS = (*LAYERS, "mixed", "matmul", "add", "pool", "mean", "softmax", "layernorm", "activation")
ACTIVATIONS = (
    *("ReLU", "ReLU6", "Sigmoid", "HSwish", "HSigmoid", "Tanh", "GeLU", "GeluExt", "SiLU", "Elu", "Mish"),
    *("Softplus", "Softsign", "Abs", "Exp", "Log", "Sqrt", "Rsqrt", "Neg", "Square", "Erf"),
)
OPS = {  # for kinds with several; for layers the activation after each of them, by default a ReLU
    "pool": ("MaxPool", "AvgPool"),
    "activation": ACTIVATIONS,
    **dict.fromkeys(LAYERS, ("", *ACTIVATIONS)),
}
TEXTS = ("kind", "op", "format")
LARGEST, LONGEST = 2**20, 1000  # sizes; layers in a row
TAIL = 8  # channels of the layer after a stack, which reads in its format, so that the stack's last layer runs in it


@dataclass(frozen=True)
class OperatorShape:
    """One operator, or a stack of them, in one format.

    kind: one of KINDS. op: MindSpore's operator, one of OPS: an activation, a pool, or the activation after each layer,
        by default a ReLU. format: of all layers.
    channels_in, channels_out, height, width: of the input, and the output's channels. A dense layer has ``height``
        rows; a matrix product is ``groups`` times (height, channels_in) by (channels_in, channels_out); softmax and
        layer norm run over ``channels_in``, for ``groups`` times ``height`` rows.
    mixed: convolutions, every second one in the format, the others in floats: what changing between them takes.
    kernel, stride, groups: of a conv; the kernel of a pool, which is also its stride. After a pool in another format
        than float comes a layer that reads it.
    repeat: layers in a row; where the numbers of channels differ, every second layer swaps them.
    """

    kind: str
    op: str = ""
    format: str = "float"
    batch: int = 1
    channels_in: int = 1
    channels_out: int = 1
    height: int = 1
    width: int = 1
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    repeat: int = 1

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"the kind of an operator shape must be one of {', '.join(KINDS)}, but got {self.kind!r}")
        if self.op not in OPS.get(self.kind, (self.op,)):
            known = ", ".join(filter(None, OPS[self.kind]))
            raise ValueError(f"the op of a shape of kind {self.kind} must be one of {known}, but got {self.op!r}")
        Format.parse(self.format)
        self._check_sizes()

    def _check_sizes(self) -> None:
        sizes = {name: value for name, value in vars(self).items() if name not in TEXTS}
        if max(sizes.values()) > LARGEST:
            large = ", ".join(f"{name}={value}" for name, value in sizes.items() if value > LARGEST)
            raise ValueError(f"the sizes of an operator shape must be at most {LARGEST:,}, but got {large}")
        if self.repeat > LONGEST:
            raise ValueError(f"an operator shape must repeat at most {LONGEST:,} times, but got repeat={self.repeat}")
        if min(sizes.values()) < 1:
            small = ", ".join(f"{name}={value}" for name, value in sizes.items() if value < 1)
            raise ValueError(f"the sizes of an operator shape must be 1 or more, but got {small}")
        channels = (self.channels_in, self.channels_out)
        if self.kind == "conv" and any(count % self.groups for count in channels):
            raise ValueError(f"the groups of a conv must divide its channels, but got {self.groups} for {channels}")
        image = (self.height, self.width)
        if self.kind == "pool" and self.kernel > min(image):
            raise ValueError(f"the kernel of a pool must fit its image, but got {self.kernel} for {image}")

    @property
    def name(self) -> str:
        """Unique, and usable as a file name: outputs of profilers are matched by it."""
        sizes = f"{self.channels_in}x{self.height}x{self.width}-{self.channels_out}"
        window = f"k{self.kernel}s{self.stride}g{self.groups}"
        return f"{self.kind}{self.op}-{sizes}-{window}-x{self.repeat}-{self.format}-b{self.batch}"

    def graph(self) -> NetworkGraph:
        return _Stack(self).graph()

    def workload(self) -> Workload:
        """One plan: every layer in the shape's format."""
        graph = self.graph()
        layers = [] if Format.parse(self.format) == Format() else list(graph.layers)
        layers = layers[1::2] if self.kind == "mixed" else layers
        knobs = tuple(Knob(f"format/{layer}", "rtn", (layer,), ("float", self.format)) for layer in layers)
        return Workload(SearchSpace(graph, knobs), np.ones((1, len(knobs)), np.int64), self.batch)


class _Stack:
    """The network of a shape, with all attributes that the ONNX writer and the cost model read."""

    def __init__(self, shape: OperatorShape) -> None:
        self.shape = shape
        self.nodes: list[Node] = []
        self.image = (1, shape.channels_in, shape.height, shape.width)
        self.rows = (1, shape.groups, shape.height, shape.channels_in)

    def graph(self) -> NetworkGraph:
        {"conv": self._convs, "mixed": self._convs, "dense": self._denses}.get(self.shape.kind, self._single)()
        return NetworkGraph(tuple(self.nodes), (len(self.nodes) - 1,))

    def _convs(self) -> None:
        s, x = self.shape, self._input(self.image)
        for i in range(s.repeat):
            out = s.channels_in if i % 2 else s.channels_out
            x = self._activated(self._conv(x, out, s.kernel, s.stride, s.groups))
        self._conv(x, TAIL, 1, 1, 1)

    def _denses(self) -> None:
        s = self.shape
        x = self._input((1, s.channels_in) if s.height == 1 else (1, s.height, s.channels_in))
        for i in range(s.repeat):
            x = self._activated(self._dense(x, s.channels_in if i % 2 else s.channels_out))
        self._dense(x, TAIL)

    def _single(self) -> None:
        s = self.shape
        if s.kind == "matmul":
            a, b = self._input(self.rows), self._input((1, s.groups, s.channels_in, s.channels_out))
            self._add("BatchMatMul", (a, b), (1, s.groups, s.height, s.channels_out), constants=(False, False))
        elif s.kind == "add" and s.format != "float":  # of what two layers in integers read and write
            x = self._input(self.image)
            self._conv(self._add("Add", (self._conv(x, s.channels_in, 1, 1, 1), x), self.image), TAIL, 1, 1, 1)
        elif s.kind == "add":
            self._add("Add", (self._input(self.image), self._input(self.image)), self.image)
        elif s.kind == "pool":
            down = (1, s.channels_in, s.height // s.kernel, s.width // s.kernel)
            window = {"kernel_size": (1, 1, s.kernel, s.kernel), "strides": (1, 1, s.kernel, s.kernel)}
            x = self._add(s.op, (self._input(self.image),), down, operator=window | {"pad_mode": "VALID"})
            if s.format != "float":
                self._conv(x, TAIL, 1, 1, 1)
        elif s.kind == "mean":
            self._add("ReduceMean", (self._input(self.image),), self.image[:2], constants=((2, 3),))
        elif s.kind == "softmax":
            self._add("Softmax", (self._input(self.rows),), self.rows, constants=(-1,))
        elif s.kind == "layernorm":
            self._add("LayerNorm", (self._input(self.rows),), self.rows, (-1, -1, 1e-5), ("gamma", "beta"))
        else:
            self._add(s.op, (self._input(self.image),), self.image)

    def _input(self, shape: tuple[int, ...]) -> int:
        name = f"x{len(self.nodes)}"
        return self._node(Node(name, "input", "Input", (), shape, attributes=NodeAttributes(operator={"name": name})))

    def _conv(self, x: int, out: int, kernel: int, stride: int, groups: int) -> int:
        _, channels, height, width = self.nodes[x].shape
        pad = kernel // 2
        shape = (1, out, *((size + 2 * pad - kernel) // stride + 1 for size in (height, width)))
        window = Convolution((kernel, kernel), (stride, stride), (pad, pad, pad, pad), groups=groups)
        weight = (out, channels // groups, kernel, kernel)
        return self._layer("conv", "Conv2D", x, shape, weight, window)

    def _dense(self, x: int, out: int) -> int:
        shape = self.nodes[x].shape
        return self._layer("dense", "Dense", x, (*shape[:-1], out), (out, shape[-1]))

    def _activated(self, x: int) -> int:
        op = self.shape.op or "ReLU"
        name = f"{op.lower()}{len(self.nodes)}"
        attributes = NodeAttributes((Argument("node", x),))
        return self._node(Node(name, "activation", op, (x,), self.nodes[x].shape, attributes=attributes))

    def _layer(
        self,
        kind: str,
        op: str,
        x: int,
        shape: tuple[int, ...],
        weight: tuple[int, ...],
        window: Convolution | None = None,
    ) -> int:
        name = f"{kind}{len(self.nodes)}"
        argument = Argument("node", x)
        attributes = NodeAttributes((argument,), weight=f"{name}.weight", bias=f"{name}.bias", convolution=window)
        return self._node(Node(name, kind, op, (x,), shape, name, weight, attributes))

    def _add(
        self,
        op: str,
        inputs: tuple[int, ...],
        shape: tuple[int, ...],
        constants: tuple[object, ...] = (),
        parameters: tuple[str, ...] = (),
        operator: Mapping[str, object] | None = None,
    ) -> int:
        """The operator of the shape's own kind."""
        arguments = [Argument("node", i) for i in inputs] + [Argument("parameter", name) for name in parameters]
        arguments += [Argument("constant", value) for value in constants]
        attributes = NodeAttributes(tuple(arguments), constants, dict(operator or {}), parameters)
        return self._node(Node(self.shape.kind, self.shape.kind, op, inputs, shape, attributes=attributes))

    def _node(self, node: Node) -> int:
        """All channels stay: those on the second axis of an image, or on the last axis of rows."""
        channels = node.shape[1] if self.shape.kind in ("conv", "mixed", "pool", "add") else node.shape[-1]
        self.nodes.append(replace(node, units=np.full(channels, -1)))
        return len(self.nodes) - 1


@dataclass(frozen=True)
class MeasuredShape:
    """A row of a table. latency_ms: of one inference, None where it is not yet measured.

    fixed: whether it includes the fixed time of an inference, or is only a sum over operators, as a profiler gives it.
    """

    shape: OperatorShape
    latency_ms: float | None = None
    fixed: bool = True


COLUMNS = tuple(field.name for field in fields(OperatorShape))


def read_table(path: Path) -> list[MeasuredShape]:
    """ValueError names the line that cannot be read."""
    found = []
    lines = _lines(path)
    for number, line in enumerate(lines, 2):
        try:
            found.append(_row(line))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"line {number} of {path} must be as 'autocomp profile' writes it, but: {error}"
            ) from error
    return found


def _lines(path: Path) -> list[dict[str, str]]:
    try:
        return list(csv.DictReader(io.StringIO(read_text(path), newline="")))
    except csv.Error as error:
        raise ValueError(f"{path} must be a table as 'autocomp profile' writes it, but: {error}") from error


def rows_data(rows: Iterable[MeasuredShape]) -> list[list[Any]]:
    """Rows as plain values, for a device's data."""
    return [[*(getattr(row.shape, name) for name in COLUMNS), row.latency_ms, row.fixed] for row in rows]


def rows_of(data: Iterable[Sequence[Any]]) -> list[MeasuredShape]:
    return [MeasuredShape(OperatorShape(*values), latency, fixed) for *values, latency, fixed in data]


def table_device(path: Path) -> str:
    """The device that a table's rows belong to: its name, or its file next to the table."""
    names = {line.get("device") or "" for line in _lines(path)}
    if len(names) != 1 or names == {""}:
        raise ValueError(f"the rows of a measured table must name one device, but {path} names {sorted(names)}")
    name = names.pop()
    return str(path.parent / name) if name.endswith(".toml") else name


def _row(line: Mapping[str, str]) -> MeasuredShape:
    if None in line or None in line.values():
        raise ValueError("it has more or fewer values than the header")
    shape = OperatorShape(**{name: line[name] if name in TEXTS else int(line[name]) for name in COLUMNS})  # type: ignore[arg-type]
    latency = float(line["latency_ms"]) if line["latency_ms"] else None
    if latency is not None and not 0 < latency < float("inf"):
        raise ValueError(f"latency_ms must be above 0, but got {line['latency_ms']}")
    return MeasuredShape(shape, latency, line["fixed"] != "no")


def table_text(rows: Iterable[MeasuredShape], device: str) -> str:
    """CSV: the shape's name, its sizes, the latency where it is known, and the device of the rows."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("name", *COLUMNS, "latency_ms", "fixed", "device"))
    for row in rows:
        latency = "" if row.latency_ms is None else f"{row.latency_ms:.6g}"
        sizes = (getattr(row.shape, name) for name in COLUMNS)
        writer.writerow((row.shape.name, *sizes, latency, "yes" if row.fixed else "no", device))
    return file.getvalue()
