"""Losses of a network's outputs, for networks with several inputs and outputs of any structure."""

from __future__ import annotations

from typing import Any

from autocomp.primitives.tracing.platform import load_mindspore

load_mindspore()

from mindspore import nn, ops  # noqa: E402


class LossOfOutputs(nn.Cell):
    """``loss(net(*inputs), *labels)``. count: of the inputs, which come before the labels."""

    def __init__(self, net: Any, loss: Any, count: int) -> None:
        super().__init__(auto_prefix=False)
        self.net, self.loss, self.count = net, loss, count

    def construct(self, *arguments: Any) -> Any:
        return self.loss(self.net(*arguments[: self.count]), *arguments[self.count :])


class LossOfHalf(nn.Cell):
    """The same for the first half of a batch. axes: the batch axis of each tensor that the network returns, in their
    order; a tensor without one, -1, is taken as it is."""

    def __init__(self, net: Any, loss: Any, count: int, axes: tuple[int, ...]) -> None:
        super().__init__(auto_prefix=False)
        self.net, self.loss, self.count, self.axes = net, loss, count, axes

    def construct(self, *arguments: Any) -> Any:
        outputs, _ = first_half(self.net(*arguments[: self.count]), self.axes, 0)
        return self.loss(outputs, *arguments[self.count :])


def first_half(outputs: Any, axes: Any, number: Any) -> Any:
    """The outputs in their structure, the tensor ``number`` and those after it halved; and the number after them."""
    if outputs is None:
        return None, number
    if isinstance(outputs, (tuple, list)):
        found: Any = ()
        for output in outputs:
            half, number = first_half(output, axes, number)
            found = (*found, half)
        return found, number
    if isinstance(outputs, dict):
        named = {}
        for key in outputs:
            half, number = first_half(outputs[key], axes, number)
            named[key] = half
        return named, number
    axis = axes[number]
    if axis < 0:
        return outputs, number + 1
    return ops.narrow(outputs, axis, 0, outputs.shape[axis] // 2), number + 1
