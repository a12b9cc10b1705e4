"""Whatever structure a network returns: batches are joined as the whole would be, or one sentence names the output."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mindspore import Tensor, nn, ops

import autocomp
from autocomp.evaluators.engines import joined
from autocomp.primitives.tracing import network_outputs as outputs_of
from autocomp.primitives.tracing.network_outputs import describe_outputs
from autocomp.primitives.tracing.platform import named_outputs

CLASSES = 4
WEIGHT = np.random.default_rng(5).normal(size=(6, CLASSES)).astype(np.float32)


class Value:
    """An array that a network returned."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.dtype = array, array.dtype

    def asnumpy(self) -> np.ndarray:
        return self.array


LEAVES: dict[str, Any] = {
    "scores": lambda y: y,
    "time first": lambda y: np.stack([y, 2 * y, y - 1]),
    "classes first": lambda y: y.T,
    "in the middle": lambda y: np.stack([y, -y])[:, :, None],
    "several a sample": lambda y: np.repeat(y, 3, axis=0) * np.arange(1, 1 + 3 * len(y))[:, None] ** 0,
    "mask": lambda y: y > 0,
    "argmax": lambda y: y.argmax(1).astype(np.int32),
    "half": lambda y: y.astype(np.float16),
    "per sample": lambda y: y.mean(1),
    "constant": lambda y: np.arange(3, dtype=np.float32),
    "number": lambda y: 2.5,
    "sum": lambda y: y.sum(),
    "mixed": lambda y: np.stack([y, y + 1]).reshape(-1, CLASSES),
    "pairs": lambda y: y @ y.T,
}
REFUSED, WITHOUT_AXIS = {"mixed", "pairs"}, {"constant", "number", "sum"}
leaf = st.sampled_from([*LEAVES, "none"])
structures = st.recursive(
    leaf,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3),
        st.lists(inner, min_size=1, max_size=3).map(tuple),
        st.dictionaries(st.sampled_from(["aux", "logits", "mask"]), inner, min_size=1, max_size=3),
    ),
    max_leaves=6,
)


def made(structure: Any, y: np.ndarray) -> Any:
    if isinstance(structure, dict):
        return {key: made(part, y) for key, part in structure.items()}
    if isinstance(structure, (tuple, list)):
        return type(structure)(made(part, y) for part in structure)
    if structure == "none":
        return None
    value = LEAVES[structure](y)
    return value if isinstance(value, float) else Value(np.asarray(value))


def leaves(structure: Any) -> list[str]:
    if isinstance(structure, (dict, tuple, list)):
        parts = structure.values() if isinstance(structure, dict) else structure
        return [name for part in parts for name in leaves(part)]
    return [] if structure == "none" else [structure]


def arrays(structure: Any, x: np.ndarray) -> list[tuple[str, np.ndarray]]:
    return named_outputs(made(structure, x @ WEIGHT))


@settings(max_examples=200, deadline=None)
@given(structure=structures, count=st.integers(1, 70), seed=st.integers(0, 9))
def test_batches_are_joined_as_the_whole(structure: Any, count: int, seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=(count, 6)).astype(np.float32)
    names = leaves(structure)
    fed = SimpleNamespace(fed=[True] * len(names), outputs=range(len(names)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outputs_of, "forward_named", lambda net, inputs, graph=True: arrays(structure, inputs[0]))
        if REFUSED & set(names) and count > 1:
            first = min(names.index(name) for name in REFUSED & set(names))
            with pytest.raises(ValueError, match=f"^(the output|output {first}\\b).* must have") as caught:
                describe_outputs(None, fed, (x,))  # type: ignore[arg-type]
            assert "\n" not in str(caught.value)
            return
        if REFUSED & set(names):
            return  # one sample, twice: nothing tells how two different ones would lie
        known = describe_outputs(None, fed, (x,))  # type: ignore[arg-type]
    whole = [array for _, array in arrays(structure, x)]
    parts = [[array for _, array in arrays(structure, x[i : i + 32])] for i in range(0, count, 32)]
    assert [output.axis is None for output in known] == [name in WITHOUT_AXIS for name in names]
    for output, name, found, expected in zip(known, names, joined(known, parts), whole, strict=True):
        if output.axis is not None:
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
            chosen = np.unique([0, count // 2, count - 1])
            again = dict(zip(range(len(names)), arrays(structure, x[chosen]), strict=True))[known.index(output)][1]
            np.testing.assert_allclose(output.rows(found, chosen), again, rtol=1e-5, atol=1e-5)
            assert len(output.samples_first(found)) == count * output.each
        else:
            assert output.constant == (name != "sum" or (count == 1 and False)), name


class Returning(nn.Cell):
    """A few dense layers; ``kind`` says what it returns."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.a, self.b = kind, nn.Dense(12, 64), nn.Dense(64, 5)

    def construct(self, x: Tensor) -> Any:
        y = self.b(ops.relu(self.a(x)))
        if self.kind == "time first":
            return ops.stack((y, y * 2, y - 1), 0)
        if self.kind == "nested":
            return y, [y.astype("float16"), {"aux": y.argmax(1), "again": y}], Tensor(np.arange(3, dtype=np.float32))
        if self.kind == "mask":
            return {"mask": y > 0, "of all": y.mean()}
        if self.kind == "weight":
            return y, self.a.weight
        if self.kind == "pairs":
            return {"logits": y, "pairs": ops.matmul(y, y.T)}
        return y.mean()


SEARCH: dict[str, Any] = {"trials": 4, "fine_tune": 0, "progress": False}


@pytest.mark.parametrize(
    ("kind", "metric"), [("time first", "fidelity"), ("nested", "agreement"), ("mask", "agreement")]
)
def test_real_networks(kind: str, metric: str, tmp_path: Any) -> None:
    x = np.random.default_rng(0).normal(size=(33, 12)).astype(np.float32)
    front = autocomp.search(Returning(kind), "size<60%", "ascend-310p3", autocomp.Data(evaluate=x), **SEARCH)
    assert front.float_point.accuracy == 1 and front.float_point.metric == metric
    assert front.pick().export(tmp_path / "net.mindir").max_relative_error < 0.05
    assert any("'of all'" in note for note in front.notes) == (kind == "mask")


@pytest.mark.parametrize(
    ("kind", "said"), [("pairs", r"output 1 \('pairs'\) must have one axis"), ("all", "return the")]
)
def test_what_is_refused_is_named(kind: str, said: str) -> None:
    x = np.random.default_rng(0).normal(size=(33, 12)).astype(np.float32)
    with pytest.raises(ValueError, match=said):
        autocomp.search(Returning(kind), "size<60%", "ascend-310p3", autocomp.Data(evaluate=x), **SEARCH)


def test_a_metric_sees_outputs_as_the_network_returns_them() -> None:
    """Time first, and more samples than a batch: the metric's value does not depend on how many there are."""
    x = np.random.default_rng(0).normal(size=(40, 12)).astype(np.float32)
    seen: list[tuple[int, ...]] = []

    def last_step(outputs: np.ndarray, labels: np.ndarray) -> float:
        seen.append(outputs.shape)
        return float(np.mean(outputs[0].argmax(-1) == labels))

    net = Returning("time first")
    labels = net(Tensor(x)).asnumpy()[0].argmax(-1)
    data = autocomp.Data(evaluate=(x, labels), metric=last_step)
    front = autocomp.search(net, "size<60%", "ascend-310p3", data, **SEARCH)
    assert set(seen) == {(3, 40, 5)} and front.float_point.accuracy == 1
