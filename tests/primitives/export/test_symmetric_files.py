"""Files for runtimes without zero points, where weights of 4 bits stand beside inputs of 8."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import autocomp
from autocomp.primitives.export.files import norm_error
from autocomp.primitives.tracing.platform import forward
from tests.networks import Tensor, nn, randomised


class Patches(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 4, 4, pad_mode="valid")
        self.norm, self.attention = nn.LayerNorm((16,)), nn.MultiheadAttention(16, 2, batch_first=True)
        self.head = nn.Dense(16, 4)

    def construct(self, x: Tensor) -> Tensor:
        x = self.patch(x)
        x = x.reshape((x.shape[0], 16, -1)).transpose((0, 2, 1))
        y = self.norm(x)
        return self.head((x + self.attention(y, y, y, need_weights=False)[0]).mean(1))


def test_a_file_whose_rounded_inputs_pass_a_reshape_is_loaded(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((8, 3, 8, 8)).astype(np.float32)
    front = autocomp.search(
        randomised(Patches()), "size<95%", "nvidia-t4", x, primitives=["rtn"], trials=1, fine_tune=0, progress=False
    )
    point = front.evaluate(autocomp.Plan({"format/patch": "w8a8", "format/head": "w4a4"}))
    point.export(tmp_path / "net.onnx")
    found = autocomp.load_deployed(tmp_path / "net.onnx").run(x)[0]
    assert norm_error(found, forward(point.net, (x,))[0]) < 0.05
