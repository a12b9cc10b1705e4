"""AWQ as an algorithm: weights that meet large inputs are rounded on a finer grid."""

from __future__ import annotations

import numpy as np

from autocomp.primitives.arguments import RULES
from autocomp.primitives.numerics.calibrators import Calibration
from autocomp.primitives.numerics.quantizers import QuantizedWeight
from autocomp.primitives.numerics.scaled_inputs import activation_scales, best_activation_scales
from autocomp.primitives.numerics.weight_grids import fit_grid, parts_of
from autocomp.rules import checked
from autocomp.search_spaces import FLOAT_BITS, Node

from .scaled_quantization import ScaledQuantization


class AWQ(ScaledQuantization):
    """Activation-aware weight quantization (Lin et al., MLSys 2024, arXiv:2306.00978): the weight times s and the input
    divided by it, with s_j = mean|x_j|^ratio and the ratio that errs least in the layers' outputs (eq. 4 and 5); then
    weights are rounded to nearest, with the clipping of the least error.

    >>> awq = AWQ(weight_bits=4, group_size=128)
    >>> deploy = awq.convert(awq.apply(net, calibrate=tokens))
    >>> same_in_float = awq.equivalent(net, calibrate=tokens)

    Args:
        weight_bits, activation_bits: 2 to 8, or 32 for none. first_last_bits: least number of bits in the first and
            last layer; None: as all others.
        group_size: so many inputs of an output channel share a scale, or, where a layer's inputs are not a multiple of
            it, the largest divisor; None: all of them.
        symmetric_weights: ranges of weights symmetric around zero; otherwise they have a zero point, too.
        ratio: the exponent of the scales, 0 to 1. None: for each tensor the best of 20.
        calibration: of inputs' ranges: "mse", "minmax", "percentile" or "kl".
    """

    name = "awq"

    @checked(RULES["AWQ"])
    def __init__(
        self,
        weight_bits: int = 4,
        activation_bits: int = FLOAT_BITS,
        first_last_bits: int | None = None,
        group_size: int | None = None,
        symmetric_weights: bool = True,
        ratio: float | None = None,
        calibration: Calibration = "mse",
    ) -> None:
        super().__init__(weight_bits, activation_bits, first_last_bits, group_size, symmetric_weights, calibration)
        self.ratio = ratio

    def scales(self, weights: list[np.ndarray], rows: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, float]:
        magnitudes = np.abs(x).mean(0)
        if self.ratio is not None or self.weight_bits == FLOAT_BITS:
            ratio = 0.5 if self.ratio is None else self.ratio
            return activation_scales(magnitudes, ratio), ratio
        return best_activation_scales(weights, rows, magnitudes, self._nearest)

    def _nearest(self, weight: np.ndarray) -> np.ndarray:
        """Without clipping, which is searched once the scales are known."""
        parts = parts_of(weight.shape[1], self.group_size)
        return fit_grid(weight, self.weight_bits, parts, self.symmetric_weights, clips=False).nearest(weight)

    def rounded(self, node: Node, weight: np.ndarray, bits: int, x: np.ndarray) -> QuantizedWeight:
        if node.kind != "dense":
            return super().rounded(node, weight, bits, x)
        parts, rows = parts_of(weight.shape[1], self.group_size), x.reshape(-1, weight.shape[1])
        importance = (rows**2).mean(0)
        return fit_grid(weight, bits, parts, self.symmetric_weights, importance).stored(weight)
