"""GPTQ as an algorithm: each weight is rounded so that it compensates the errors of those before it."""

from __future__ import annotations

import numpy as np

from autocomp.primitives.arguments import RULES
from autocomp.primitives.numerics.adaptive_rounding import adaptive_rounding
from autocomp.primitives.numerics.calibrators import Calibration
from autocomp.primitives.numerics.patches import MOST_WIDTH, PATCHES, PatchSums, patch_width, sample_patches
from autocomp.primitives.numerics.quantizers import QuantizedWeight
from autocomp.primitives.numerics.sequential_rounding import sequential_rounding
from autocomp.primitives.numerics.weight_grids import fit_grid, parts_of
from autocomp.rules import checked
from autocomp.search_spaces import FLOAT_BITS, Node

from .layerwise import LayerwiseRounding


class GPTQ(LayerwiseRounding):
    """GPTQ (Frantar et al., ICLR 2023, arXiv:2210.17323): with E[x x^T] = H the difference D of a row costs D H D^T
    (eq. 1); weights are rounded one after the other, and those that are left take in the error of each (eq. 2 and 3).

    With one scale for a row the solver is that of :class:`AdaRound`
    (:mod:`autocomp.primitives.numerics.adaptive_rounding`), which also chooses the scale; with groups or zero points it
    is :mod:`autocomp.primitives.numerics.sequential_rounding`. Unlike AdaRound, layers are rounded one after the other:
    each for the inputs that the rounded layers before it compute, and one Hessian is held at a time.

    >>> gptq = GPTQ(weight_bits=4, group_size=128)
    >>> deploy = gptq.convert(gptq.apply(net, calibrate=tokens))

    Args:
        weight_bits, activation_bits: 2 to 8, or 32 for none. first_last_bits: least number of bits in the first and
            last layer; None: as all others.
        group_size: so many inputs of an output channel share a scale, or, where a layer's inputs are not a multiple of
            it, the largest divisor; None: all of them.
        activation_order: whether weights with the largest inputs are rounded first; else from the first to the last.
        symmetric_weights: ranges of weights symmetric around zero; otherwise they have a zero point, too.
        calibration: of inputs' ranges: "mse", "minmax", "percentile" or "kl".

    Transposed convolutions, and layers with more than 4,608 inputs for an output, are rounded to nearest.
    """

    name = "gptq"

    @checked(RULES["GPTQ"])
    def __init__(
        self,
        weight_bits: int = 4,
        activation_bits: int = FLOAT_BITS,
        first_last_bits: int | None = None,
        group_size: int | None = None,
        activation_order: bool = True,
        symmetric_weights: bool = True,
        calibration: Calibration = "mse",
    ) -> None:
        super().__init__(weight_bits, activation_bits, first_last_bits, group_size, symmetric_weights, calibration)
        self.activation_order = activation_order

    def rounded(self, node: Node, weight: np.ndarray, bits: int, x: np.ndarray) -> QuantizedWeight:
        if node.transposed or patch_width(node) > MOST_WIDTH:
            return super().rounded(node, weight, bits, x)
        hessian = hessian_of(node, x)
        parts = parts_of(weight.shape[1], self.group_size)
        if parts == 1 and self.symmetric_weights and self.activation_order:
            return adaptive_rounding(weight, bits, hessian)
        grid = fit_grid(weight.reshape(len(weight), -1), bits, parts, self.symmetric_weights)
        rows, count = weight.reshape(len(weight), -1), len(weight) // len(hessian)
        found = [
            sequential_rounding(rows[i : i + count], grid.rows(i, i + count), moment, self.activation_order)
            for i, moment in zip(range(0, len(rows), count), hessian, strict=True)
        ]
        return grid.stored(np.concatenate(found).reshape(weight.shape))


def hessian_of(node: Node, x: np.ndarray) -> np.ndarray:
    """(groups, k, k) float64: E[x x^T] of the patches of a layer's input, with a ridge."""
    sums = PatchSums()
    sums.add(sample_patches(node, x, PATCHES, np.random.default_rng(0)))
    return sums.moments().damped(centred=False)
