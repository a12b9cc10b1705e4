"""SmoothQuant as an algorithm: outliers of inputs move into the weights, then both are rounded to 8 bits."""

from __future__ import annotations

import numpy as np

from autocomp.primitives.arguments import RULES
from autocomp.primitives.numerics.calibrators import Calibration
from autocomp.primitives.numerics.scaled_inputs import best_migration
from autocomp.rules import checked

from .scaled_quantization import ScaledQuantization


class SmoothQuant(ScaledQuantization):
    """SmoothQuant (Xiao et al., ICML 2023, arXiv:2211.10438): Y = (X diag(s)^-1) (diag(s) W) with
    s_j = max|X_j|^alpha / max|W_j|^(1 - alpha) (eq. 3 and 4).

    >>> smooth = SmoothQuant(weight_bits=8, activation_bits=8)
    >>> deploy = smooth.convert(smooth.apply(net, calibrate=tokens))
    >>> same_in_float = smooth.equivalent(net, calibrate=tokens)

    The LayerNorm, RMSNorm or dense layer before a tensor takes its scales; where there is none, a product is put before
    the layer. Weights are rounded per output channel, inputs per tensor with calibrated ranges.

    ``dynamic=True`` (the paper's O1) gives each token a range of its own, found while the network runs. Llama-like
    models need it: some tokens' activations before the narrowing layer of a block are a thousand times those of others.

    Args:
        weight_bits, activation_bits: 2 to 8, or 32 for none. first_last_bits: least number of bits in the first and
            last layer; None: as all others.
        alpha: the migration strength, 0 to 1. None: for each tensor that of 0 to 0.9 with the least error of its
            layers' outputs, or no scales where that is best; 0.5 where inputs are not rounded.
        calibration: of inputs' ranges: "mse", "minmax", "percentile" or "kl".
        dynamic: whether each row of a dense layer's input has a range of its own; convolutions keep calibrated ones.
    """

    name = "smooth-quant"

    @checked(RULES["SmoothQuant"])
    def __init__(
        self,
        weight_bits: int = 8,
        activation_bits: int = 8,
        first_last_bits: int | None = None,
        alpha: float | None = None,
        calibration: Calibration = "mse",
        dynamic: bool = False,
    ) -> None:
        super().__init__(weight_bits, activation_bits, first_last_bits, calibration=calibration)
        self.alpha, self.dynamic = alpha, dynamic

    def scales(self, weights: list[np.ndarray], rows: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, float]:
        return best_migration(weights, rows, np.abs(x).max(0), self._bits, self.calibration, self.alpha, self.dynamic)
