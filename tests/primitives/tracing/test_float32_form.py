"""Networks in float16, in bfloat16 and of amp levels are worked on in float32; the user's own stays as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

import autocomp
from autocomp.primitives import RTN, ChannelPruner, fold_batchnorm, prune_channels, trace
from autocomp.primitives.tracing.float32_form import float32_form, half_precision, rounds_to_half
from autocomp.primitives.tracing.platform import forward
from tests.networks import randomised

X = np.random.default_rng(0).normal(size=(40, 3, 12, 12)).astype(np.float32)
amp = ms.amp.auto_mixed_precision


class Images(nn.Cell):
    """Convolutions, BatchNorm in a SequentialCell and LayerNorm; ``cast`` says which type it casts its input to."""

    def __init__(self, cast: Any = None) -> None:
        super().__init__()
        self.cast = cast
        self.stem = nn.SequentialCell(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU())
        self.wide, self.norm, self.head = nn.Conv2d(8, 24, 3, 2), nn.LayerNorm((24,)), nn.Dense(24, 4)

    def construct(self, x: Tensor) -> Tensor:
        if self.cast is not None:
            x = x.astype(self.cast)
        return self.head(self.norm(ops.relu(self.wide(self.stem(x))).mean((2, 3))))


class Attention(nn.Cell):
    """Scores in float16 by the network's own casts; a parameter outside of layers."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.head = nn.Dense(12, 16), nn.Dense(12, 16), nn.Dense(12, 4)
        self.place = ms.Parameter(Tensor(np.ones((1, 36, 12), np.float32)), name="place")

    def construct(self, x: Tensor) -> Tensor:
        x = x.reshape(x.shape[0], 36, 12) + self.place
        query, key = self.query(x).astype(ms.float16), self.key(x).astype(ms.float16)
        scores = ops.softmax(ops.matmul(query, key.swapaxes(1, 2)).astype(ms.float32) / 4, -1)
        return self.head(ops.matmul(scores, x).mean(1))


def of_type(net: nn.Cell, dtype: Any, cell: str = "") -> nn.Cell:
    for parameter in net.get_parameters():
        if parameter.name.startswith(cell):
            parameter.set_dtype(dtype)
    return net


def one_in_float16(net: Images) -> nn.Cell:
    net.wide.to_float(ms.float16)
    return net


FORMS: dict[str, tuple[Callable[[Any], Any], type]] = {
    "parameters": (lambda net: of_type(net, ms.float16), Images),
    "parameters of one layer": (lambda net: of_type(net, ms.float16, "wide"), Images),
    "parameters outside of layers": (lambda net: of_type(net, ms.float16, "place"), Attention),
    "bfloat16": (lambda net: of_type(net, ms.bfloat16), Images),
    "to_float": (lambda net: net.to_float(ms.float16), Images),
    "to_float of a cell": (one_in_float16, Images),
    "O1": (lambda net: amp(net, "O1"), Images),
    "O1 with casts": (lambda net: amp(net, "O1"), Attention),
    "O2": (lambda net: amp(net, "O2"), Images),
    "O2 in bfloat16": (lambda net: amp(net, "O2", ms.bfloat16), Images),
    "O3": (lambda net: amp(net, "O3"), Attention),
    "auto": (lambda net: amp(net, "auto"), Images),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_float32_form_is_the_network_before(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # O1 writes the code of its classes there
    make, kind = FORMS[form]
    expected = forward(plain := randomised(kind()), (X,), graph=False)[0]
    layers = list(trace(plain, (X,)).layers)
    net = make(plain)
    types, cells = [str(p.dtype) for p in net.get_parameters()], [type(cell) for _, cell in net.cells_and_names()]
    found = float32_form(net)
    close = 0.02 if "bfloat16" in form else 2e-3  # the parameters' own resolution
    np.testing.assert_allclose(forward(found, (X,), graph=False)[0], expected, atol=close * np.abs(expected).max())
    assert half_precision(net) and not half_precision(found) and float32_form(found) is found
    assert {str(p.dtype) for p in found.get_parameters()} == {"Float32"}
    assert list(trace(net, (X,)).layers) == layers
    assert [str(p.dtype) for p in net.get_parameters()] == types
    assert [type(cell) for _, cell in net.cells_and_names()] == cells


def test_a_network_in_float32_is_itself() -> None:
    net = Images()
    assert float32_form(net) is net and half_precision(net) == ""
    assert rounds_to_half(trace(Attention(), (X,))) and not rounds_to_half(trace(net, (X,)))


@pytest.mark.parametrize("cast", [ms.float16, ms.bfloat16])
def test_search_of_a_network_that_casts_its_input(cast: Any, tmp_path: Path) -> None:
    net = of_type(randomised(Images(cast)), cast)
    front = autocomp.search(net, "size<60%", "ascend-310p3", X, trials=4, fine_tune=0, progress=False)
    assert any("float32 form" in note for note in front.notes)
    point = min(front.evaluated, key=lambda point: point.cost.size_mb)
    for ending in ("mindir", "onnx"):
        assert point.export(tmp_path / f"net.{ending}").max_relative_error < 0.05
        assert front.float_point.export(tmp_path / f"float.{ending}").max_relative_error < 2e-3
    front.save(tmp_path / "front")
    again = autocomp.load(tmp_path / "front", net).pick().net
    np.testing.assert_array_equal(forward(again, (X,))[0], forward(front.pick().net, (X,))[0])


@pytest.mark.parametrize("form", ["parameters", "O2", "auto"])
def test_algorithms_by_hand(form: str) -> None:
    net = FORMS[form][0](randomised(Images()))
    expected = forward(float32_form(net), (X,), graph=False)[0]
    np.testing.assert_allclose(forward(fold_batchnorm(net, X), (X,))[0], expected, atol=1e-4)
    assert forward(prune_channels(net, {"stem.0": [0, 1, 2]}, X), (X,))[0].shape == (40, 4)
    algorithm = RTN()
    rounded = forward(algorithm.convert(algorithm.apply(net, calibrate=X)), (X,))[0]
    assert 0 < np.abs(rounded - expected).max() < 0.2 * np.abs(expected).max()
    pruner = ChannelPruner("magnitude", keep_ratio=0.5)
    pruned = pruner.apply(net, X)
    pruner.prune(pruned)
    assert pruner.convert(pruned).wide.in_channels == 4
    assert autocomp.estimate(net, "ascend-310p3", X[:1]).params == sum(
        p.size for p in float32_form(net).get_parameters()
    )
