"""Every command prints JSON, which the schema in the documentation describes."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

import autocomp
import autocomp.quickstart.run as quickstart
from autocomp.cli.commands import app
from autocomp.hardware_models import device as find_device
from autocomp.measurement import own_devices, processor

from .lines import printed, valid

ANSWERS = {
    "search": "front", "status": "status", "show": "front", "export": "file", "compare": "two_fronts",
    "profile-network": "network_profile", "resolve": "resolved", "quickstart": "front", "estimate": "estimate",
    "profile": "device_profile", "calibrate": "device", "devices": "devices",
}  # fmt: skip


@pytest.fixture
def lines(net: str, stored: Path, tmp_path: Path) -> dict[str, tuple[str, ...]]:
    subject = ("--net", f"{net}:build")
    budget = ("--budget", "size<90%")
    data = ("--data", f"{net}:data")
    return {
        "search": (*subject, *data, *budget, "--device", "ascend", "--trials", "2", "--out", str(tmp_path / "runs")),
        "status": (str(stored),),
        "show": (str(stored),),
        "export": (str(stored), str(tmp_path / "net.onnx"), *subject),
        "compare": (str(stored), str(stored)),
        "profile-network": (*subject, *data, "--plan", f"{stored}:size<90%", "--samples", "4"),
        "resolve": (str(stored), *subject, "--budget", "size<60%", "--export", str(tmp_path / "small.onnx")),
        "quickstart": ("--out", str(tmp_path / "quick")),
        "estimate": (*subject, "--device", "ascend", "--inputs", "1,1,8,8"),
        "profile": ("--device", "gpu", "--out", str(tmp_path / "t.csv"), "--models", str(tmp_path / "models")),
        "calibrate": (),
        "devices": (),
    }


def test_every_command_takes_it_and_has_a_schema() -> None:
    commands = {one.name or one.callback.__name__: one.callback for one in app.registered_commands if one.callback}
    assert set(commands) == set(ANSWERS)
    assert {name for name, made in commands.items() if "as_json" not in inspect.signature(made).parameters} == set()


@pytest.mark.parametrize("command", ANSWERS)
def test_what_it_prints_is_as_described(
    command: str,
    lines: dict[str, tuple[str, ...]],
    stored: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chip, shapes = find_device(processor.TEMPLATE), own_devices.standard_shapes
    monkeypatch.setattr(own_devices, "standard_shapes", lambda formats: shapes(formats)[:3])
    monkeypatch.setattr(own_devices, "PRODUCTS", ())
    monkeypatch.setattr(processor, "measure_processor", lambda threads, report: chip)
    monkeypatch.setattr(quickstart, "run", lambda out, **_: autocomp.load(stored))
    assert valid(ANSWERS[command], printed(capsys, command, *lines[command], "--json"))


@pytest.mark.parametrize("point", ["float", "size<90%"])
def test_a_file_is_profiled_node_by_node(
    point: str, net: str, stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the front's device, an Ascend: its own operators run nowhere else, and its batch is fixed."""
    file = str(tmp_path / "net.onnx")
    printed(capsys, "export", str(stored), file, "--net", f"{net}:build", "--point", point)
    page = tmp_path / "page.html"
    line = ("profile-network", "--net", file, "--data", f"{net}:data", "--html", str(page), "--json")
    found: Any = valid("network_profile", printed(capsys, *line))
    assert found["measured_ms"] > 0 and found["samples"] == 8 and page.read_text().count("<tr") > 3
    assert sum(row["share"] for row in found["layers"]) == pytest.approx(1)


def test_a_resolved_plan_is_evaluated_with_data(net: str, stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ("resolve", str(stored), "--net", f"{net}:build", "--budget", "size<60%")
    predicted = valid("resolved", printed(capsys, *line, "--json"))
    found = valid("resolved", printed(capsys, *line, "--data", f"{net}:data", "--json"))
    assert (predicted["evaluated"], found["evaluated"]) == (False, True) and found["plan"] == predicted["plan"]
    assert predicted["low"] <= predicted["accuracy"] <= predicted["high"] and found["samples"] == 96
