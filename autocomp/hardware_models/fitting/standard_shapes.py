"""The operator shapes to measure where a device has no figures of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from autocomp.hardware_models.measurements.shapes import OperatorShape


def standard_shapes(formats: Sequence[str] = ("float", "w8a8")) -> list[OperatorShape]:
    """Sizes that cover those of usual networks, for chips of any speed: 0.5 to 460 million multiply-accumulates."""
    found = []
    for channels, pixels in ((16, 56), (24, 28), (32, 28), (64, 56), (64, 14), (128, 28), (256, 14), (512, 7)):
        found.append(OperatorShape("conv", "", "float", 1, channels, channels, pixels, pixels, 3, repeat=4))
    for channels, out, pixels in (
        *((16, 16, 28), (32, 64, 56), (64, 64, 14), (64, 256, 28), (96, 24, 28), (256, 128, 14), (512, 512, 14)),
        *((1024, 256, 7), (320, 1280, 7), (16, 96, 112), (32, 192, 28), (160, 960, 7)),
    ):
        found.append(OperatorShape("conv", "", "float", 1, channels, out, pixels, pixels, 1, repeat=4))
    for channels, pixels, kernel in (
        *((16, 56, 3), (64, 56, 3), (96, 28, 3), (256, 14, 3), (512, 7, 3), (128, 14, 5)),
        *((32, 112, 3), (192, 28, 3), (960, 7, 3), (240, 28, 5), (1152, 7, 5)),
    ):
        found.append(OperatorShape("conv", "", "float", 1, channels, channels, pixels, pixels, kernel, 1, channels, 8))
    found += [
        OperatorShape("conv", "", "float", 1, 3, 32, 224, 224, 3, 2),
        OperatorShape("conv", "", "float", 1, 3, 64, 112, 112, 7, 2),
        OperatorShape("conv", "", "float", 1, 96, 96, 112, 112, 3, 2, 96),
        OperatorShape("conv", "", "float", 1, 144, 144, 56, 56, 5, 2, 144),
        OperatorShape("conv", "", "float", 1, 64, 128, 56, 56, 3, 2),
        OperatorShape("conv", "", "float", 1, 256, 512, 14, 14, 3, 2),
        OperatorShape("conv", "", "float", 2, 16, 96, 112, 112, 1, repeat=2),  # more than caches hold, from here
        OperatorShape("conv", "", "float", 2, 96, 96, 112, 112, 3, 1, 96, 2),
        OperatorShape("conv", "", "float", 2, 144, 144, 56, 56, 3, 1, 144, 2),
        OperatorShape("conv", "", "float", 2, 64, 64, 112, 112, 3, repeat=2),  # to here
        OperatorShape("conv", "", "float", 8, 64, 64, 14, 14, 3, repeat=4),
        OperatorShape("conv", "", "float", 8, 256, 128, 7, 7, 1, repeat=4),
        OperatorShape("conv", "", "float", 1, 128, 128, 14, 14, 3, groups=4, repeat=4),
        OperatorShape("conv", "", "float", 1, 128, 128, 28, 28, 3, groups=32, repeat=4),
        OperatorShape("conv", "", "float", 1, 240, 240, 14, 14, 1, groups=3, repeat=4),
        OperatorShape("conv", "", "float", 1, 64, 128, 28, 28, 3, groups=64),
        OperatorShape("conv", "", "float", 8, 16, 16, 28, 28, 3, groups=16, repeat=8),
    ]
    for rows, channels, out in ((1, 512, 1000), (1, 2048, 1000), (64, 256, 1024), (128, 768, 768)):
        found.append(OperatorShape("dense", "", "float", 1, channels, out, rows, repeat=2))
    layers = [replace(shape, format=form) for shape in found for form in formats]
    return layers + _float_layers() + _integer_layers(formats) + _others()


def _float_layers() -> list[OperatorShape]:
    """Shapes that matter in floats only: an extra pass for an activation, another layout of the input."""
    found = []
    for channels, pixels in ((32, 112), (192, 28), (960, 7)):
        found.append(OperatorShape("conv", "ReLU6", "float", 1, channels, channels, pixels, pixels, 3, 1, channels, 8))
    for channels, out, pixels in ((32, 192, 28), (160, 960, 7)):
        found.append(OperatorShape("conv", "ReLU6", "float", 1, channels, out, pixels, pixels, 1, repeat=4))
    for channels, pixels, stride in ((64, 56, 1), (192, 28, 1), (512, 14, 1)):
        found.append(OperatorShape("conv", "", "float", 1, channels, channels, pixels, pixels, 3, stride, channels))
    return found


def _integer_layers(formats: Sequence[str]) -> list[OperatorShape]:
    """Shapes that matter in integers only: a depthwise layer's channels beyond a multiple of its channel block, and
    additions and pools between layers."""
    if "w8a8" not in formats:
        return []
    grouped = [OperatorShape("conv", "", "w8a8", 1, c, c, p, p, k, 1, c, 8) for c, p, k in ((72, 56, 3), (120, 28, 5))]
    grouped.append(OperatorShape("conv", "", "w8a8", 8, 32, 32, 14, 14, 3, groups=2, repeat=4))
    grouped.append(OperatorShape("conv", "", "w8a8", 8, 16, 32, 28, 28, 3, groups=16))
    images = ((64, 56), (256, 28))
    pools = [OperatorShape("pool", "MaxPool", "w8a8", 1, c, 1, p, p, 3) for c, p in images]
    several = ((16, 112), (32, 56), (64, 56), (96, 28), (192, 28), (128, 14), (384, 14), (256, 7))
    mixed = [OperatorShape("mixed", "", "w8a8", 1, c, c, p, p, repeat=8) for c, p in several]
    return (
        grouped + pools + mixed + [OperatorShape("add", "Add", "w8a8", 1, c, 1, p, p) for c, p in ((16, 112), *images)]
    )


def _others() -> list[OperatorShape]:
    images = ((64, 56), (256, 28), (512, 7), (64, 224))
    return [
        *(OperatorShape("add", "Add", channels_in=c, height=p, width=p) for c, p in images),
        *(OperatorShape("pool", "MaxPool", channels_in=c, height=p, width=p, kernel=2) for c, p in images[:2]),
        *(OperatorShape("mean", channels_in=c, height=p, width=p) for c, p in images),
        *(OperatorShape("activation", "Sigmoid", channels_in=c, height=p, width=p) for c, p in images),
        *(OperatorShape("matmul", channels_in=64, channels_out=n, height=n, groups=12) for n in (64, 196)),
        *(OperatorShape("softmax", channels_in=n, height=n, groups=12) for n in (64, 196)),
        *(OperatorShape("layernorm", channels_in=768, height=n) for n in (64, 196)),
    ]
