"""A dense layer whose weight is held in integers, as both layouts store it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from autocomp.primitives.numerics.plan_compressor import LayerState


@dataclass(frozen=True)
class StoredRange:
    """The one range of 8 bits that a layer's input has: ``round(x / scale) + offset``, -128 to 127. The same in both
    layouts: the levels of :class:`ActivationQuantizer`, moved by 128."""

    scale: float
    offset: int


@dataclass(frozen=True)
class StoredLayer:
    """integers: (out, in) int8. scale: (out, parts) float32, parts equal groups of inputs. per_token: whether each
    row of the input is rounded to 8 bits while the network runs. static: the calibrated range of the input, if it has
    one. bias: (out,) float32 or None."""

    name: str
    integers: np.ndarray
    scale: np.ndarray
    bits: int
    per_token: bool
    static: StoredRange | None = None
    bias: np.ndarray | None = None

    @property
    def format(self) -> str:
        groups = f"g{self.group_size}" if self.scale.shape[1] > 1 else ""
        inputs = "a8 per token" if self.per_token else "a8" if self.static is not None else ""
        return f"w{self.bits}{inputs}{groups}"

    @property
    def group_size(self) -> int:
        """Inputs that share a scale."""
        return int(self.integers.shape[1] // self.scale.shape[1])

    @classmethod
    def of(cls, name: str, state: LayerState, layout: str) -> StoredLayer:
        """ValueError for what neither layout holds."""
        weight = state.quantized
        if weight is None:
            raise ValueError(
                f"{layout} holds layers with integer weights, but {name} rounds its input alone: exclude it"
            )
        if state.activation is not None and state.activation.bits != 8:
            raise ValueError(f"{layout} rounds inputs to 8 bits, but {name} has {state.activation.bits}: choose a8")
        if state.scale is not None:
            raise ValueError(
                f"{layout} has no place for a scale in front of a layer, but {name} divides its input: round it with "
                f"another primitive, such as gptq"
            )
        if weight.zero_point is not None or weight.odd:
            raise ValueError(f"{layout} holds levels around zero here, but those of {name} (w{weight.bits}) are not: "
                             f"use symmetric_weights=True")  # fmt: skip
        if state.row_bits not in (None, 8):
            raise ValueError(f"{layout} rounds tokens to 8 bits, but {name} has {state.row_bits}: choose a8")
        weight = weight.with_positive_scale()
        scale = weight.scale.reshape(len(weight.scale), -1).astype(np.float32)
        own = state.activation
        static = None if own is None else StoredRange(float(np.float32(own.scale)), own.zero_point - 128)
        return cls(name, weight.integers, scale, weight.bits, state.row_bits is not None, static, state.bias)

    def called(self, name: str) -> StoredLayer:
        return replace(self, name=name)

    def dequantized(self) -> np.ndarray:
        """(out, in) float32."""
        levels = self.integers.reshape(*self.scale.shape, -1).astype(np.float32)
        return (levels * self.scale[..., None]).reshape(self.integers.shape)
