"""A training step with a gradient of limited length."""

from __future__ import annotations

from typing import Any

import numpy as np
from mindspore import nn, ops

from autocomp.primitives.cells.layers import ms


class ClippedStep(nn.TrainOneStepCell):
    """Scales the gradient of all weights together to ``length`` where it is longer (Pascanu et al., ICML 2013).

    network: returns its loss. For ``mindspore.Model(ClippedStep(network, optimizer, 0.3))``.
    """

    def __init__(self, network: Any, optimizer: Any, length: float) -> None:
        super().__init__(network, optimizer)
        self.length, self.most = length, ms.Tensor(np.float32(1))
        self.over_all, self.shorten = ops.HyperMap(), ops.Mul()

    def construct(self, *inputs: Any) -> Any:
        loss = self.network(*inputs)
        gradients = self.grad(self.network, self.weights)(*inputs, ops.ones_like(loss))
        square = 0.0
        for gradient in gradients:
            square = square + (gradient * gradient).sum()
        factor = ops.minimum(self.length / (ops.sqrt(square) + 1e-12), self.most)
        return ops.depend(loss, self.optimizer(self.over_all(ops.partial(self.shorten, factor), gradients)))
