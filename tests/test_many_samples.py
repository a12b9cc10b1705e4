"""Searches on many samples measure most plans on a part of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autocomp
from autocomp.primitives.tracing.platform import forward
from autocomp.results.front import ParetoSet

from .networks import images
from .searching import network

MANY = 4100


@pytest.fixture(scope="module")
def many_samples() -> tuple[np.ndarray, np.ndarray]:
    x = images(MANY, seed=4)
    return x, forward(network(), (x,), graph=False)[0].argmax(1)


@pytest.fixture(scope="module")
def grown(many_samples: tuple[np.ndarray, np.ndarray]) -> ParetoSet:
    settings: dict[str, Any] = {"trials": 40, "sampler": "random", "progress": False}
    return autocomp.search(network(), None, "ascend-310p3", many_samples, **settings)


class TestManySamples:
    """Of 4,000 and more, plans are measured on 2,000, a quarter of them on all."""

    def test_the_front_is_measured_on_all(self, grown: ParetoSet) -> None:
        assert {point.samples for point in grown} == {MANY}
        behind = [point for point in grown.evaluated if point.samples < MANY]
        assert behind and {point.fidelity for point in behind} == {f"2000 of {MANY} samples"}
        assert f"; other plans on 2000 of {MANY} samples" in " ".join(str(grown).split())

    def test_loaded_with_its_data_it_is_measured_on_all(
        self, grown: ParetoSet, many_samples: tuple[np.ndarray, np.ndarray], tmp_path: Path
    ) -> None:
        loaded = autocomp.load(grown.save(tmp_path / "front"), network(), many_samples)
        assert [point.accuracy for point in loaded] == [point.accuracy for point in grown]
        behind = next(point for point in loaded.evaluated if point.samples < MANY)
        found = loaded.evaluate(behind.plan)
        assert found.samples == MANY and found.accuracy == pytest.approx(behind.accuracy, abs=0.05)
        assert len(loaded.evaluated) == len(grown.evaluated) and found in loaded.evaluated
        assert loaded.evaluate(behind.plan) is found
