"""Runtimes behind the names of devices: which there are, what they take, and what wrong names are told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import autocomp
from autocomp.hardware_models import Device, device
from autocomp.hardware_models.runtimes.registry import others_of, title_of
from autocomp.search_spaces import Format
from tests.hardware_models.networks import FORMATS, Builder, mixed


@pytest.mark.parametrize(
    ("name", "runtime", "formats"),
    [
        ("ascend-310p3", "ascend", "float w8 w8a8 w4 w4a8"),
        ("ascend-310p3:mindspore", "mindspore", "float w8 w8a8 w4 w4a8"),
        ("ascend-310p3:lite", "lite-floats", "float"),
        ("nvidia-t4", "tensorrt", "float w8 w8a8 w4 w4a8 w4a4"),
        ("nvidia-t4:onnxruntime", "onnxruntime-cuda", "float"),
        ("cpu:lite", "lite-floats", "float"),
    ],
)
def test_a_runtime_behind_a_device_decides_the_formats(name: str, runtime: str, formats: str) -> None:
    chip = autocomp.device(name)
    assert (chip.name, chip.runtime.name) == (name, runtime)
    assert " ".join(map(str, chip.formats)) == formats


@pytest.mark.parametrize(
    ("name", "same"), [("ascend:atc", "ascend"), ("gpu:tensorrt", "gpu"), ("cpu:onnxruntime", "cpu")]
)
def test_a_devices_own_runtime_may_be_named(name: str, same: str) -> None:
    assert autocomp.device(name).key == autocomp.device(same).key
    assert title_of(autocomp.device(same).data) == name.partition(":")[2]


def test_aliases_threads_and_files_take_a_runtime_too(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('like = "ascend-310p3"\nname = "board"\n')
    assert autocomp.device(f"{tmp_path / 'mine.toml'}:mindspore").name == "board:mindspore"
    assert autocomp.device("ascend:mindspore").name == "ascend-310p3:mindspore"
    assert autocomp.device("cpu:4:lite").runtime.name == "lite-floats"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "ascend-310p3:om",
            "'om' of ascend-310p3; valid are ascend-310p3 (atc), ascend-310p3:mindspore, ascend-310p3:lite",
        ),
        ("ascend:mindspor", "did you mean 'mindspore'?"),
        ("nvidia-t4:lite", "valid are nvidia-t4 (tensorrt), nvidia-t4:onnxruntime"),
        ("cpu:tensorrt", "valid are cpu (onnxruntime), cpu:lite"),
        ("ascend:", "unknown runtime '' of ascend-310p3"),
    ],
)
def test_a_wrong_runtime_is_told_the_valid_ones(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"^unknown runtime") as raised:
        autocomp.device(name)
    assert said in str(raised.value)


@pytest.mark.parametrize("name", ["ascend-31:mindspore", "mindspore", "cpu:0", "cpu:4:5"])
def test_an_unknown_device_stays_unknown_with_a_runtime(name: str) -> None:
    with pytest.raises(ValueError, match=r"^unknown device"):
        autocomp.device(name)


def test_what_was_measured_under_another_runtime_is_not_claimed() -> None:
    chip, other = device("ascend-310p3"), device("ascend-310p3:mindspore")
    assert chip.errors is not None and other.errors is None
    assert other.data["rates"]["source"].endswith("not measured under mindspore")
    assert Device.parse(other.data, "stored").key == other.key != chip.key


def latency(chip: Device, kind: str) -> np.ndarray:
    """(formats,) of a network of one layer."""
    b = Builder(256, 64)
    b.conv(0, 256) if kind == "conv" else b.dense(b.flatten(0), 1024)
    space = b.space()
    rows = np.array([[i, *[0] * (len(space.knobs) - 1)] for i in range(len(FORMATS))])
    return np.asarray(chip.costs(space.workload(rows, 64)).latency_ms)


def test_mindspore_runs_dense_layers_alone_in_integers() -> None:
    """There is no convolution in integers in MindSpore's files: such a plan costs what the float one costs."""
    atc, mindspore = device("ascend-310p3"), device("ascend-310p3:mindspore")
    integers = FORMATS.index("w8a8")
    assert latency(atc, "conv")[integers] < latency(atc, "conv")[0]
    assert latency(mindspore, "conv")[integers] == latency(mindspore, "conv")[0]
    assert latency(mindspore, "dense")[integers] < latency(mindspore, "dense")[0]


@pytest.mark.parametrize("name", ["ascend-310p3:lite", "cpu:lite", "nvidia-t4:onnxruntime"])
def test_a_runtime_of_floats_credits_no_integers(name: str) -> None:
    chip, space = device(name), mixed(16)
    assert not chip.executes(Format(8, 8))
    formats = [i for i, knob in enumerate(space.knobs) if knob.kind == "format"]
    rows = np.zeros((len(FORMATS), len(space.knobs)), int)
    rows[:, formats] = np.arange(len(FORMATS))[:, None]
    assert len(set(chip.costs(space.workload(rows, 4)).latency_ms)) == 1


def test_every_runtime_names_the_files_that_it_takes() -> None:
    for name in autocomp.devices():
        chip = device(name)
        for one in (chip.runtime, *others_of(chip.data).values()):
            assert one.reads and set(one.reads) <= {"onnx", "mindir"}
