"""Networks whose code is unusual: for GRAPH mode alone, with parameters of one name, or that cannot be compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn, ops

from autocomp.errors import TraceError
from autocomp.primitives.export.files import export_mindir, norm_error, run_mindir, written_whole
from autocomp.primitives.tracing.platform import forward, forward_in_any_mode
from autocomp.primitives.tracing.tracer import example_inputs, trace
from autocomp.problem.data import Data, Samples
from autocomp.problem.jobs import as_taken, deployment_inputs

X = np.ones((2, 3, 8, 8), np.float32)
TABLE: dict[str, Callable[[Any], Any]] = {"relu": lambda x: ops.relu(x), "twice": lambda x: x * 2}


class OneName(nn.Cell):
    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.a, self.b = nn.Conv2d(3, 4, 3, 2), nn.Conv2d(4, 5, 3, 2)

    def construct(self, x: Any) -> Any:
        return self.b(ops.relu(self.a(x)))


class GraphOnly(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3, 2)

    def construct(self, x: Any) -> Any:
        return self.a(x).reshape(x.shape[0], 4, -1).max(2) * 2.0


class FromATable(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.act = nn.Conv2d(3, 4, 3, 2), TABLE["twice"]

    def construct(self, x: Any) -> Any:
        return self.act(self.a(x))


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


@pytest.mark.parametrize(
    ("net", "sentence"),
    [
        (FromATable, "does not compile"),
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
