"""Plans with embeddings in integers, from the search to files, trained networks and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autocomp
from autocomp.primitives.export.files import EXACT, norm_error, run_onnx
from autocomp.primitives.tracing.platform import forward
from autocomp.results.front import ParetoSet
from tests.networks import Tokens, randomised, tokens


@pytest.fixture(scope="module")
def net() -> Any:
    return randomised(Tokens())


@pytest.fixture(scope="module")
def front(net: Any) -> ParetoSet:
    """Without labels, of formats alone."""
    return autocomp.search(net, "size<70%", "cpu", tokens(32), primitives="rtn", trials=6, progress=False)


def test_a_search_rounds_the_embedding_and_shows_it(front: ParetoSet) -> None:
    point = front.pick()
    assert front.feasible and point.plan["format/words"] in ("w8", "w4@rtn")
    rows = {one.name: row.format for one, row, _ in front.layers.rows(point.plan)}  # type: ignore[union-attr]
    assert rows["words"] == point.plan["format/words"].partition("@")[0]
    assert not any("stay in float" in note for note in front.notes)


def test_files_agree_and_have_the_size_that_was_predicted(front: ParetoSet, tmp_path: Path) -> None:
    point = front.pick()
    for ending in ("onnx", "mindir", "safetensors"):
        report = point.export(tmp_path / f"net.{ending}")
        assert report.max_relative_error < EXACT
    written = point.export(tmp_path / "net.onnx")
    assert written.size_mb == pytest.approx(written.predicted_mb, rel=0.02)
    assert norm_error(run_onnx(written.path, (tokens(4),))[0], forward(point.net, (tokens(4),), graph=False)[0]) < EXACT


def test_a_front_is_read_back_with_its_embeddings(front: ParetoSet, net: Any, tmp_path: Path) -> None:
    front.save(tmp_path)
    loaded = autocomp.load(tmp_path, net)
    x = (tokens(4),)
    np.testing.assert_array_equal(
        forward(loaded.pick().net, x, graph=False)[0], forward(front.pick().net, x, graph=False)[0]
    )


def test_weights_alone_are_rebuilt(front: ParetoSet, net: Any, tmp_path: Path) -> None:
    report = front.pick().export(tmp_path / "net.safetensors")
    small = autocomp.rebuild(Tokens(), report.path)
    np.testing.assert_array_equal(
        small.words.embedding_table.asnumpy(), front.pick().net.words.embedding_table.asnumpy()
    )
    with pytest.raises(ValueError, match=r"the plan sets the format of 'other'; layers: query, .*, words, places"):
        autocomp.rebuild(Tokens(), {"format/other": "w8"}, tokens(1))
