"""Forward passes in which layers are seen with the inputs that those before them have just computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from mindspore import Tensor, nn

from autocomp.errors import EvaluationError
from autocomp.primitives.tracing.platform import execution_mode, to_tensors

from .layers import StandIn, parameter
from .one_dimensional import HEIGHT, is_one_dimensional

Visit = Callable[[str, np.ndarray], None]


def visit_calls(net: Any, cells: Mapping[str, Any], inputs: tuple[np.ndarray, ...], visit: Visit) -> None:
    """Run the network in PyNative mode, where hooks work; before each call of these cells ``visit`` gets the cell's
    path and its first argument. The input of a convolution with one spatial dimension gets the height 1 of its weight.

    EvaluationError where the network fails; what ``visit`` raises is raised as it is.
    """
    raised: list[BaseException] = []

    def listen(path: str, flat: bool) -> Callable[[Any, Any], None]:
        def hook(_cell: Any, arguments: Any) -> None:
            values = arguments[0].asnumpy()
            try:
                visit(path, np.expand_dims(values, HEIGHT) if flat else values)
            except BaseException as error:
                raised.append(error)
                raise

        return hook

    handles = [cell.register_forward_pre_hook(listen(path, is_one_dimensional(cell))) for path, cell in cells.items()]
    try:
        with execution_mode(graph=False):
            net(*to_tensors(inputs))
    except Exception as error:  # the network's own code
        if raised:
            raise
        raise EvaluationError(
            "the inputs of layers are read in PyNative mode, but there the network, maybe written for GRAPH mode "
            f"alone, fails: {error}"
        ) from error
    finally:
        for handle in handles:
            handle.remove()


def inputs_of_calls(net: Any, cells: Mapping[str, Any], inputs: tuple[np.ndarray, ...]) -> dict[str, list[np.ndarray]]:
    """The first argument of each cell in a forward pass, one for each of its calls."""
    found: dict[str, list[np.ndarray]] = {}
    visit_calls(net, cells, inputs, lambda path, values: found.setdefault(path, []).append(values))
    return found


def visit_layers(net: Any, layers: Mapping[str, Any], inputs: tuple[np.ndarray, ...], visit: Visit) -> None:
    """``visit`` gets each layer's path and input once, before it runs first, in evaluation mode.

    It may set the layer's parameters: the layer then runs with them, and those behind it see what that makes of their
    inputs. One layer's input is held at a time.
    """
    seen: set[str] = set()

    def once(path: str, values: np.ndarray) -> None:
        if path not in seen:
            seen.add(path)
            visit(path, values)

    training = net.training
    net.set_train(False)
    try:
        visit_calls(net, layers, inputs, once)
    finally:
        net.set_train(training)


class DividedInput(nn.Cell):
    """x: (..., channels), each channel divided by a number of its own, after one of its own was subtracted."""

    def __init__(self, scale: np.ndarray, shift: np.ndarray | None = None) -> None:
        super().__init__()
        self.factor, self.shifts = parameter((1 / scale).astype(np.float32), "factor"), shift is not None
        if shift is not None:
            self.shift = parameter(shift.astype(np.float32), "shift")

    def construct(self, x: Any) -> Any:
        return (x - self.shift if self.shifts else x) * self.factor


def with_bias(like: Any, bias: np.ndarray) -> Any:
    """A dense layer with the same weight, and with a bias."""
    outputs, inputs = like.weight.shape
    dense = nn.Dense(inputs, outputs, "zeros", has_bias=True, bias_init=Tensor(bias.astype(np.float32)))
    dense.weight, dense.activation, dense.activation_flag = like.weight, like.activation, like.activation_flag
    return dense


class ScaledLayer(StandIn, nn.SequentialCell):
    """A layer behind the division of its input."""

    layer_name = "1"
