"""What SmoothQuant, AWQ and Outlier Suppression+ choose for one layer of a plan: the scales that its input is divided
by, and the shift that is subtracted before.

    y = W x = (W diag(s)) (diag(s)^-1 (x - z)) + W z

In a search the scales of a tensor are found once, from the float network's activations, for each format and primitive
that a knob offers; they do not depend on what else a plan chooses. Layers that read one tensor share them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from autocomp.search_spaces import FLOAT_BITS, Format

from .patches import Hessian
from .quantizers import ActivationQuantizer, QuantizedWeight, fit_activation
from .scaled_inputs import MigrationErrors, best_activation_scales, best_migration, best_suppression
from .sequential_rounding import sequential_rounding
from .weight_grids import fit_grid, parts_of

SMOOTH, AWQ, GPTQ, SUPPRESSION = "smooth-quant", "awq", "gptq", "outlier-suppression"
STRENGTHS = (0.25, 0.5, 0.75)  # migration strengths that are choices of their own; else each tensor has its best
DYNAMIC = f"{SMOOTH}-dynamic"  # with a range for each row of the input, found while the network runs
SMOOTHING = (SMOOTH, DYNAMIC, *(f"{SMOOTH}-{strength}" for strength in STRENGTHS))
DIVIDING = (*SMOOTHING, AWQ, SUPPRESSION)  # primitives that divide inputs
Key = tuple[str, str, str]  # layer, format as text, primitive


@dataclass(frozen=True)
class InputScaling:
    """A layer's input under a format and a primitive.

    scale: (in,) float32, positive: what each channel is divided by, and the layer's weight is multiplied by.
    exponent: the migration strength, AWQ's ratio, or the threshold of outlier suppression. gain: the error of the
    outputs of the layers that read the tensor, divided by that without scales and with one range for the tensor.
    activation: the quantizer of the divided input; None: it has no calibrated range. row_bits: of the divided input,
    where each row has a range of its own. shift: (in,) float32, subtracted from the input before; None: nothing is.
    """

    scale: np.ndarray
    exponent: float
    gain: float
    activation: ActivationQuantizer | None = None
    row_bits: int | None = None
    shift: np.ndarray | None = None


@dataclass(frozen=True)
class TensorSamples:
    """Samples of a tensor that dense layers read: rows, (n, in); the extremes of each channel, lows and highs, (in,),
    and its mean magnitude, (in,), of all calibration samples."""

    rows: np.ndarray
    lows: np.ndarray
    highs: np.ndarray
    magnitudes: np.ndarray

    @property
    def peaks(self) -> np.ndarray:
        return np.maximum(np.abs(self.lows), np.abs(self.highs))


def takes(primitive: str, some: Format) -> bool:
    """Whether the primitive is made for the format: SmoothQuant and outlier suppression for layers in integers, AWQ for
    weights alone, GPTQ for weights of few bits."""
    if primitive in (*SMOOTHING, SUPPRESSION):
        return some.in_integers and some.weight_bits > 1
    return 2 <= some.weight_bits < 8 and (primitive != AWQ or some.activation_bits == FLOAT_BITS)


def input_scaling(
    primitive: str, some: Format, weights: Sequence[np.ndarray], seen: TensorSamples, symmetric: bool = False
) -> InputScaling:
    """The scales of a tensor for the layers that read it.

    weights: (out, in) of these layers. symmetric: whether ranges are symmetric around zero.
    """
    bits, dynamic = (some.weight_bits, some.activation_bits), primitive == DYNAMIC
    shift: np.ndarray | None = None
    if primitive == AWQ:
        parts = parts_of(len(seen.peaks), some.group or None)
        rounding = partial(_unclipped, bits[0], parts)
        scale, exponent = best_activation_scales(weights, seen.rows, seen.magnitudes, rounding)
    elif primitive == SUPPRESSION:
        shift, scale, exponent = best_suppression(weights, seen.rows, (seen.lows, seen.highs), bits)
    else:
        _, _, strength = primitive.partition(f"{SMOOTH}-")
        alpha = float(strength) if strength and not dynamic else None
        scale, exponent = best_migration(weights, seen.rows, seen.peaks, bits, alpha=alpha, dynamic=dynamic)
    plain = MigrationErrors(weights, seen.rows, bits)
    errors = MigrationErrors(weights, seen.rows, bits, dynamic=dynamic, group=some.group or None)
    gain = errors(scale, shift) / max(plain(np.ones_like(scale)), 1e-30)
    if dynamic:
        return InputScaling(scale, float(exponent), float(gain), row_bits=bits[1])
    activation = None
    if some.activation_bits < FLOAT_BITS:
        lows, highs, rows = (
            part / scale if shift is None else (part - shift) / scale for part in (seen.lows, seen.highs, seen.rows)
        )
        low, high = min(float(lows.min()), 0.0), max(float(highs.max()), 0.0)
        activation = fit_activation(rows.reshape(-1), low, high, some.activation_bits, symmetric)
    return InputScaling(scale, float(exponent), float(gain), activation, shift=shift)


def _unclipped(bits: int, parts: int, weight: np.ndarray) -> np.ndarray:
    """To nearest without clipping, as AWQ compares scales."""
    return fit_grid(weight, bits, parts, clips=False).nearest(weight)


def to_nearest(weight: np.ndarray, some: Format) -> QuantizedWeight:
    """A weight, (out, in), with a scale for each of the format's groups, to nearest."""
    return fit_grid(weight, some.weight_bits, parts_of(weight.shape[1], some.group)).stored(weight)


def rounded_by(primitive: str, weight: np.ndarray, some: Format, patches: Hessian, centred: bool) -> QuantizedWeight:
    """A weight, (out, in / groups, ...), by AWQ or GPTQ.

    patches: of the input that it is multiplied with, divided by AWQ's scales. centred: whether a shift of an output's
    mean is compensated.
    """
    rows, bits = weight.reshape(len(weight), -1), some.weight_bits
    parts = parts_of(weight.shape[1], some.group or None)
    if primitive == AWQ:
        (importance,) = np.einsum("gkk->gk", patches.damped(centred))
        return fit_grid(rows, bits, parts, importance=importance).stored(weight)
    grid, moments = fit_grid(rows, bits, parts), patches.damped(centred)
    count = len(rows) // len(moments)
    found = [
        sequential_rounding(rows[i : i + count], grid.rows(i, i + count), moment)
        for i, moment in zip(range(0, len(rows), count), moments, strict=True)
    ]
    return grid.stored(np.concatenate(found).reshape(weight.shape))
