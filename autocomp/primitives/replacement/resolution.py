"""Resolution as an algorithm: a network that scales its images down before its first layer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from autocomp.errors import NoEffectError
from autocomp.primitives.arguments import RULES
from autocomp.primitives.cells.layers import nn, ops
from autocomp.primitives.tracing.mindir import copy_network, first_line
from autocomp.primitives.tracing.platform import forward_in_any_mode
from autocomp.primitives.tracing.surgery import rename_parameters
from autocomp.primitives.tracing.tracer import as_float32
from autocomp.primitives.verification.batchnorm_statistics import reestimate_batchnorm
from autocomp.primitives.verification.standalone import inputs_for
from autocomp.rules import checked

DIVISORS = (1, 2, 4, 8, 16, 32)  # networks may take only images whose sides are multiples of one of these

Sides = tuple[int, int]


class ScaledImages(nn.Cell):
    """A network behind images that are scaled from ``given`` to ``sides``, (height, width) in pixels.

    Where each side is a whole number of times as long, pixels are averaged; else they are interpolated bilinearly
    between the centres of pixels. At half the sides both are the same.
    """

    def __init__(self, network: Any, given: Sides, sides: Sides) -> None:
        super().__init__()
        self.given, self.sides = given, sides
        shares = tuple(long // short for long, short in zip(given, sides, strict=True))
        averages = all(short * share == long for long, short, share in zip(given, sides, shares, strict=True))
        self.scaling = nn.AvgPool2d(shares, shares) if averages else Bilinear(sides)
        self.network = network

    def __call__(self, *inputs: Any) -> Any:
        """The network's outputs. ValueError for images of another size, which would be scaled by another ratio."""
        for image in inputs[:1]:
            if image.ndim != 4 or tuple(image.shape[2:]) != self.given:
                height, width = self.given
                raise ValueError(f"the network takes images of {height} x {width}, but got shape {tuple(image.shape)}")
        return super().__call__(*inputs)

    def construct(self, x: Any) -> Any:
        return self.network(self.scaling(x))


class Bilinear(nn.Cell):
    """Images (n, channels, height, width) at other sides, interpolated between the centres of pixels."""

    def __init__(self, sides: Sides) -> None:
        super().__init__()
        self.sides = sides

    def construct(self, x: Any) -> Any:
        return ops.interpolate(x, size=self.sides, mode="bilinear")


class Resolution:
    """The network at a lower resolution of its images: the choice of EfficientNet beside depth and width (Tan and Le,
    ICML 2019, arXiv:1905.11946), made for a network that is trained already.

    >>> resolution = Resolution(0.75)
    >>> smaller = resolution.apply(net, x[:1], reestimate=x)       # takes the images that net takes
    >>> resolution.sides
    (24, 24)
    >>> front = autocomp.search(smaller, "latency<0.2ms", "ascend-310p3", data)

    The new network takes the same images, scales them down and runs the float network behind that; multiply-accumulates
    of convolutions fall with the square of the ratio. Any search, estimate, quantizer or export takes it. The cell
    ``network`` of it is the float one: ``conv1`` becomes ``network.conv1``, while parameters keep their names.

    Args:
        ratio: share of height and width, in (0, 1), each rounded to whole pixels; where the network does not take
            these, to the nearest multiple of 2, 4, 8, 16 or 32 that it takes. Below 0.5 an interpolation leaves pixels
            out: 1/3 and 1/4 of the sides, where they divide them, average all.

    ``sides`` are the height and width in pixels after ``apply``.
    """

    name = "resolution"
    sides: Sides | None = None

    @checked(RULES["Resolution"])
    def __init__(self, ratio: float = 0.75) -> None:
        self.ratio = float(ratio)

    @checked(RULES["lower"])
    def apply(self, net: Any, inputs: Any = None, reestimate: Any = None) -> Any:
        """A new Cell that scales its images down.

        Args:
            net: a MindSpore Cell with one input, images (n, channels, height, width); it is copied, never changed.
            inputs: as ``autocomp.search`` takes them; None tries the usual image sizes.
            reestimate: images, (n, channels, height, width), for BatchNorm's statistics, which were those of larger
                images: :func:`reestimate_batchnorm`. None: they stay.

        Raises:
            TypeError: net is no Cell. NoEffectError: the ratio leaves the sides as they are, the network takes no
            images or none of that size, or it returns other shapes for them; with ``reestimate``, it has no BatchNorm.
        """
        net = as_float32(net)
        arrays = inputs_for(net, inputs)
        if len(arrays) != 1 or arrays[0].ndim != 4:
            shapes = ", ".join(str(array.shape) for array in arrays)
            raise NoEffectError(
                f"{self.name} scales one input of images, (n, channels, height, width), but the inputs are {shapes}"
            )
        (image,) = arrays
        given: Sides = image.shape[2], image.shape[3]
        self.sides = self._sides(net, image, given)
        twin = copy_network(net)
        names = {id(parameter): parameter.name for parameter in twin.get_parameters()}
        found = ScaledImages(twin, given, self.sides)
        rename_parameters(found, names)
        found.set_train(net.training)
        return found if reestimate is None else reestimate_batchnorm(found, reestimate)

    def _sides(self, net: Any, image: np.ndarray, given: Sides) -> Sides:
        """Those nearest to the ratio at which the network runs and returns what it returned."""
        shapes, refusals = _shapes(net, image), list[str]()
        for sides in self._candidates(given):
            small = np.zeros((*image.shape[:2], *sides), image.dtype)
            try:
                found = _shapes(net, small)
            except Exception as error:  # the network's own code may raise anything for a size that it does not take
                refusals.append(f"at {sides[0]} x {sides[1]} it does not run ({first_line(error)})")
                continue
            if found == shapes:
                return sides
            refusals.append(f"at {sides[0]} x {sides[1]} it returns {_listed(found)} in place of {_listed(shapes)}")
        if not refusals:
            raise NoEffectError(f"{self.name} of {self.ratio:g} leaves {given[0]} x {given[1]} pixels as they are")
        raise NoEffectError(f"{self.name} of {self.ratio:g} does not suit the network: {refusals[0]}")

    def _candidates(self, given: Sides) -> Iterator[Sides]:
        """None where the ratio leaves the sides as they are."""
        seen: set[Sides] = {given}
        if all(round(side * self.ratio) == side for side in given):
            return
        for divisor in DIVISORS:
            height, width = (max(1, round(side * self.ratio / divisor)) * divisor for side in given)
            if (height, width) not in seen and height <= given[0] and width <= given[1]:
                seen.add((height, width))
                yield height, width


def _shapes(net: Any, image: np.ndarray) -> list[tuple[int, ...]]:
    """Of the outputs in evaluation mode."""
    return [output.shape for output in forward_in_any_mode(net, (image,))]


def _listed(shapes: list[tuple[int, ...]]) -> str:
    return ", ".join(map(str, shapes))
