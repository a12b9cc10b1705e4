"""Declared networks for tests."""

from __future__ import annotations

from typing import Any

from mindspore import nn

from autocomp import nas


class Block(nn.Cell):
    """A convolution, a BatchNorm and a ReLU; with a residual where the shape stays."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(inputs, outputs, kernel, stride), nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.adds = stride == 1 and inputs == outputs

    def construct(self, x: Any) -> Any:
        y = self.relu(self.norm(self.conv(x)))
        return x + y if self.adds else y


class Declared(nn.Cell):
    """3 widths; a Choice with a Repeat in it; a Repeat of Choices: 3 * (1 + 1 + 2) * (2 + 4) = 72 networks."""

    def __init__(self) -> None:
        super().__init__()
        width = nas.Width(4, 6, 8, name="width")
        self.stem = Block(1, width, stride=2)
        self.one = nas.Choice(
            three=Block(width, width), none=nn.Identity(), deep=nas.Repeat(lambda i: Block(width, width, 1), 1, 2)
        )
        self.two = nas.Repeat(lambda i: nas.Choice(Block(width, width), Block(width, width, 5)), 1, 2)
        self.head = nn.Dense(width, 3)

    def construct(self, x: Any) -> Any:
        return self.head(self.two(self.one(self.stem(x))).mean((2, 3)))


FIRST = {"width": 6, "one": "three", "one.deep": 1, "two": 1, "two.0": 1, "two.1": 0}
