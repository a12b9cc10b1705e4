"""Random networks under random plans: elastic, converted and exported networks agree.

15 sentences of the grammar, 24 plans each: 360 pairs. In each pair the elastic and the converted network run in
PyNative mode, where nothing is compiled, and the ONNX file in onnxruntime. The first plan of each network goes through
a MindIR file too, exported and loaded by the graph compiler.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

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

NETWORKS, PLANS = 15, 10


def sentences() -> Iterator[tuple[tuple[str, ...], int]]:
    """Words are dealt from shuffled decks, so that every word comes up before any comes up again."""
    rng = np.random.default_rng(0)
    deck: list[str] = []
    for seed in range(NETWORKS):
        length = int(rng.integers(2, 5))
        while len(deck) < length:
            deck += rng.permutation(WORDS).tolist()
        yield tuple(deck[:length]), seed
        del deck[:length]


SENTENCES = list(sentences())


@pytest.mark.parametrize(("words", "seed"), SENTENCES, ids=["-".join(words) for words, _ in SENTENCES])
def test_forms_agree(words: tuple[str, ...], seed: int, tmp_path: Path) -> None:
    net = randomised(Sentence(words, seed), seed)
    x = np.random.default_rng(seed).standard_normal((3, 3, SIZE, SIZE)).astype(np.float32)
    parameters = parameters_of(net)
    traced = trace(net, (x,))
    graph = verify_channel_groups(net, traced, parameters, (x,))
    assert graph is traced, f"left whole after the trial: {set(graph.whole) - set(traced.whole)}"
    space = search_space(graph, parameters, Choices([Format.parse("w8"), Format.parse("w4")], 1))
    compressor, elastic = PlanCompressor(space, parameters), ElasticNetwork(net, graph)
    for i, vector in enumerate(space.random(np.random.default_rng(seed), PLANS)):
        plan = space.decode(vector)
        compressed = compressor(plan)
        elastic.set(compressed)
        converted = convert(net, graph, parameters, compressed)
        (outputs,) = forward(converted, (x,), graph=False)
        assert norm_error(forward(elastic.cell, (x,), graph=False)[0], outputs) <= EXACT, f"elastic under {plan}"
        file = tmp_path / "net.onnx"
        file.write_bytes(onnx_network(graph, parameters, compressed).SerializeToString())
        assert norm_error(run_onnx(file, (x,))[0], outputs) <= EXACT, f"ONNX under {plan}"
        if i == 0:
            export_mindir(converted, (x,), tmp_path / "net.mindir")
            assert norm_error(run_mindir(tmp_path / "net.mindir", (x,))[0], outputs) <= EXACT, f"MindIR under {plan}"


def test_every_word_is_used() -> None:
    assert {word for words, _ in SENTENCES for word in words} == set(WORDS)
