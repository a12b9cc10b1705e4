"""Outlier suppression as an algorithm: channels of inputs are centred, those with outliers divided, then rounded."""

from __future__ import annotations

import numpy as np

from autocomp.primitives.arguments import RULES
from autocomp.primitives.numerics.calibrators import Calibration
from autocomp.primitives.numerics.scaled_inputs import best_suppression
from autocomp.primitives.quantization.scaled_quantization import ScaledQuantization
from autocomp.rules import checked


class OutlierSuppression(ScaledQuantization):
    """Outlier Suppression+ (Wei et al., EMNLP 2023, arXiv:2304.09145): Y = ((X - z) / s) (W s)^T + (z W^T + b) with
    z_j = (max X_j + min X_j) / 2 and s_j = max(1, max|X_j - z_j| / t).

    >>> suppression = OutlierSuppression(weight_bits=8, activation_bits=8)
    >>> deploy = suppression.convert(suppression.apply(net, calibrate=tokens))
    >>> same_in_float = suppression.equivalent(net, calibrate=tokens)

    The LayerNorm, RMSNorm or dense layer before a tensor takes its scales, and where it adds a number to each channel
    the shift, too; elsewhere a difference or a product is put before the layer. The layer's bias takes z W^T; one
    without a bias gets one. Unlike SmoothQuant, channels below the threshold t keep their scale.

    Args:
        weight_bits, activation_bits: 2 to 8, or 32 for none. first_last_bits: least number of bits in the first and
            last layer; None: as all others.
        threshold: t, as a share of the largest magnitude of a centred channel, 0 to 1. None: for each tensor that with
            the least error of its layers' outputs, and no shift where that errs less; 0.5 where inputs are not rounded.
        calibration: of inputs' ranges: "mse", "minmax", "percentile" or "kl".

    ``exponents`` has the thresholds by layer.
    """

    name = "outlier-suppression"

    @checked(RULES["OutlierSuppression"])
    def __init__(
        self,
        weight_bits: int = 8,
        activation_bits: int = 8,
        first_last_bits: int | None = None,
        threshold: float | None = None,
        calibration: Calibration = "mse",
    ) -> None:
        super().__init__(weight_bits, activation_bits, first_last_bits, calibration=calibration)
        self.threshold = threshold

    def moves(
        self, weights: list[np.ndarray], rows: np.ndarray, x: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | None, float]:
        extremes = x.min(0), x.max(0)
        shift, scales, share = best_suppression(weights, rows, extremes, self._bits, self.calibration, self.threshold)
        return scales, shift if shift.any() else None, share
