"""Small networks of many kinds, searched, exported in both forms and loaded again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autocomp
from autocomp.deployment.file_forms import run_ascend
from autocomp.primitives.export.files import norm_error, run_mindir
from autocomp.primitives.tracing.platform import forward
from tests.networks import images, randomised

from .networks import Autoencoder, Keypoints, Points, Table, Tasks, Waves

RNG = np.random.default_rng(0)
COUNT = 24


def floats(*shape: int) -> np.ndarray:
    return RNG.normal(size=(COUNT, *shape)).astype(np.float32)


NETWORKS: dict[str, tuple[type, tuple[np.ndarray, ...], int, str]] = {  # outputs, and a layer whose channels are cut
    "waves": (Waves, (floats(1, 16),), 1, "skips.0"),
    "table": (Table, (RNG.integers(0, 5, (COUNT, 3)), floats(6)), 1, "wide"),
    "points": (Points, (floats(3, 20),), 1, "joined"),
    "keypoints": (Keypoints, (images(COUNT),), 2, "body"),
    "tasks": (Tasks, (images(COUNT),), 3, "deep"),
    "autoencoder": (Autoencoder, (floats(48),), 4, "decode"),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_search_export_and_load(name: str, tmp_path: Path) -> None:
    kind, inputs, outputs, layer = NETWORKS[name]
    net, settings = randomised(kind()), dict[str, Any](trials=4, fine_tune=0, progress=False)
    data: Any = autocomp.Data(evaluate=(inputs if len(inputs) > 1 else inputs[0], None))
    front = autocomp.search(net, "size<85%", "ascend-310p3", data, **settings)
    assert front.feasible and front.float_point.accuracy == 1
    deployer: Any = front.float_point.applied_by
    assert f"keep/{layer}" in {knob.name for knob in deployer.evaluator.space.knobs}
    point = min(front.evaluated, key=lambda point: point.cost.size_mb)
    taken = tuple(array.astype(np.int32) if array.dtype == np.int64 else array for array in inputs)
    for ending, run in (("mindir", run_mindir), ("onnx", run_ascend)):
        report = point.export(tmp_path / f"net.{ending}")
        assert report.max_relative_error < 0.05
        shown = tuple(array[:1] for array in taken)  # files for an Ascend have the batch of the search
        found, expected = run(report.path, shown), forward(point.net, shown, graph=False)
        assert len(found) == len(expected) == outputs
        assert all(norm_error(one, other) < 0.1 for one, other in zip(found, expected, strict=True))
    front.save(tmp_path / "front")
    again = autocomp.load(tmp_path / "front", net).pick().net
    for one, other in zip(*(forward(one, taken, graph=False) for one in (again, front.pick().net)), strict=True):
        np.testing.assert_array_equal(one, other)
