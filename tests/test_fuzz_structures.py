"""Small networks with drawn inputs and outputs: ONNX and MindIR give what MindSpore gives, or one sentence says why
not."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autocomp.evaluators.engines import OnnxEngine
from autocomp.primitives.export.files import export_mindir, norm_error, run_mindir
from autocomp.primitives.numerics.plan_compressor import PlanCompressor, parameters_of
from autocomp.primitives.tracing.network_outputs import describe_outputs
from autocomp.primitives.tracing.platform import forward
from autocomp.primitives.tracing.tracer import as_float32, trace
from autocomp.search_spaces import Plan, SearchSpace

BATCH = 3
RNG = np.random.default_rng(0)
INPUTS: dict[str, tuple[str, np.ndarray]] = {  # how the network reads each as (n, 6)
    "vector": ("{}", RNG.normal(size=(BATCH, 6)).astype(np.float32)),
    "image": ("{}.mean((2, 3))", RNG.normal(size=(BATCH, 6, 2, 2)).astype(np.float32)),
    "number": ("{}[:, None]", RNG.normal(size=BATCH).astype(np.float32)),
    "tokens": ("self.words({}).mean(1)", RNG.integers(0, 20, (BATCH, 5)).astype(np.int32)),
    "mask": ("{}.astype(ms.float32)", RNG.integers(0, 2, (BATCH, 6)).astype(bool)),
    "half": ("{}.astype(ms.float16).astype(ms.float32)", RNG.normal(size=(BATCH, 6)).astype(np.float32)),
    "unread": ("0.0", RNG.normal(size=(BATCH, 2)).astype(np.float32)),
}
OUTPUTS = [  # y: scores (n, 4), z: hidden (n, 8), x: what is read (n, 6)
    "y", "y", "z", "x", "None", "2.5", "3", "True", "()", "self.table", "self.spare", "y > 0", "y.argmax(1)",
    "y.astype(ms.float16)", "y.astype(ms.int32)", "y.mean(1)", "y.mean()", "z.sum(0)", "(z > 0).any()", "y * 0 + 1",
    "ops.stack((y, y * 2), 0)", "y.T", "y[:, 0]", "y[:, None]", "z.reshape(-1, 2)", "ops.topk(y, 2)[1]",
]  # fmt: skip
structures = st.recursive(
    st.sampled_from(OUTPUTS),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"({', '.join(parts)},)"),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"[{', '.join(parts)}]"),
        st.dictionaries(st.sampled_from("abc"), inner, min_size=1, max_size=3).map(
            lambda parts: "{" + ", ".join(f"{key!r}: {part}" for key, part in parts.items()) + "}"
        ),
    ),
    max_leaves=5,
)
reads = st.lists(st.sampled_from(list(INPUTS)), max_size=2).flatmap(lambda kinds: st.permutations(["vector", *kinds]))
TYPES = ("float32", "float32", "float32", "parameters", "to_float")
CODE = """
import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

class Drawn(nn.Cell):
    def __init__(self):
        super().__init__()
        self.words, self.a, self.b = nn.Embedding(20, 6), nn.Dense(6, 8), nn.Dense(8, 4)
        self.table, self.spare = Tensor(np.arange(3, dtype=np.float32)), Parameter(Tensor(np.ones(2, np.float32)))

    def construct(self, {arguments}):
        x = {read}
        z = ops.relu(self.a(x))
        y = self.b(z)
        return {returned}
"""
REFUSED = r"(the output|output \d+)( \(.*\))? must have (one axis|an axis of its own) that counts the samples, .*"
NUMBER = iter(range(10**9))


def made(folder: Path, kinds: list[str], returned: str, of_type: str) -> Any:
    """The network, whose code is written to a file: MindSpore's compiler reads it there."""
    names = [f"u{i}" for i in range(len(kinds))]
    read = " + ".join(INPUTS[kind][0].format(name) for kind, name in zip(kinds, names, strict=True))
    path = folder / f"drawn_{next(NUMBER)}.py"
    path.write_text(CODE.format(arguments=", ".join(names), read=read, returned=returned))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # where the compiler looks the names of the code up
    spec.loader.exec_module(module)
    net = module.Drawn().set_train(False)
    if of_type == "parameters":
        for parameter in net.get_parameters():
            parameter.set_dtype(module.ms.float16)
    return net.to_float(module.ms.float16) if of_type == "to_float" else net


def assert_alike(found: tuple[np.ndarray, ...], expected: tuple[np.ndarray, ...], what: str) -> None:
    assert len(found) == len(expected), what
    for one, other in zip(found, expected, strict=True):
        assert norm_error(one.reshape(other.shape), other) < 0.02, what  # a float16 step, an argmax of equals
        assert one.size == other.size, what


def in_all_forms(net: Any, arrays: tuple[np.ndarray, ...], path: Path) -> None:
    one, net = tuple(array[:1] for array in arrays), as_float32(net)
    graph, parameters, expected = trace(net, one), parameters_of(net), forward(net, arrays, graph=False)
    if not expected:
        return
    known = describe_outputs(net, graph, arrays)
    plain = PlanCompressor(SearchSpace(graph, ()), parameters)(Plan())
    assert_alike(OnnxEngine(graph, parameters, 1, known).outputs(plain, arrays), expected, "ONNX")
    export_mindir(net, arrays, path)
    assert_alike(run_mindir(path, arrays), expected, "MindIR")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("drawn")


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kinds=reads, returned=structures, of_type=st.sampled_from(TYPES))
def test_drawn_structures(folder: Path, kinds: list[str], returned: str, of_type: str) -> None:
    net = made(folder, kinds, returned, of_type)
    try:
        in_all_forms(net, tuple(INPUTS[kind][1] for kind in kinds), folder / "net.mindir")
    except ValueError as error:
        if not re.fullmatch(REFUSED, str(error)):
            raise
