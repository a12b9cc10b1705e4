"""Random networks under random plans: elastic, converted and exported networks agree.

15 sentences of the grammar, 24 plans each: 360 pairs. In each pair the elastic and the converted network run in
PyNative mode, where nothing is compiled, and the ONNX file in onnxruntime. The first plan of each network goes through
a MindIR file too, exported and loaded by the graph compiler.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from autocomp.primitives.cells.conversion import convert
from autocomp.primitives.cells.elastic import ElasticNetwork
from autocomp.primitives.choices import Choices
from autocomp.primitives.export.files import EXACT, export_mindir, norm_error, run_mindir, run_onnx
from autocomp.primitives.export.onnx_network import onnx_network
from autocomp.primitives.numerics.plan_compressor import PlanCompressor, parameters_of
from autocomp.primitives.registry import search_space
from autocomp.primitives.tracing.platform import forward
from autocomp.primitives.tracing.tracer import trace
from autocomp.primitives.verification.trial_cut import verify_channel_groups
from autocomp.search_spaces import Format
from tests.networks import randomised

from .grammar import SIZE, WORDS, Sentence

NETWORKS, PLANS = 15, 24
SENTENCES = st.lists(st.sampled_from(WORDS), min_size=2, max_size=4).map(tuple)
pairs: set[tuple[tuple[str, ...], int, str]] = set()


@settings(
    max_examples=NETWORKS,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(words=SENTENCES, seed=st.integers(0, 10_000))
def test_forms_agree(words: tuple[str, ...], seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    net = randomised(Sentence(words, seed), seed)
    x = np.random.default_rng(seed).standard_normal((3, 3, SIZE, SIZE)).astype(np.float32)
    parameters = parameters_of(net)
    traced = trace(net, (x,))
    graph = verify_channel_groups(net, traced, parameters, (x,))
    assert graph is traced, f"left whole after the trial: {set(graph.whole) - set(traced.whole)}"
    space = search_space(graph, parameters, Choices([Format.parse("w8"), Format.parse("w4")], 1))
    compressor, elastic = PlanCompressor(space, parameters), ElasticNetwork(net, graph)
    folder = tmp_path_factory.mktemp("pair")
    for i, vector in enumerate(space.random(np.random.default_rng(seed), PLANS)):
        plan = space.decode(vector)
        compressed = compressor(plan)
        elastic.set(compressed)
        converted = convert(net, graph, parameters, compressed)
        (outputs,) = forward(converted, (x,), graph=False)
        assert norm_error(forward(elastic.cell, (x,), graph=False)[0], outputs) <= EXACT, f"elastic under {plan}"
        file = folder / "net.onnx"
        file.write_bytes(onnx_network(graph, parameters, compressed).SerializeToString())
        assert norm_error(run_onnx(file, (x,))[0], outputs) <= EXACT, f"ONNX under {plan}"
        if i == 0:
            export_mindir(converted, (x,), folder / "net.mindir")
            assert norm_error(run_mindir(folder / "net.mindir", (x,))[0], outputs) <= EXACT, f"MindIR under {plan}"
        pairs.add((words, seed, str(plan)))


def test_the_pairs_were_many_and_used_every_word() -> None:
    assert len(pairs) >= 300
    assert {word for words, _, _ in pairs for word in words} == set(WORDS)
