"""Exported files are loaded and run as a user does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import autocomp
from autocomp.errors import ExportError
from autocomp.primitives.export.files import norm_error
from autocomp.primitives.tracing.platform import forward
from tests.networks import Tensor, images
from tests.searching import network, search


@pytest.fixture(scope="module", params=["mindir", "onnx"])
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("deployed files") / f"net.{request.param}"
    search(trials=1, inputs=(3, 3, 12, 12)).float_point.export(path)
    return path


def test_a_file_gives_what_the_network_gives(file: Path) -> None:
    deployed = autocomp.load_deployed(file)
    x = images(3, seed=1)
    (expected,) = forward(network(), (x,), graph=False)
    for given in (x, x.astype(np.float64), Tensor(x)):
        (found,) = deployed.run(given)
        assert found.dtype == np.float32 and norm_error(found, expected) < 1e-4
    (only,) = deployed.inputs
    assert only.dtype == "float32" and only.shape[1:] == (3, 12, 12)
    assert only.shape[0] in (3, None)


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ((), "takes 1 inputs, but got 0"),
        ((images(3), images(3)), "takes 1 inputs, but got 2"),
        (
            (images(3)[:, :2],),
            r"must be an array of numbers of shape \(.+, 3, 12, 12\), but got float32 \(3, 2, 12, 12\)",
        ),
        ((images(3)[0],), "must be an array of numbers of shape"),
        (("image",), "must be an array of numbers of shape"),
        ((None,), "must be an array of numbers of shape"),
    ],
)
def test_wrong_inputs_get_one_sentence(file: Path, inputs: tuple[object, ...], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        autocomp.load_deployed(file).run(*inputs)


@pytest.mark.parametrize("ending", ["mindir", "onnx"])
@pytest.mark.parametrize("content", [b"", b"no network", bytes(range(256)) * 40])
def test_a_damaged_file_is_named(tmp_path: Path, ending: str, content: bytes) -> None:
    path = tmp_path / f"net.{ending}"
    path.write_bytes(content)
    with pytest.raises(ExportError, match=f"net.{ending} cannot be loaded"):
        autocomp.load_deployed(path)
