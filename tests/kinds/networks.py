"""Small networks of kinds that are deployed: sounds, tables, points, heads of detectors, several tasks."""

from __future__ import annotations

from typing import Any

from autocomp.primitives.tracing.platform import load_mindspore

load_mindspore()

import numpy as np  # noqa: E402
from mindspore import Tensor, nn, ops  # noqa: E402

from tests.networks import conv  # noqa: E402


class Waves(nn.Cell):
    """Dilated causal convolutions of one dimension, gated, with skip connections."""

    def __init__(self) -> None:
        super().__init__()
        self.dilations = (1, 2)
        self.stem, self.last = nn.Conv1d(1, 16, 1), nn.Conv1d(24, 8, 1)
        self.filters, self.gates = (
            nn.CellList([nn.Conv1d(16, 16, 2, pad_mode="valid", dilation=d, has_bias=True) for d in self.dilations])
            for _ in range(2)
        )
        self.skips, self.residuals = (nn.CellList([nn.Conv1d(16, n, 1) for _ in self.dilations]) for n in (24, 16))

    def construct(self, x: Tensor) -> Tensor:
        x, skipped = self.stem(x), 0
        for i, dilation in enumerate(self.dilations):
            padded = ops.pad(x, (dilation, 0))
            y = ops.tanh(self.filters[i](padded)) * ops.sigmoid(self.gates[i](padded))
            skipped, x = skipped + self.skips[i](y), x + self.residuals[i](y)
        return self.last(ops.relu(skipped))


class Table(nn.Cell):
    """Columns of classes, each looked up, beside columns of numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.classes = nn.CellList([nn.Embedding(size, 4) for size in (10, 5, 7)])
        self.numbers, self.norm = nn.BatchNorm1d(6), nn.BatchNorm1d(64)
        self.wide, self.narrow, self.head = nn.Dense(18, 64), nn.Dense(64, 32), nn.Dense(32, 1)

    def construct(self, classes: Tensor, numbers: Tensor) -> Tensor:
        columns = tuple([table(classes[:, i]) for i, table in enumerate(self.classes)])
        x = ops.concat((*columns, self.numbers(numbers)), 1)
        return ops.sigmoid(self.head(ops.relu(self.narrow(ops.relu(self.norm(self.wide(x)))))))


class Points(nn.Cell):
    """A class for each point of a cloud; each sees the largest features of all."""

    def __init__(self) -> None:
        super().__init__()
        self.each, self.norm, self.all = nn.Conv1d(3, 32, 1), nn.BatchNorm1d(32), nn.Conv1d(32, 64, 1)
        self.joined, self.head = nn.Conv1d(96, 32, 1), nn.Conv1d(32, 6, 1)

    def construct(self, x: Tensor) -> Tensor:
        each = ops.relu(self.norm(self.each(x)))
        largest = ops.tile(ops.amax(self.all(each), 2, True), (1, 1, 20))
        return self.head(ops.relu(self.joined(ops.concat((each, largest), 1)))).swapaxes(1, 2)


class Keypoints(nn.Cell):
    """Places of the peaks of heatmaps, as means over them, and the heatmaps."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.norm, self.head = conv(3, 16), nn.BatchNorm2d(16), nn.Conv2d(16, 5, 1, has_bias=True)
        grid = np.linspace(0, 1, 12, dtype=np.float32)
        self.across, self.down = Tensor(np.tile(grid, 12)), Tensor(np.repeat(grid, 12))

    def construct(self, x: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.head(ops.relu(self.norm(self.body(x))))
        shares = ops.softmax(maps.reshape(maps.shape[0], 5, -1), -1)
        return ops.stack(((shares * self.across).sum(-1), (shares * self.down).sum(-1)), -1), maps


class Tasks(nn.Cell):
    """Classes, a mask and a box from one body, as a dict; features only while training."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.deep = conv(3, 16), conv(16, 24, 3, 2)
        self.classes, self.mask, self.box = nn.Dense(24, 5), nn.Conv2d(16, 3, 1), nn.Dense(24, 4)

    def construct(self, x: Tensor) -> dict[str, Any]:
        y = ops.relu(self.body(x))
        z = ops.relu(self.deep(y)).mean((2, 3))
        features = y if self.training else None
        mask = self.mask(y).argmax(1)
        return {"class": self.classes(z), "mask": mask, "box": ops.sigmoid(self.box(z)), "features": features}


class Autoencoder(nn.Cell):
    """Variational: the decoded mean, the code's mean and logarithm of the variance, and the divergence of a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.mean, self.spread = nn.Dense(48, 64), nn.Dense(64, 8), nn.Dense(64, 8)
        self.decode, self.last = nn.Dense(8, 64), nn.Dense(64, 48)

    def construct(self, x: Tensor) -> tuple[Tensor, ...]:
        hidden = ops.relu(self.encode(x))
        mean, spread = self.mean(hidden), self.spread(hidden)
        divergence = -0.5 * (1 + spread - mean**2 - ops.exp(spread)).sum(1).mean()
        return ops.sigmoid(self.last(ops.relu(self.decode(mean)))), mean, spread, divergence
