"""The command line, in this process: what it prints, writes and refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import autocomp
from autocomp.cli.commands import main
from autocomp.cli.tables import rates_source
from autocomp.hardware_models import Device
from autocomp.hardware_models.runtimes.registry import others_of, title_of

from .lines import printed, run, valid


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one sentence that says why."""
    assert run(*arguments) == 2
    log, _, error = capsys.readouterr().err.rpartition("autocomp: ")
    assert error
    assert "Traceback" not in log + error
    return error.strip()


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out == f"autocomp {autocomp.__version__}\n"


COMMANDS = ("search", "status", "show", "export", "compare", "resolve", "quickstart", "estimate", "devices")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command, "--help") == 0
    assert f"autocomp {command}" in capsys.readouterr().out


def test_devices_are_listed_with_their_formats(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "240")
    assert run("devices") == 0
    out = capsys.readouterr().out
    rows = {line.split()[1]: line for line in out.splitlines() if line.startswith("│")}
    chips = [autocomp.device(name) for name in autocomp.devices()]
    runtimes = {title_of(chip.data) for chip in chips} | {f":{name}" for chip in chips for name in others_of(chip.data)}
    assert {":mindspore", ":lite", "tensorrt"} < runtimes <= set(rows)
    rows = {name: row for name, row in rows.items() if name not in runtimes}
    assert set(rows) == set(autocomp.devices())
    assert " fitted " in rows["ascend-310p3"] and " assumed " in rows["ascend-910c"]
    assert "= ascend" in rows["ascend-310p3"]
    for name, row in rows.items():
        assert f"fp{autocomp.device(name).float_bits}" in row
        assert f"│ {title_of(autocomp.device(name).data)} " in row
        assert all(str(f) in row for f in autocomp.device(name).distinct_formats()[1:])
        assert rates_source(autocomp.device(name)) in " ".join(out.split())


def test_estimate_prints_the_cost(net: str, capsys: pytest.CaptureFixture[str]) -> None:
    from autocomp.cli.sources import load_net
    from autocomp.problem.metrics import METRICS, OF_A_CONTEXT

    assert run("estimate", "--net", f"{net}:build", "--device", "cpu", "--inputs", "4,1,8,8") == 0
    out = capsys.readouterr().out
    cost = autocomp.estimate(load_net(f"{net}:build"), "cpu", (4, 1, 8, 8))
    for name, metric in METRICS.items():
        if name not in OF_A_CONTEXT:
            assert metric.format(float(getattr(cost, metric.attribute))) in out


def test_estimate_by_layer_adds_up(net: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--net", f"{net}:build", "--device", "ascend", "--inputs", "4,1,8,8", "--layers")
    assert run("estimate", *arguments) == 0
    table = [line.split("│") for line in capsys.readouterr().out.splitlines() if line.startswith("│") and "%" in line]
    names = [row[1].strip() for row in table]
    shares = [float(row[5].strip().rstrip("%")) for row in table]
    assert names[:2] == ["0", "3"] and names[-3:] == ["7", "fixed", ""]
    assert sum(shares[:-1]) == pytest.approx(shares[-1], abs=0.5)


def test_an_estimate_says_how_far_measurements_lie_from_it(net: str, capsys: pytest.CaptureFixture[str]) -> None:
    from autocomp.cli.sources import load_net
    from autocomp.problem.metrics import METRICS

    assert run("estimate", "--net", f"{net}:build", "--device", "ascend", "--inputs", "4,1,8,8") == 0
    latency = autocomp.estimate(load_net(f"{net}:build"), "ascend", (4, 1, 8, 8)).latency_ms
    errors = autocomp.device("ascend").errors
    assert errors is not None
    low, high = errors.range(latency)
    assert low < latency < high
    expected = f"{METRICS['latency'].format(low)} to {METRICS['latency'].format(high)} in 9 of 10 networks"
    assert expected in capsys.readouterr().out


def test_devices_are_compared_side_by_side(
    net: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from autocomp.cli.sources import load_net

    monkeypatch.setenv("COLUMNS", "200")
    assert run("compare", "--net", f"{net}:build", "--inputs", "4,1,8,8") == 0
    rows = [line.split("│")[1:-1] for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    costs = autocomp.compare(load_net(f"{net}:build"), inputs=(4, 1, 8, 8))
    assert [row[0].strip() for row in rows] == sorted(costs, key=lambda name: costs[name].latency_ms)
    assert set(costs) == set(autocomp.devices())
    for row in rows:
        assert sum(float(share.strip(" %")) for share in row[6:9]) == pytest.approx(100, abs=2)
        assert row[3].strip() == "-" or float(row[3].strip(" %")) <= 100


def test_devices_without_the_format_are_left_out_of_a_comparison(net: str) -> None:
    from autocomp.cli.sources import load_net

    found = autocomp.compare(load_net(f"{net}:build"), ["ascend", "gpu"], (1, 1, 8, 8), "w4a4")
    assert list(found) == ["nvidia-t4"]
    with pytest.raises(ValueError, match="a format that one of the devices offers"):
        autocomp.compare(load_net(f"{net}:build"), ["ascend"], (1, 1, 8, 8), "w4a4")


def test_devices_of_one_name_are_not_compared(net: str, tmp_path: Path) -> None:
    from autocomp.cli.sources import load_net
    from autocomp.estimates import workloads

    (tmp_path / "mine.toml").write_text('name = "nvidia-t4"\nlike = "nvidia-t4"\ngranularity = 16\n')
    with pytest.raises(ValueError, match="must have names of their own, but two are 'nvidia-t4'"):
        autocomp.compare(load_net(f"{net}:build"), ["gpu", tmp_path / "mine.toml"])
    rows = workloads(load_net(f"{net}:build"), ["gpu", "ascend", "nvidia-t4"], (1, 1, 8, 8))
    assert [chip.name for chip, _ in rows] == ["nvidia-t4", "ascend-310p3"]


def test_each_row_of_a_comparison_is_its_devices_own(tmp_path: Path) -> None:
    from autocomp.cli.tables import comparison_table
    from autocomp.hardware_models.measurements.shapes import OperatorShape
    from autocomp.problem.metrics import METRICS

    figures = "fp16_tflops = 6.5\nmemory_gb_per_s = 32"
    (tmp_path / "mine.toml").write_text(f'name = "nvidia-t4"\nlike = "nvidia-t4"\n[specification]\n{figures}\n')
    chips = [autocomp.device(tmp_path / "mine.toml"), autocomp.device("gpu")]
    workload = OperatorShape("dense", channels_in=4096, channels_out=4096).workload()
    expected = [METRICS["latency"].format(float(chip.costs(workload).latency_ms[0])) for chip in reversed(chips)]
    assert list(comparison_table([(chip, workload) for chip in chips]).columns[1].cells) == expected
    assert len(set(expected)) == 2


def test_tables_are_whole_where_there_is_little_room(
    net: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert run("compare", "--net", f"{net}:build", "--inputs", "1,1,8,8", "--device", "ascend", "--device", "gpu") == 0
    printed = capsys.readouterr().out
    assert "…" not in printed and "in 9 of 10 networks" in printed


def test_rates_need_no_source() -> None:
    data = autocomp.device("ascend").data
    rates = {name: value for name, value in data["rates"].items() if name != "source"}
    chip = Device.parse({**data, "fit": {}, "rates": rates}, "a test")
    assert rates_source(chip) == "not named"


def test_estimate_in_another_precision(net: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("estimate", "--net", f"{net}:build", "--device", "ascend", "--inputs", "1,1,8,8", "--precision")
    assert run(*arguments, "w8a8") == 0
    assert "ascend-310p3, w8a8" in capsys.readouterr().out
    assert "precision must be one of float, w8" in refused(capsys, *arguments, "w3")
    assert run(*arguments, "fp16") == 0 and "ascend-310p3, fp16" in capsys.readouterr().out
    both = ("compare", "--net", f"{net}:build", "--inputs", "1,1,8,8", "--device", "ascend", "--device", "cpu")
    assert set(json.loads(printed(capsys, *both, "--precision", "fp16", "--json"))) == {"ascend-310p3"}
    assert "a format that one of the devices offers, but got 'fp8'" in refused(capsys, *both, "--precision", "fp8")


def test_search_stores_the_front_and_a_report(stored: Path) -> None:
    front = autocomp.load(stored)
    assert len(front.evaluated) == 6
    assert front.float_point.samples == 96
    assert "<html" in (stored / "report.html").read_text()


def test_a_stored_front_is_resolved_for_another_budget(
    net: str, stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["resolve", str(stored), "--net", f"{net}:build", "--budget", "size<60%"]
    assert run(*arguments, "--export", str(tmp_path / "net.onnx")) == 0
    summary, plan, report, command = capsys.readouterr().out.splitlines()
    assert command.strip().startswith(f"atc --model={tmp_path / 'net.onnx'} ")
    assert " predicted (" in summary and f"{tmp_path / 'net.onnx'}: onnx, " in report
    assert (tmp_path / "net.onnx").stat().st_size < 6000 and len(autocomp.load(stored).evaluated) == 6
    assert run(*arguments, "--data", f"{net}:data") == 0
    assert plan in capsys.readouterr().out
    chosen = autocomp.Plan.parse(plan.removeprefix("plan: "))
    assert chosen in [point.plan for point in autocomp.load(stored).evaluated]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"resolve": "{tmp}"}, "a saved front is a folder with front.json, but"),
        ({"--budget": "size<1%"}, "size<1% cannot be reached on ascend-310p3: the nearest is"),
        ({"--budget": "size!60%"}, "the budget must have < or <= here"),
        ({"--data": "{net}:other_data"}, "data must be what the front was searched with"),
        ({"--export": "net.air"}, "an export's path must end in .mindir, .onnx or .safetensors, but got 'net.air'"),
        ({"--net": "{net}:number"}, "--net must give a mindspore.nn.Cell, but"),
    ],
)
def test_bad_input_of_resolve_gets_one_sentence(
    changed: dict[str, str], said: str, net: str, stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"resolve": str(stored), "--net": "{net}:build", "--budget": "size<60%"} | changed
    assert said in refused(capsys, *[part.format(net=net, tmp=tmp_path) for pair in given.items() for part in pair])


def test_quick_search_looks_at_fewer_samples(net: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autocomp.cli.commands.QUICK_SAMPLES", 32)
    monkeypatch.setattr("autocomp.cli.commands.QUICK_TRIALS", 3)
    arguments = ["--net", f"{net}:build", "--data", f"{net}:data", "--budget", "size<90%", "--device", "ascend"]
    assert run("search", *arguments, "--out", str(tmp_path), "--quick") == 0
    front = autocomp.load(tmp_path)
    assert len(front.evaluated) == 3
    assert front.float_point.samples == 32
    arguments[arguments.index("size<90%")] = "size<60%"
    assert run("resolve", str(tmp_path), *arguments[:-2]) == 0  # on as many
    assert {point.samples for point in autocomp.load(tmp_path).evaluated} == {32}


def test_quick_search_on_training_samples_says_so(net: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autocomp.cli.commands.QUICK_SAMPLES", 32)
    arguments = ["--net", f"{net}:build", "--data", f"{net}:training_data", "--budget", "size<90%", "--device", "cpu"]
    assert run("search", *arguments, "--out", str(tmp_path), "--quick", "--trials", "1") == 0
    front = autocomp.load(tmp_path)
    assert front.float_point.samples == 32 and "the train samples are used" in " ".join(front.notes)


SEARCH = {"--budget": "size<90%", "--device": "ascend", "--trials": "2", "--net": "{net}:build", "--out": "{tmp}/out"}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"--net": "{net}"}, "a reference is 'package.module:name' or 'path/to/file.py:name', but got"),
        ({"--net": "{net}:bulid"}, "has no 'bulid'"),
        ({"--net": "nowhere.at_all:build"}, "there is no module 'nowhere.at_all'"),
        ({"--net": "{tmp}/none.py:build"}, "there is no file"),
        ({"--net": "{net}:number"}, "--net must give a mindspore.nn.Cell, but"),
        ({"--weights": "{tmp}/none.ckpt"}, "there is no file"),
        ({"--data": "{net}:number"}, "must have a first axis that counts the samples"),
        ({"--data": "{net}:wide_data"}, "the network does not take inputs of shape (1, 3, 8, 8)"),
        ({"--budget": "latency<<5ms"}, "latency<<5ms"),
        ({"--budget": "latency<1us", "--inputs": "1,1,8,8"}, "the nearest is"),
        ({"--device": "abacus"}, "unknown device 'abacus'; known: ascend"),
        ({"--sampler": "oracle"}, "oracle"),
        ({"--primitives": "magic"}, "magic"),
        ({"--inputs": "1,1,eight,8"}, "a shape is whole numbers from 1"),
        ({"--out": "{net}"}, "--out must be a folder, but"),
        ({"--out": "/proc/nowhere"}, "cannot write to the folder /proc/nowhere"),
    ],
)
def test_bad_input_gets_one_sentence(
    changed: dict[str, str], said: str, net: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [part.format(net=net, tmp=tmp_path) for option in (SEARCH | changed).items() for part in option]
    assert said in refused(capsys, "search", *options)


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(ValueError, match="unknown device"):
        main(["--debug", "estimate", "--net", "a:b", "--device", "abacus"])


def test_an_error_of_the_users_module_is_not_hidden(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken_import.py"
    broken.write_text("import a_module_that_is_not_there\n")
    said = refused(capsys, "estimate", "--net", f"{broken}:build", "--device", "cpu")
    assert "ModuleNotFoundError: No module named 'a_module_that_is_not_there'; autocomp --debug shows where" in said
    sys.path.remove(str(tmp_path))


@pytest.mark.parametrize("ending", ["ckpt", "npz"])
def test_weights_are_read(ending: str, net: str, tmp_path: Path) -> None:
    from autocomp.cli.sources import load_net
    from autocomp.primitives.tracing.platform import load_mindspore

    ms = load_mindspore()
    trained = load_net(f"{net}:build")
    for parameter in trained.get_parameters():
        parameter.set_data(ms.Tensor(np.full(parameter.shape, 0.25, np.float32)))
    path = tmp_path / f"weights.{ending}"
    if ending == "ckpt":
        ms.save_checkpoint(trained, str(path))
    else:
        np.savez(path, **{name: p.asnumpy() for name, p in trained.parameters_dict().items()})
    for parameter in load_net(f"{net}:build", path).get_parameters():
        assert (parameter.asnumpy() == 0.25).all()


def test_weights_must_fit(net: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("estimate", "--net", f"{net}:build", "--device", "cpu", "--weights")
    np.savez(tmp_path / "few.npz", **{"0.weight": np.zeros((8, 1, 3, 3), np.float32)})
    assert "must hold every parameter of the network, but lacks" in refused(
        capsys, *arguments, str(tmp_path / "few.npz")
    )
    (tmp_path / "weights.pth").touch()
    assert "weights are a .ckpt or an .npz file" in refused(capsys, *arguments, str(tmp_path / "weights.pth"))


def test_show_prints_the_front_and_a_point_layer_by_layer(
    stored: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    assert run("show", str(stored)) == 0
    assert "points from 6 evaluations" in capsys.readouterr().out
    assert run("show", str(stored), "size<90%") == 0
    out = capsys.readouterr().out
    assert all(text in out for text in ("operator", "bound", "of float"))
    front = valid("front", printed(capsys, "show", str(stored), "--json"))
    assert [point["number"] for point in front["points"]] == list(range(len(front["points"])))
    point = valid("point", printed(capsys, "show", str(stored), "knee", "--json"))
    assert point["plan"] in [one["plan"] for one in front["points"]]
    assert sum(layer["share"] for layer in point["layers"]) <= 1


def test_status_says_how_far_the_search_of_a_folder_is(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = valid("status", printed(capsys, "status", str(stored), "--json"))
    (search,) = found["searches"]
    assert search["state"] == "ended" and search["stored"] == search["progress"]["done"] == 6
    assert 0 < search["progress"]["hypervolume"] < 1
    assert valid("status", printed(capsys, "status", found["storage"], "--json"))["searches"] == [
        search | {"sign_of_life_s": None}
    ]
    assert "6 of 6 evaluations" in printed(capsys, "status", str(stored))


def test_export_writes_a_point_of_a_stored_front(
    net: str, stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "net.onnx"
    arguments = ("export", str(stored), str(file), "--net", f"{net}:build", "--point", "size<90%", "--json")
    report = valid("file", printed(capsys, *arguments))
    assert report["path"] == str(file) and file.stat().st_size == round(1e6 * report["size_mb"])
    point = valid("point", printed(capsys, "show", str(stored), "size<90%", "--json"))
    assert point["files"]["onnx"] == report  # the folder remembers it


def test_compare_two_fronts_and_two_points(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = valid("two_fronts", printed(capsys, "compare", str(stored), str(stored), "--json"))
    assert found["dominated"] == [0, 0] and {row["cheaper"] for row in found["ahead"]} == {None}
    points = valid("two_points", printed(capsys, "compare", f"{stored}:float", f"{stored}:size<90%", "--json"))
    assert points["plan"] and all(pair[0] is None for pair in points["plan"].values())
    assert "dominated" in printed(capsys, "compare", str(stored), str(stored))


def test_costs_and_devices_as_json(net: str, capsys: pytest.CaptureFixture[str]) -> None:
    subject = ("--net", f"{net}:build", "--inputs", "1,1,8,8")
    found = valid("estimate", printed(capsys, "estimate", *subject, "--device", "ascend", "--layers", "--json"))
    assert sum(row["macs"] for row in found["layers"]) == found["cost"]["macs"]
    costs = valid("costs_by_device", printed(capsys, "compare", *subject, "--device", "ascend", "--json"))
    assert costs["ascend-310p3"] == found["cost"]
    chips = valid("devices", printed(capsys, "devices", "--json"))
    assert {chip["name"] for chip in chips} == set(autocomp.devices())
