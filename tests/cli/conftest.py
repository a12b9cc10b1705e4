"""A network and its data in a file, and a front that the command line searched."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .lines import run

NETWORK = """
import numpy as np
from autocomp.primitives.tracing.platform import load_mindspore

ms = load_mindspore()
from mindspore import nn


def build():
    ms.set_seed(3)
    net = nn.SequentialCell(
        nn.Conv2d(1, 8, 3, 2, "pad", 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, "pad", 1),
        nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Dense(64, 3),
    )
    ms.load_param_into_net(net, {name: ms.Parameter(p.value(), name=name) for name, p in net.parameters_dict().items()})
    return net


def data():
    rng = np.random.default_rng(0)
    return rng.standard_normal((96, 1, 8, 8)).astype(np.float32), rng.integers(0, 3, 96)


def other_data():
    x, y = data()
    return x[:40], y[:40]


def training_data():
    return {"train": data()}


def wide_data():
    return np.zeros((8, 3, 8, 8), np.float32), np.zeros(8, int)


number = 7
"""


@pytest.fixture(scope="session")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Path of a file that holds a network and its data."""
    path = tmp_path_factory.mktemp("cli") / "cli_subject.py"
    path.write_text(NETWORK)
    yield str(path)
    sys.modules.pop("cli_subject", None)
    sys.path.remove(str(path.parent))


@pytest.fixture(scope="session")
def stored(net: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A front that the command line searched."""
    logger = logging.getLogger("autocomp")
    before = logger.handlers[:], logger.level, logger.propagate
    out = tmp_path_factory.mktemp("stored") / "runs" / "a"
    arguments = ["--net", f"{net}:build", "--data", f"{net}:data", "--budget", "size<90%", "--device", "ascend"]
    assert run("search", *arguments, "--out", str(out), "--trials", "6", "--inputs", "8,1,8,8") == 0
    logger.handlers[:], logger.level, logger.propagate = before
    return out
