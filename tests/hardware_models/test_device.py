"""Device files."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import autocomp.hardware_models
from autocomp.hardware_models import device, devices
from autocomp.hardware_models.containers import CONTAINERS
from autocomp.hardware_models.device_file import derived
from autocomp.search_spaces import Format

FILES = Path(autocomp.hardware_models.__file__).parent / "devices"
SHIPPED = (
    *("ascend-310p3", "ascend-310", "ascend-310b1", "ascend-310b4", "ascend-910a"),
    *("ascend-910b1", "ascend-910b2", "ascend-910b3", "ascend-910b4", "ascend-910c"),
    *("nvidia-t4", "nvidia-v100", "nvidia-a10", "nvidia-a30", "nvidia-a100", "nvidia-l4", "nvidia-l40s"),
    *("nvidia-h100", "nvidia-h200", "nvidia-orin", "nvidia-xavier", "cpu"),
)


def test_every_device_is_there() -> None:
    assert set(devices()) == set(SHIPPED)
    assert device("ascend").name == "ascend-310p3"
    assert device("gpu").name == "nvidia-t4"
    assert device("jetson-orin").name == "nvidia-orin"


def _takes_over(name: str) -> bool:
    return "not measured on this chip" in device(name).data["rates"]["source"]


@pytest.mark.parametrize("name", [name for name in SHIPPED if _takes_over(name)])
def test_a_chip_without_measurements_is_as_efficient_as_its_measured_relative(name: str) -> None:
    older = name in ("nvidia-v100", "nvidia-xavier")
    relative = device("ascend" if name.startswith("ascend") else "gpu" if older else "nvidia-h100")
    specified = relative.data["specification"], device(name).data["specification"]
    found, expected = device(name).rates, derived(relative.rates, *specified)
    assert found.macs_per_s["float"] == pytest.approx(expected.macs_per_s["float"], rel=1e-3)
    assert found.dram_bytes_per_s == pytest.approx(expected.dram_bytes_per_s, rel=1e-3)
    assert found.cache_bytes == specified[1]["l2_mb"] * 1e6
    if "int8" in found.macs_per_s:
        assert found.macs_per_s["int8"] == pytest.approx(expected.macs_per_s["int8"], rel=1e-3)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_device_says_where_its_numbers_come_from(name: str) -> None:
    found = device(name)
    assert found.name == name
    assert found.float_bits == (32 if name == "cpu" else 16)
    assert found.channel_divisor == (16 if name.startswith("ascend") else 8)
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
    broken.write_text((FILES / "cpu.toml").read_text().replace("channel_divisor", "grain"))
    with pytest.raises(ValueError, match="must have the entry 'channel_divisor'"):
        device(broken)


WRONG = {
    'container = "ONNX"': "container of a device file must be one of mindir, onnx, atc, but {} has 'ONNX'",
    'float_bits = "16"': "float_bits of a device file must be an integer above 0, but {} has '16'",
    "channel_divisor = 0": "channel_divisor of a device file must be an integer above 0, but {} has 0",
    "weight_only = [16]": "weight_only of a device file must be a list of numbers of bits from 1 to 8, but {} has",
    "group_sizes = [1]": "group_sizes of a device file must be a list of integers above 1, but {} has",
    'strict_divisor = "no"': "strict_divisor of a device file must be true or false, but {} has 'no'",
    'int16_sums = "no"': "int16_sums of a device file must be true or false, but {} has 'no'",
    'fusion = { free_activations = "ReLU" }': "free_activations of a device file must be a list of .*, but {} has",
    "layout = { channels = 0 }": "channels of a device file must be an integer above 0, but {} has 0",
    "layout = { channel = 32 }": "of {} has 'channel', which is not read: 'channels' is meant",
    "fusion = { pool = true }": "of {} has 'pool', which is not read: 'pools' is meant",
    "matrix = { grouped_blocks = 8 }": "of {} has 'grouped_blocks', which is not read: 'grouped_block' is meant",
    "matrix = 3": "must be as those that are shipped, but {} is not",
    "rates = { macs_per_s = { float = 1e13, int8 = 2e13 } }": "macs_per_s, but {} lacks one for int8",
    "rates = { macs_per_s = { int8 = 2e13 } }": "macs_per_s of a device file must be a table with float, but {} has",
    "rates = { dram_bytes_per_s = -1e9 }": "dram_bytes_per_s of a device file must be a number above 0, but {} has -1",
    'rates = { vector_per_s = "9" }': "vector_per_s of a device file must be a number above 0, but {} has '9'",
    "rates = { inference_s = -1.0 }": "inference_s of a device file must be a number of 0 or more, but {} has -1",
    'specification = { memory_gb_per_s = "9", fp16_tflops = 9 }': "{} cannot be like nvidia-v100: .*got '9' and 900",
    "specification = 3": "{} cannot be like nvidia-v100: ",
    "[specifications]\nfp16_tflops = 9": "{} has 'specifications', which is not read: 'specification' is meant",
    'runtime = "tvm"': "must be one of ascend, lite, onnxruntime, tensorrt, but {} has 'tvm'",
    'runtine = "ascend"': "{} has 'runtine', which is not read: 'runtime' is meant",
    'contaner = "onnx"': "{} has 'contaner', which is not read: 'container' is meant",
    "specification = { fp16_tflop = 9 }": "of {} has 'fp16_tflop', which is not read: 'fp16_tflops' is meant",
}


@pytest.mark.parametrize("entry", WRONG)
def test_a_wrong_entry_is_named_with_its_file(entry: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(f'like = "nvidia-v100"\n{entry}\n')
    with pytest.raises(ValueError, match=WRONG[entry].format(".*mine.toml")):
        device(tmp_path / "mine.toml")


def test_fixed_times_may_be_zero_and_a_precision_added(tmp_path: Path) -> None:
    text = (FILES / "nvidia-v100.toml").read_text()
    text = re.sub(r"macs_per_s = .*", "macs_per_s = { float = 2e13, int8 = 5e13 }", text)
    text = re.sub(r"operator_s = .*", "operator_s = { float = 0, int8 = 0.0 }", text)
    text = text.replace("{ float = [8, 8, 32] }", "{ float = [8, 8, 32], int8 = [8, 8, 64] }")
    (tmp_path / "mine.toml").write_text(text)
    assert device(tmp_path / "mine.toml").executes(Format(8, 8))


def test_files_are_sized_as_the_devices_runtime_takes_them() -> None:
    for name in devices():
        assert device(name).container is CONTAINERS["atc" if name.startswith("ascend") else "onnx"]
    assert device("ascend-310p3:mindspore").form == "mindir"
    assert device("ascend-310p3:lite").form == device("cpu:lite").form == "atc"
    assert device("nvidia-t4:onnxruntime").form == "onnx"


def test_atc_gets_no_format_that_its_files_store_no_smaller() -> None:
    assert list(map(str, device("ascend-310p3").distinct_formats())) == ["float", "w8", "w8a8"]
    assert "w4" in map(str, device("ascend-310p3:mindspore").distinct_formats())


def test_a_specification_may_say_more_than_is_read(tmp_path: Path) -> None:
    more = "fp16_tflops = 100\nbf16_tflops = 100\nfp32_tflops = 10\nmemory_gb_per_s = 900\nl1_mb = 1\n"
    (tmp_path / "mine.toml").write_text(f'like = "nvidia-v100"\nboard = "mine"\n[specification]\n{more}')
    assert device(tmp_path / "mine.toml").data["specification"]["bf16_tflops"] == 100


def test_a_date_may_stand_in_a_file(tmp_path: Path) -> None:
    keys = []
    for day in (1, 2):
        (tmp_path / "mine.toml").write_text(f'like = "nvidia-t4"\nbought = 2024-05-0{day}\n')
        keys.append(device(tmp_path / "mine.toml").key)
    assert keys[0] != keys[1]


def test_the_package_has_no_other_name() -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import hardware_models"
    where = str(Path(autocomp.hardware_models.__file__).parent.parent)
    run = subprocess.run([sys.executable, "-c", code, where], capture_output=True, text=True, check=False)
    assert "import autocomp.hardware_models, not hardware_models" in run.stderr


def test_it_loads_no_framework() -> None:
    code = "import sys, autocomp.hardware_models; print({'mindspore', 'ray', 'optuna', 'scipy'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
