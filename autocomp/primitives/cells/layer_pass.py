"""One forward pass in which each layer is seen once, with the input that the layers before it have just computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from mindspore import nn

from autocomp.errors import EvaluationError
from autocomp.primitives.tracing.platform import execution_mode, to_tensors

from .layers import StandIn, parameter
from .one_dimensional import HEIGHT, is_one_dimensional

Visit = Callable[[str, np.ndarray], None]


def visit_layers(net: Any, layers: Mapping[str, Any], inputs: tuple[np.ndarray, ...], visit: Visit) -> None:
    """Run the network in PyNative mode; before each of these cells runs first, ``visit`` gets its path and its input.

    A visit may set the cell's parameters: the cell then runs with them, and those behind it see what that makes of
    their inputs. One layer's input is held at a time. The input of a convolution with one spatial dimension gets the
    height 1 of its weight.
    """
    seen: set[str] = set()

    def listen(path: str, flat: bool) -> Callable[[Any, Any], None]:
        def hook(_cell: Any, arguments: Any) -> None:
            if path not in seen:
                seen.add(path)
                values = arguments[0].asnumpy()
                visit(path, np.expand_dims(values, HEIGHT) if flat else values)

        return hook

    handles = [cell.register_forward_pre_hook(listen(path, is_one_dimensional(cell))) for path, cell in layers.items()]
    training = net.training
    net.set_train(False)
    try:
        with execution_mode(graph=False):
            net(*to_tensors(inputs))
    except RuntimeError as error:  # the network's own code
        raise EvaluationError(
            "the inputs of layers are read in PyNative mode, but there the network, maybe written for GRAPH mode "
            f"alone, fails: {error}"
        ) from error
    finally:
        net.set_train(training)
        for handle in handles:
            handle.remove()


class DividedInput(nn.Cell):
    """x: (..., channels), each channel divided by a number of its own."""

    def __init__(self, scale: np.ndarray) -> None:
        super().__init__()
        self.factor = parameter((1 / scale).astype(np.float32), "factor")

    def construct(self, x: Any) -> Any:
        return x * self.factor


class ScaledLayer(StandIn, nn.SequentialCell):
    """A layer behind the division of its input."""

    layer_name = "1"
