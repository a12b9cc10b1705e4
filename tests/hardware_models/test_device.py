"""Device files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import autocomp.hardware_models
from autocomp.hardware_models import device, devices
from autocomp.search_spaces import Format

FILES = Path(autocomp.hardware_models.__file__).parent / "devices"
ASKED = (
    *("ascend-310p3", "ascend-310", "ascend-310b1", "ascend-910a"),
    *("ascend-910b1", "ascend-910b2", "ascend-910b3", "ascend-910b4"),
    *("nvidia-t4", "nvidia-v100", "nvidia-a100", "nvidia-h100", "nvidia-l4", "cpu"),
)


def test_every_device_is_there() -> None:
    assert set(devices()) == set(ASKED)
    assert device("ascend").name == "ascend-310p3"
    assert device("gpu").name == "nvidia-t4"


@pytest.mark.parametrize("name", ASKED)
def test_a_device_says_where_its_numbers_come_from(name: str) -> None:
    found = device(name)
    assert found.name == name
    assert found.float_bits == (32 if name == "cpu" else 16)
    assert found.granularity == (16 if name.startswith("ascend") else 8)
    assert found.formats[0] == Format()
    for part in ("specification", "rates", "energy_pj"):
        assert found.data[part]["source"]


def test_an_unknown_device_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown device 'tpu'; known: .*ascend.*nvidia-t4"):
        device("tpu")


def test_a_file_of_ones_own_is_a_device(tmp_path: Path) -> None:
    text = (FILES / "ascend-310p3.toml").read_text()
    mine = tmp_path / "mine.toml"
    mine.write_text(text.replace('name = "ascend-310p3"', 'name = "mine"'))
    assert device(mine).name == "mine"
    assert device(str(mine)).key != device("ascend-310p3").key
    assert device(device(mine)).name == "mine"
    with pytest.raises(FileNotFoundError, match="no device file"):
        device(tmp_path / "other.toml")


def test_a_file_that_lacks_an_entry_says_which(tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text((FILES / "cpu.toml").read_text().replace("granularity", "grain"))
    with pytest.raises(ValueError, match="must have the entry 'granularity'"):
        device(broken)


def test_the_package_has_no_other_name() -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import hardware_models"
    where = str(Path(autocomp.hardware_models.__file__).parent.parent)
    run = subprocess.run([sys.executable, "-c", code, where], capture_output=True, text=True, check=False)
    assert "import autocomp.hardware_models, not hardware_models" in run.stderr


def test_it_loads_no_framework() -> None:
    code = "import sys, autocomp.hardware_models; print({'mindspore', 'ray', 'optuna', 'scipy'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
