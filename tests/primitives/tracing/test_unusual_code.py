"""Networks whose code is unusual: for GRAPH mode alone, with parameters of one name, or that cannot be compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn, ops

import autocomp
from autocomp.errors import TraceError
from autocomp.primitives import RTN
from autocomp.primitives.export.files import export_mindir, norm_error, run_mindir, written_whole
from autocomp.primitives.tracing.platform import forward, forward_in_any_mode
from autocomp.primitives.tracing.tracer import example_inputs, trace
from autocomp.problem.data import Data, Samples
from autocomp.problem.jobs import as_taken, deployment_inputs

X = np.ones((2, 3, 8, 8), np.float32)
NOISE = np.random.default_rng(0).normal(size=(16, 3, 8, 8)).astype(np.float32)
TABLE: dict[str, Callable[[Any], Any]] = {"relu": lambda x: ops.relu(x), "twice": lambda x: x * 2}


class OneName(nn.Cell):
    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.a, self.b = nn.Conv2d(3, 4, 3, 2), nn.Conv2d(4, 5, 3, 2)

    def construct(self, x: Any) -> Any:
        return self.b(ops.relu(self.a(x)))


class Part(nn.Cell):
    def __init__(self, channels: int) -> None:
        super().__init__(auto_prefix=False)
        self.conv, self.norm = nn.Conv2d(channels, 8, 3, 2), nn.BatchNorm2d(8)

    def construct(self, x: Any) -> Any:
        return ops.relu(self.norm(self.conv(x)))


class PartsOfOneName(nn.Cell):
    """``held``: how the parts are held, whose parameters have the same names."""

    def __init__(self, held: str) -> None:
        super().__init__()
        parts = [Part(3), Part(8)]
        if held == "attributes":
            self.first, self.second = parts
        self.parts = nn.SequentialCell(parts) if held == "sequence" else nn.CellList(parts)
        self.held, self.head = held, nn.Dense(8, 3)

    def construct(self, x: Any) -> Any:
        if self.held == "sequence":
            return self.head(self.parts(x).mean((2, 3)))
        if self.held == "attributes":
            return self.head(self.second(self.first(x)).mean((2, 3)))
        for part in self.parts:
            x = part(x)
        return self.head(x.mean((2, 3)))


class GraphOnly(nn.Cell):
    def __init__(self, kind: str = "max") -> None:
        super().__init__()
        self.kind, self.a, self.b = kind, nn.Conv2d(3, 4, 3, 2), nn.Dense(4, 3)

    def construct(self, x: Any) -> Any:
        y = self.a(x).reshape(x.shape[0], 4, -1)
        if self.kind == "min":
            return self.b(y.min(2) + 1.0)
        if self.kind == "both":
            return self.b(y.max(2) - y.min(axis=-1)), y.max(1)
        return y.max(2) * 2.0


class FromATable(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.act = nn.Conv2d(3, 4, 3, 2), TABLE["twice"]

    def construct(self, x: Any) -> Any:
        return self.act(self.a(x))


class HeldInAList(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.acts = nn.Conv2d(3, 4, 3, 2), [ops.relu, lambda x: ops.tanh(x)]

    def construct(self, x: Any) -> Any:
        return self.acts[1](self.a(x))


class Leaky(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.act = partial(ops.leaky_relu, alpha=0.2)

    def construct(self, x: Any) -> Any:
        return self.act(x)


class InsideAPart(nn.SequentialCell):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 4, 3, 2), nn.SequentialCell(Leaky()))


def doubled(x: Any) -> Any:
    return x * 2


class Functions(nn.Cell):
    """Functions that the compiler takes: a table of them, a lambda and a function within construct."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.table, self.act = nn.Conv2d(3, 8, 3, 2), nn.Dense(8, 3), {"relu": ops.relu}, doubled

    def construct(self, x: Any) -> Any:
        def halved(y: Any) -> Any:
            return y / 2

        plus = lambda y: y + 1  # noqa: E731
        return self.b(halved(plus(self.act(self.table["relu"](self.a(x)))).mean((2, 3))))


class OtherSelf(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3, 2)

    def construct(s, x: Any) -> Any:
        return s.a(x)


class Tokens(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.dense = nn.Embedding(10, 4), nn.Dense(4, 3)

    def construct(self, x: Any) -> Any:
        return self.dense(self.table(x).mean(1))


@pytest.fixture
def graph_mode() -> Iterator[None]:
    before = ms.get_context("mode")
    ms.set_context(mode=ms.GRAPH_MODE)
    yield
    ms.set_context(mode=before)


def test_parameters_of_one_name_get_names_of_their_own() -> None:
    net = OneName()
    assert set(trace(net, (X[:1],)).layers) == {"a", "b"}
    assert [parameter.name for parameter in net.get_parameters()] == ["a.weight", "b.weight"]


@pytest.mark.usefixtures("graph_mode")
def test_a_network_for_graph_mode() -> None:
    assert deployment_inputs(GraphOnly(), Data(evaluate=X), None)[0].shape == (1, 3, 8, 8)
    assert forward_in_any_mode(GraphOnly(), (X,))[0].shape == (2, 4)


@pytest.mark.usefixtures("graph_mode")
@pytest.mark.parametrize("kind", ["min", "both"])
def test_search_of_a_network_for_graph_mode(kind: str, tmp_path: Path) -> None:
    front = autocomp.search(GraphOnly(kind), None, "ascend-310p3", NOISE, trials=3, fine_tune=0, progress=False)
    for ending in ("mindir", "onnx"):
        assert front.pick().export(tmp_path / f"net.{ending}").max_relative_error < 0.05


@pytest.mark.parametrize("held", ["attributes", "sequence", "list"])
def test_parts_of_one_name(held: str) -> None:
    expected = {"attributes": "first.conv second.conv head"}.get(held, "parts.0.conv parts.1.conv head").split()
    assert list(trace(PartsOfOneName(held), (X[:1],)).layers) == expected
    net, algorithm = PartsOfOneName(held), RTN()
    rounded = algorithm.convert(algorithm.apply(net, calibrate=NOISE))
    assert norm_error(forward(rounded, (NOISE,))[0], forward(net, (NOISE,))[0]) < 0.1


def test_functions_that_the_compiler_takes() -> None:
    assert set(trace(Functions(), (X[:1],)).layers) == {"a", "b"}


@pytest.mark.parametrize(
    ("net", "sentence"),
    [
        (FromATable, r"\(1, 3, 8, 8\): MindSpore compiles functions .* with def, but act of the network .* a lambda$"),
        (HeldInAList, "with def, but acts of the network is, or holds, a lambda$"),
        (InsideAPart, r"with def, but act of cell 1\.0 is, or holds, a functools\.partial$"),
        (OtherSelf, "the first parameter of construct must be self, but in the network it is s"),
    ],
)
def test_what_the_compiler_cannot_read(net: type, sentence: str) -> None:
    with pytest.raises(TraceError, match=sentence) as error:
        trace(net(), (X[:1],))
    assert "\n" not in str(error.value)


def test_token_ids_that_are_wrong_are_shown_as_they_were_given() -> None:
    with pytest.raises(ValueError, match=r"takes? inputs of shape \(1, 2, 2, 3\) int32: "):
        deployment_inputs(nn.Dense(7, 3), Data(evaluate=np.ones((4, 2, 2, 3), np.int64)), None)
    assert as_taken(Tokens(), Samples.read(np.ones((4, 5), np.int64)))[0].dtype == np.int32


class Masked(nn.Cell):
    """What the mask hides does not count; ``kind`` says which type the mask has, and whether tokens are masked."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.table = kind, nn.Embedding(10, 4)

    def construct(self, x: Any, mask: Any) -> Any:
        if self.kind == "truths of vectors":
            return ops.where(mask, x, ops.zeros_like(x))
        words = self.table(x)
        if self.kind == "truths of tokens":
            return ops.where(mask.expand_dims(-1), words, ops.zeros_like(words)).mean(1)
        return ops.matmul(mask.expand_dims(1), words)


@pytest.mark.parametrize(
    ("kind", "types"),
    [
        ("truths of vectors", ["float32", "bool"]),
        ("truths of tokens", ["int32", "bool"]),
        ("floats of tokens", ["int32", "float32"]),
    ],
)
def test_masks_have_the_type_that_the_network_takes(kind: str, types: list[str]) -> None:
    x = np.ones((4, 5), np.float64) if "vectors" in kind else np.ones((4, 5), np.int64)
    samples = Samples.read(((x, np.ones((4, 5), bool)), None))
    assert [array.dtype.name for array in as_taken(Masked(kind), samples)] == types


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int32])
def test_tensors_of_mindspore_as_inputs(dtype: Any) -> None:
    (one,) = example_inputs(ms.Tensor(X.astype(dtype)))
    assert one.dtype == dtype and one.shape == X.shape
    assert len(example_inputs([ms.Tensor(X), X])) == 2


@pytest.mark.parametrize("name", ["with space", "a=b+c", "(1)~x", "网络"])
def test_mindir_in_a_folder_of_any_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net, folder = nn.Conv2d(3, 4, 3, 2), tmp_path / name
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    target = folder / f"{name}.mindir"
    with written_whole(target) as draft:
        export_mindir(net, (X,), draft)
    assert norm_error(run_mindir(target, (X,))[0], forward(net, (X,))[0]) < 1e-5
    assert target.stat().st_mode & 0o444 == 0o444 & ~_umask() and list(folder.iterdir()) == [target]


def _umask() -> int:
    import os

    mask = os.umask(0)
    os.umask(mask)
    return mask
