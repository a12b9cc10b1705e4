"""Operators in ONNX compute what MindSpore's own do, at the batch of the trace and at another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from autocomp.errors import ExportError, TraceError
from autocomp.primitives.export.onnx_network import onnx_network
from autocomp.primitives.numerics.plan_compressor import PlanCompressor, parameters_of
from autocomp.primitives.tracing.platform import forward
from autocomp.primitives.tracing.tracer import trace
from autocomp.search_spaces import Plan, SearchSpace

from .operator_cells import CELLS, MORE_CELLS, Written, ms, nn, ops


def in_onnx(net: Any, arrays: tuple[np.ndarray, ...]) -> Any:
    """A session of the network, traced at these inputs."""
    import onnxruntime

    graph, parameters = trace(net, arrays), parameters_of(net)
    compressed = PlanCompressor(SearchSpace(graph, ()), parameters)(Plan())
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    data = onnx_network(graph, parameters, compressed).SerializeToString()
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def run(session: Any, arrays: tuple[np.ndarray, ...]) -> list[np.ndarray]:
    """Inputs that nothing reads are none of the session's."""
    return list(session.run(None, {s.name: a for s, a in zip(session.get_inputs(), arrays, strict=True)}))


def assert_agree(net: Any, inputs: tuple[np.ndarray, ...], tolerance: float = 1e-5) -> None:
    session = in_onnx(net, tuple(array[:1] for array in inputs))
    for batch in (1, 3):
        arrays = tuple(array[:batch] for array in inputs)
        expected = forward(net.set_train(False), arrays, graph=False)
        found = run(session, arrays)
        assert len(found) == len(expected)
        for position, (mine, wanted) in enumerate(zip(found, expected, strict=True)):
            where = f"output {position} at batch {batch}"
            assert (mine.dtype, mine.shape) == (wanted.dtype, wanted.shape), where
            np.testing.assert_allclose(mine, wanted, tolerance, tolerance, err_msg=where)


@pytest.fixture(scope="module")
def arrays() -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((3, 4, 6, 6)).astype(np.float32) for _ in range(2))
    return x, y, rng.integers(0, 6, x.shape).astype(np.int32)


@pytest.mark.parametrize("cell", CELLS)
def test_operators_agree(cell: Any, arrays: tuple[np.ndarray, ...]) -> None:
    assert_agree(cell(), arrays)


@pytest.mark.parametrize("cell", MORE_CELLS)
def test_rarer_operators_agree(cell: Any, arrays: tuple[np.ndarray, ...]) -> None:
    assert_agree(cell(), arrays, 2e-5)


@pytest.mark.parametrize("way", ["column", "slice", "list", "added", "zeros"])
def test_assignments_agree(way: str, arrays: tuple[np.ndarray, ...]) -> None:
    assert_agree(Written(way), arrays)


class OfAll(nn.Cell):
    """Numbers of all samples of (batch, 4, 6, 6), and of one number for each."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.mean = kind, ops.ReduceMean(keep_dims=True)

    def construct(self, x: Any) -> Any:
        v = x.mean((1, 2, 3))
        if self.kind == "sum":
            return x.sum(), v.sum()
        if self.kind == "mean":
            return x.mean(), ops.mean(v, 0, True), self.mean(x, (0, 2))
        if self.kind == "largest":
            return x.max(), ops.amin(x, 0), ops.amax(v, 0)
        if self.kind == "deviation":
            return ops.std(x), ops.std(x, (0, 2), 0)
        if self.kind == "integers":
            return (x > 0).astype(ms.int32).sum(), (v > 0).any(), x.reshape(-1).argmax(0)
        return x - x.mean(0), x.mean(0), ops.norm(x)


@pytest.mark.parametrize("kind", ["sum", "mean", "largest", "deviation", "integers", "both"])
def test_numbers_of_all_samples_agree_at_any_batch(kind: str, arrays: tuple[np.ndarray, ...]) -> None:
    assert_agree(OfAll(kind), arrays[:1])


class Lengths(nn.Cell):
    """Numbers up to a length for each sample, counted by an array of integers that is part of the code."""

    def construct(self, x: Any, lengths: Any) -> Any:
        places = ops.arange(6)
        before = places[None] < lengths[:, None]
        last = places.expand_dims(0) == lengths[:, None] - 1
        return before, (before.astype(x.dtype) * x).sum(1), ops.where(last, x, ops.zeros_like(x)), places * 2


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_integers_that_are_part_of_the_code(dtype: Any, arrays: tuple[np.ndarray, ...]) -> None:
    assert_agree(Lengths(), (arrays[0][:, 0, 0], np.array([2, 6, 1], dtype)))


class Text(nn.Cell):
    """Words and their places looked up, a mask of what is no padding, a mean over the words that are left."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(20, 8), nn.Embedding(10, 8)
        self.norm, self.head = nn.LayerNorm((8,)), nn.Dense(8, 3)

    def construct(self, ids: Any) -> Any:
        x = self.norm(self.words(ids) + self.places(ops.arange(ids.shape[1])))
        real = (ids > 0).astype(ms.float32).expand_dims(-1)
        return self.head((x * real).sum(1) / ops.clamp(real.sum(1), 1.0)), ops.argmax(self.head(x), -1)


class Looked(nn.Cell):
    """A table that is read by positions as they are, by those of a column, and by what the network computes."""

    def __init__(self) -> None:
        super().__init__()
        self.table = ms.Parameter(ms.Tensor(np.arange(40, dtype=np.float32).reshape(20, 2)), name="table")

    def construct(self, ids: Any) -> Any:
        return (
            ops.gather(self.table, ids, 0),
            ops.gather(self.table, ids[:, 0], 0),
            ops.gather(self.table, ids // 2, 0),
            ops.gather(self.table, ids % 2, 1),
            self.table[ids],
        )


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("cell", [Text, Looked])
def test_lookups_agree(cell: Any, dtype: Any) -> None:
    assert_agree(cell(), (np.random.default_rng(1).integers(0, 20, (3, 7)).astype(dtype),))


class Volumes(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv3d(2, 4, 3, has_bias=True), nn.Conv3d(4, 4, (1, 2, 3), (1, 2, 1), "pad", 1)

    def construct(self, x: Any) -> Any:
        return self.second(ops.relu(self.first(x)))


def test_volumes_agree() -> None:
    x = np.random.default_rng(2).standard_normal((3, 2, 4, 6, 5)).astype(np.float32)
    assert_agree(Volumes(), (x,), 1e-5)


class Sequences(nn.Cell):
    """All states of a recurrent layer, and what it ends with; read whole, or up to a length for each sample."""

    def __init__(self, kind: str, **settings: Any) -> None:
        super().__init__()
        self.layer, self.kind = getattr(nn, kind)(6, 5, batch_first=True, **settings), kind

    def construct(self, x: Any, lengths: Any) -> Any:
        states, last = self.layer(x)
        cut = self.layer(x, None, lengths)[0]
        return (states, cut, last[0], last[1]) if self.kind == "LSTM" else (states, cut, last)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [("LSTM", {"num_layers": 2, "bidirectional": True}), ("LSTM", {"has_bias": False}), ("GRU", {}), ("RNN", {})],
)
def test_recurrent_layers_agree(kind: str, settings: dict[str, Any]) -> None:
    """MindSpore's own tanh errs by up to 1e-4."""
    x = np.random.default_rng(2).standard_normal((3, 4, 6)).astype(np.float32)
    assert_agree(Sequences(kind, **settings), (x, np.array([4, 1, 3], np.int32)), 2e-4)


class Started(nn.Cell):
    """A recurrent layer that starts from a state that is learned, and cells called one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.cell, self.gated, self.plain = (
            nn.LSTM(6, 5),
            nn.LSTMCell(6, 5),
            nn.GRUCell(6, 5),
            nn.RNNCell(6, 5),
        )
        self.state = ms.Parameter(ms.Tensor(np.full((1, 1, 5), 0.3), ms.float32), name="state")

    def construct(self, x: Any) -> Any:
        steps, h = x.swapaxes(0, 1), x[:, 0, :5]
        start = ops.tile(self.state, (1, x.shape[0], 1))
        states, (last, cell) = self.layer(steps, (start, start * 0.5))
        return states, last, cell, self.cell(x[:, 1], (h, h))[1], self.gated(x[:, 1], h), self.plain(x[:, 1], h)


def test_recurrent_layers_that_start_from_a_state_agree() -> None:
    assert_agree(Started(), (np.random.default_rng(2).standard_normal((3, 4, 6)).astype(np.float32),), 2e-4)


def test_a_size_that_depends_on_numbers_is_refused_by_the_cell_that_has_it() -> None:
    class Chosen(nn.Cell):
        def construct(self, x: Any) -> Any:
            return x[x > 0]

    rule = "must have a size that its numbers do not change, but NonZero in the network's own construct has none"
    with pytest.raises(TraceError, match=rule):
        in_onnx(Chosen(), (np.ones((1, 4, 5), np.float32),))


@pytest.mark.parametrize(("shifts", "axes"), [(2, 2), ((1, -1), (1, 2))])
def test_rolls_as_numpy(shifts: Any, axes: Any) -> None:
    """MindSpore has no kernel of it on the CPU."""

    class Rolled(nn.Cell):
        def construct(self, x: Any) -> Any:
            return ops.roll(x, shifts, axes)

    x = np.random.default_rng(2).standard_normal((3, 4, 5)).astype(np.float32)
    np.testing.assert_array_equal(run(in_onnx(Rolled(), (x[:1],)), (x,))[0], np.roll(x, shifts, axes))


class Noise(nn.Cell):
    def construct(self, x: Any) -> Any:
        return x * ops.uniform(x.shape, ms.Tensor(0.0), ms.Tensor(1.0))


class Outer(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Noise()

    def construct(self, x: Any) -> Any:
        return self.inner(ops.relu(x))


def test_an_operator_without_a_form_is_named_with_the_cell_that_calls_it() -> None:
    rule = (
        "operator UniformReal has no ONNX form in autocomp; cell inner of type Noise calls it: write it with operators"
    )
    with pytest.raises(ExportError, match=rule):
        in_onnx(Outer(), (np.zeros((1, 4, 5), np.float32),))


@pytest.mark.parametrize("axis", [0, (0, 2)])
def test_the_batch_is_not_turned_around(axis: Any) -> None:
    class Flipped(nn.Cell):
        def construct(self, x: Any) -> Any:
            return ops.flip(x, (axis,) if isinstance(axis, int) else axis)

    with pytest.raises(ExportError, match="turns the batch around, which must stay free in ONNX"):
        in_onnx(Flipped(), (np.zeros((1, 4, 5), np.float32),))
