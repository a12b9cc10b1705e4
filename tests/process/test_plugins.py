"""Installed packages add primitives, samplers and devices."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from autocomp.hardware_models import device, device_model, devices
from autocomp.primitives import registry as primitive_registry
from autocomp.primitives.registry import automatic, primitive, primitives
from autocomp.process import plugins
from autocomp.samplers import check_sampler, sampler_names
from autocomp.samplers import registry as sampler_registry

MODULE = """
from pathlib import Path
from autocomp.hardware_models import device
from autocomp.primitives.registry import primitive
from autocomp.samplers import RandomSampler, register

primitive("rtn")  # a package may look names up while it is loaded
class Pruning:
    name = "their-pruning"
    def knobs(self, *given): return ()
class Renamed(Pruning):
    name, automatic = "named-only", False
class Again(Pruning):
    name = "rtn"
def fails(): raise RuntimeError("no board")
register("their-sampler")(RandomSampler)
BOARD = Path(__file__).with_name("board.toml")
instance, number = Renamed(), 7
def board(): return BOARD
"""
BOARD = 'name = "their-board"\nlike = "ascend-310p3"\naliases = ["their-alias"]\n'
ENTRIES = """
[autocomp.primitives]
pruning = their_module:Pruning
instance = their_module:instance
again = their_module:Again
number = their_module:number
missing = no_such_module:Pruning

[autocomp.samplers]
their-sampler = their_module:RandomSampler
random = their_module:RandomSampler
uniform = their_module:fails
number = their_module:number

[autocomp.devices]
board = their_module:board
board-again = their_module:BOARD
broken = their_module:fails
"""


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package, installed for one test."""
    information = tmp_path / "their_package-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(ENTRIES)
    (tmp_path / "their_module.py").write_text(MODULE)
    (tmp_path / "board.toml").write_text(BOARD)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "their_module", raising=False)
    monkeypatch.setattr(plugins, "_LOADED", set())
    monkeypatch.setattr(primitive_registry, "_REGISTRY", dict(primitive_registry._REGISTRY))
    monkeypatch.setattr(primitive_registry, "_AUTOMATIC", list(primitive_registry._AUTOMATIC))
    monkeypatch.setattr(sampler_registry, "_MAKERS", dict(sampler_registry._MAKERS))
    monkeypatch.setattr(device_model, "_INSTALLED", {})


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_primitives(caplog: pytest.LogCaptureFixture) -> None:
    assert "their-pruning" in automatic() and "named-only" not in automatic()
    assert primitive("their-pruning").name == "their-pruning" and "named-only" in primitives()
    assert warnings(caplog) == [
        "again of package their-package is left out of autocomp.primitives: "
        "ValueError: a primitive called 'rtn' is already registered",
        "missing of package their-package is left out of autocomp.primitives: "
        "ModuleNotFoundError: No module named 'no_such_module'",
        "number of package their-package is left out of autocomp.primitives: "
        "TypeError: a primitive must have a method knobs, but number is 7",
    ], "each is said once"
    assert type(primitive("rtn")).__name__ == "RTN"


def test_samplers(caplog: pytest.LogCaptureFixture) -> None:
    check_sampler("their-sampler")
    assert "their-sampler" in sampler_names()
    assert warnings(caplog) == [
        "number of package their-package is left out of autocomp.samplers: "
        "TypeError: a sampler must be a function or class that makes one, but number is 7",
        "uniform of package their-package is left out of autocomp.samplers: "
        "ValueError: a sampler may be registered once, but 'uniform' is there already",
    ]


def test_devices(caplog: pytest.LogCaptureFixture) -> None:
    assert device("their-alias") is device("their-board")
    assert devices()[-1] == "their-board" and device_model.aliases()["their-alias"] == "their-board"
    assert device("their-board").formats == device("ascend-310p3").formats
    assert warnings(caplog) == [
        "board-again of package their-package is left out of autocomp.devices: ValueError: "
        "a device must have names of its own, but there is already a device their-board, their-alias",
        "broken of package their-package is left out of autocomp.devices: RuntimeError: no board",
    ]


def test_entry_points_that_cannot_be_read(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(group: str) -> None:
        raise TypeError(f"bad line in {group}")

    monkeypatch.setattr(plugins, "entry_points", unreadable)
    assert "frontier" in sampler_names() and "their-sampler" not in sampler_names()
    assert warnings(caplog) == [
        "the entry points of autocomp.samplers cannot be read: TypeError: bad line in autocomp.samplers"
    ]
