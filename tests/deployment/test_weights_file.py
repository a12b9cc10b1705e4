"""Weights as .safetensors: the compressed network rebuilt from the float one and the file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import autocomp
from autocomp.deployment.deploy import NetworkDeployer, export
from autocomp.deployment.weights_file import StoredWeights
from autocomp.primitives.choices import Choices
from autocomp.primitives.tracing.platform import forward
from autocomp.search_spaces import Plan
from tests.conftest import Subject
from tests.networks import NETWORKS, randomised


@pytest.fixture
def residual(named_subject: Callable[[str], Subject]) -> Subject:
    return named_subject("residual")


def deployer_of(subject: Subject) -> NetworkDeployer:
    return NetworkDeployer(subject.net, subject.evaluator, (subject.x,), Choices((), 4))


@pytest.mark.parametrize("name", ["residual", "concatenating", "depthwise"])
def test_the_rebuilt_network_is_the_points(name: str, named_subject: Callable[[str], Subject], tmp_path: Path) -> None:
    """From a float network with other weights."""
    subject, path = named_subject(name), tmp_path / "a b=+.safetensors"
    deployer, (plan,) = deployer_of(subject), subject.plans(1, seed=5)
    report = deployer.export(plan, path)
    assert (report.format, report.max_relative_error, report.of_cost) == ("safetensors", 0.0, False)
    assert report.size_mb == path.stat().st_size / 1e6
    again = autocomp.rebuild(randomised(NETWORKS[name](), seed=7), path)
    np.testing.assert_array_equal(
        forward(again, (subject.x,), graph=False)[0], forward(deployer.net(plan), (subject.x,), graph=False)[0]
    )


def test_it_holds_the_plan_and_the_channels(residual: Subject, tmp_path: Path) -> None:
    deployer, (plan,) = deployer_of(residual), residual.plans(1, seed=5)
    deployer.export(plan, tmp_path / "net.safetensors")
    stored = StoredWeights.read(tmp_path / "net.safetensors")
    assert stored.plan == plan and stored.inputs == (((1, *residual.x.shape[1:]), "float32"),)
    assert stored.kept is not None
    np.testing.assert_array_equal(stored.kept, residual.evaluator.compress(plan).kept)


def test_what_is_no_file_of_this_network_is_refused(residual: Subject, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    deployer_of(residual).export(Plan({f"format/{layer}": "w8" for layer in residual.graph.layers}), path)
    with pytest.raises(ValueError, match=r"the plan sets the format of 'blocks\.0\.conv1'"):
        autocomp.rebuild(NETWORKS["depthwise"](), path)
    with pytest.raises(FileNotFoundError, match=r"there is no file no\.safetensors"):
        autocomp.rebuild(residual.net, "no.safetensors")
    lacking = StoredWeights.read(path)
    name = next(iter(lacking.arrays))
    replace(lacking, arrays={**lacking.arrays, name: np.zeros(3, np.float32)}).write(path)
    with pytest.raises(ValueError, match=f"must hold the weights of this network, but {name} has shape"):
        autocomp.rebuild(residual.net, path)
    replace(lacking, arrays={key: array for key, array in lacking.arrays.items() if key != name}).write(path)
    with pytest.raises(ValueError, match=f"must hold the weights of this network, but .* lacks {name}"):
        autocomp.rebuild(residual.net, path)
    replace(lacking, kept=np.ones(3, bool)).write(path)
    with pytest.raises(ValueError, match="the file is of a network with 3 channels to cut"):
        autocomp.rebuild(residual.net, path)
    path.write_bytes(b"not weights")
    with pytest.raises(ValueError, match="must hold weights that autocomp exported"):
        autocomp.rebuild(residual.net, path)
    with pytest.raises(ValueError, match=r"autocomp.rebuild\(net, path\) makes the network"):
        autocomp.load_deployed(path)
    with pytest.raises(ValueError, match="is read by MindSpore Lite"):
        autocomp.load_deployed(tmp_path / "net.ms")
    plain = residual.evaluator.compress(Plan())
    with pytest.raises(ValueError, match=r"weights alone are written by point\.export"):
        export(residual.net, residual.graph, residual.parameters, plain, (residual.x,), path)
