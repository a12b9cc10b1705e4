"""The ONNX form of ``nn.LSTM``; ``nn.GRU`` and ``nn.RNN`` are made of matrix multiplications in MindSpore's graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from autocomp.errors import ExportError
from autocomp.search_spaces import Node

from ..onnx_shapes import argument_shape, operand
from .known import known

if TYPE_CHECKING:
    from ..onnx_writer import Writer

ORDER = [0, 3, 1, 2]  # MindSpore's gates: input, forget, cell, output; ONNX's: input, output, forget, cell


def lstm(w: Writer, node: Node) -> tuple[str, str, str]:
    """(x (steps, batch, inputs), state and cell (1, batch, hidden), weights): all states, the last, its cell."""
    a, name = node.attributes.operator, node.name
    if a["num_layers"] != 1 or a["bidirectional"] or a["proj_size"]:
        raise ExportError(
            f"{name} is an LSTM of several layers, of two directions or with a projection, in one operator"
        )
    hidden = int(a["hidden_size"])
    weights = [w.initializer(f"{name}.{key}", value) for key, value in _weights(w, node, hidden).items()]
    states = [_state(w, node, position) for position in (1, 2)]
    found = w.emit(
        "LSTM", [operand(w, node), *weights, "", *states], f"{name}.states", outputs=3, hidden_size=hidden
    )  # fmt: skip
    every = w.emit("Squeeze", [found, w.constant([1])], name)
    return every, f"{found}:1", f"{found}:2"


def _weights(w: Writer, node: Node, hidden: int) -> dict[str, np.ndarray]:
    """Of inputs (1, 4 hidden, inputs) and of states (1, 4 hidden, hidden); biases of both (1, 8 hidden)."""
    line, inputs = known(w, node.arguments[3]), argument_shape(w, node, 0)[-1]
    if line is None:
        raise ExportError(f"{node.name} is an LSTM whose weights are computed, which has no ONNX form in autocomp")
    line = line.reshape(-1)
    of_inputs, of_states, rest = np.split(line, np.cumsum([4 * hidden * inputs, 4 * hidden * hidden]))
    bias = rest if rest.size else np.zeros(4 * hidden, line.dtype)
    return {
        "inputs": _in_order(of_inputs, hidden, inputs),
        "recurrent": _in_order(of_states, hidden, hidden),
        "bias": np.concatenate([_in_order(bias, hidden, 1).reshape(1, -1), np.zeros((1, 4 * hidden), line.dtype)], 1),
    }


def _in_order(weight: np.ndarray, hidden: int, columns: int) -> np.ndarray:
    return weight.reshape(4, hidden, columns)[ORDER].reshape(1, 4 * hidden, columns)


def _state(w: Writer, node: Node, position: int) -> str:
    """What the layer starts from; "" for zeros. One for all samples is repeated along the batch."""
    argument = node.arguments[position]
    start = known(w, argument)
    if start is not None and not start.any():
        return ""
    name = operand(w, node, position)
    if argument.kind == "node" and w.batch_axis[argument.value] is not None:
        return name
    size = w.emit("Shape", [operand(w, node)], f"{node.name}.batch{position}", start=1, end=2)
    shape = w.emit("Concat", [w.constant([1]), size, w.constant([1])], f"{node.name}.shape{position}", axis=0)
    return w.emit("Expand", [name, shape], f"{node.name}.state{position}")
