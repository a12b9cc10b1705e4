"""Devices that are measured: fits find the chip that made the table, tables give back what was measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autocomp.hardware_models import Device, device
from autocomp.hardware_models.device_file import device_text, rates_data
from autocomp.hardware_models.fitting.fit import changed
from autocomp.hardware_models.fitting.own_device import MeasuredNetwork, calibrated, predicted
from autocomp.hardware_models.fitting.standard_shapes import standard_shapes
from autocomp.hardware_models.measurements.shapes import (
    KINDS,
    OPS,
    MeasuredShape,
    OperatorShape,
    read_table,
    rows_data,
    table_text,
)
from autocomp.search_spaces import Format, SearchSpace, Workload
from tests.hardware_models.networks import Builder, mixed

FORMATS = ("float", "w8a8")
LARGE = [  # of which the fixed time of an inference is a small part
    OperatorShape("matmul", channels_in=1024, channels_out=1024, height=1024, groups=12),
    OperatorShape("softmax", channels_in=1024, height=1024, groups=64),
    OperatorShape("layernorm", channels_in=4096, height=8192),
]


def with_rates(chip: Device, factors: dict[str, float]) -> Device:
    return Device.parse({**chip.data, "rates": rates_data(changed(chip.rates, factors)) | {"source": "test"}}, "test")


def measured_on(chip: Device, shapes: list[OperatorShape], noise: float = 0.0) -> list[MeasuredShape]:
    rng = np.random.default_rng(0)
    rows = [MeasuredShape(shape) for shape in shapes]
    return [replace(row, latency_ms=predicted(chip, row) * float(np.exp(noise * rng.normal()))) for row in rows]


@pytest.fixture(scope="module")
def truth() -> Device:
    """A chip whose measurements the fit sees, and whose rates it does not."""
    return with_rates(device("ascend"), {"macs_per_s.float": 0.4, "dram_bytes_per_s": 0.5, "inference_s": 2.0})


@pytest.fixture(scope="module")
def fitted(truth: Device) -> Device:
    rows = measured_on(truth, standard_shapes(FORMATS) + LARGE, noise=0.03)
    return calibrated(device("ascend"), rows, {"name": "mine", "measured": {"table": "mine.csv"}})


def test_a_fit_to_a_table_finds_the_chip(fitted: Device, truth: Device) -> None:
    assert fitted.rates.macs_per_s["float"] == pytest.approx(truth.rates.macs_per_s["float"], rel=0.1)
    assert fitted.name == "mine"
    assert fitted.data["fit"]["mean_error"] < 0.1
    errors = fitted.errors
    assert errors is not None and errors.values[0] < 0 < errors.values[-1]


def _network(chip: Device, name: str, batch: int) -> MeasuredNetwork:
    if name == "mixed":
        graph = mixed(56).graph
    else:
        builder, x = Builder(64, 28), 0
        for channels in (64, 128, 128, 256):
            x = builder.conv(x, channels)
        graph = builder.graph()
    workload = Workload(SearchSpace(graph, ()), np.zeros((1, 0), np.int64), batch)
    return MeasuredNetwork(name, workload, float(chip.costs(workload).latency_ms[0]))


def test_one_network_tells_how_fast_a_chip_is(truth: Device) -> None:
    """Without any shape: the network comes back, another one is nearer than before."""
    one, other = _network(truth, "mixed", 8), _network(truth, "plain", 32)
    found = calibrated(device("ascend"), [], {"name": "mine"}, [one])
    assert predicted(found, one) == pytest.approx(one.latency_ms, rel=0.02)
    before, after = (abs(np.log(predicted(chip, other) / other.latency_ms)) for chip in (device("ascend"), found))
    assert after < before
    assert found.errors is None and found.data["fit"]["data"] == "1 network measured on the device"


def test_a_network_moves_a_fit_to_shapes(truth: Device) -> None:
    """What no shape shows, here that each inference takes a millisecond more, is seen in a network."""
    shapes = measured_on(truth, standard_shapes(FORMATS)[::6])
    fixed = truth.rates.inference_s * 1e3
    rows = [replace(row, latency_ms=(row.latency_ms or 0) - fixed, fixed=False) for row in shapes]
    slow = with_rates(truth, {"inference_s": 5.0})
    one = _network(slow, "mixed", 1)
    found = calibrated(device("ascend"), rows, {"name": "mine"}, [one])
    assert predicted(found, one) == pytest.approx(one.latency_ms, rel=0.1)
    assert found.rates.inference_s == pytest.approx(slow.rates.inference_s, rel=0.2)


def test_nothing_measured_is_no_fit() -> None:
    with pytest.raises(ValueError, match="a fit needs at least 8 measured shapes or a network, but got 0 shapes"):
        calibrated(device("ascend"), [], {"name": "mine"})


def test_what_was_not_measured_is_close_to_the_chip(fitted: Device, truth: Device) -> None:
    shape = OperatorShape("conv", "", "float", 4, 80, 160, 20, 20, 3, repeat=3)
    assert predicted(fitted, MeasuredShape(shape)) == pytest.approx(predicted(truth, MeasuredShape(shape)), rel=0.1)


def test_a_measured_shape_costs_what_was_measured(fitted: Device) -> None:
    """The noise of 3 % is in the table and comes back."""
    rows = [row for row in fitted.table.rows if row.shape in LARGE]
    assert len(rows) == len(LARGE)
    for row in rows:
        assert predicted(fitted, row) == pytest.approx(row.latency_ms, rel=1e-6)


def test_a_fit_needs_rows() -> None:
    shapes = standard_shapes()
    few = measured_on(device("ascend"), shapes[:5]) + [MeasuredShape(shape) for shape in shapes[5:]]
    with pytest.raises(ValueError, match="at least 8 measured shapes or a network, but got 5 shapes"):
        calibrated(device("ascend"), few, {})


def test_sums_of_operators_leave_the_fixed_time_out() -> None:
    chip = device("ascend")
    row = MeasuredShape(standard_shapes()[0])
    whole, summed = predicted(chip, row), predicted(chip, replace(row, fixed=False))
    assert whole - summed == pytest.approx(chip.rates.inference_s * 1e3)


def test_a_stored_device_is_the_same_again(fitted: Device, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text(table_text(fitted.table.rows, "mine.toml"))
    (tmp_path / "mine.toml").write_text(device_text(fitted.data))
    again = device(tmp_path / "mine.toml")
    row = MeasuredShape(OperatorShape("dense", channels_in=300, channels_out=700, repeat=2))
    assert predicted(again, row) == pytest.approx(predicted(fitted, row), rel=1e-3)
    assert again.errors is not None
    rows = json.loads(json.dumps(again.data))
    assert Device.parse(rows, "json").key == again.key


def test_the_key_changes_with_a_measurement(fitted: Device) -> None:
    rows = rows_data(fitted.table.rows)
    rows[3] = [*rows[3][:-2], rows[3][-2] * 1.01, rows[3][-1]]
    other = {**fitted.data, "measured": {**fitted.data["measured"], "rows": rows}}
    assert Device.parse(other, "test").key != fitted.key


def test_a_table_is_a_device(tmp_path: Path) -> None:
    """What is in it costs what was measured, what is far from it what the device that it names says."""
    base = device("gpu")
    near, far = (
        OperatorShape("add", "Add", channels_in=64, height=56, width=56),
        OperatorShape("softmax", channels_in=9),
    )
    table = tmp_path / "measured.csv"
    table.write_text(table_text([MeasuredShape(near, 3.5)], "gpu"))
    chip = device(table)
    assert chip.name == "measured"
    assert predicted(chip, MeasuredShape(near)) == pytest.approx(3.5)
    assert predicted(chip, MeasuredShape(far)) == predicted(base, MeasuredShape(far))
    between = predicted(chip, MeasuredShape(replace(near, height=28)))
    assert predicted(base, MeasuredShape(replace(near, height=28))) < between < 3.5


def test_a_table_that_cannot_be_read_says_where(tmp_path: Path) -> None:
    text = table_text([MeasuredShape(standard_shapes()[0], 1.0)], "gpu")
    (tmp_path / "a.csv").write_text(text.replace(",1,yes", ",-1,yes"))
    with pytest.raises(ValueError, match=r"line 2 of .*latency_ms must be above 0"):
        device(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text(text.replace(",gpu", ","))
    with pytest.raises(ValueError, match="must name one device"):
        device(tmp_path / "b.csv")


WRONG = {
    **dict.fromkeys(("stride=0", "groups=0", "channels_in=0", "batch=0", "repeat=0"), "must be 1 or more"),
    "height=-5": "must be 1 or more, but got height=-5",
    "groups=3": r"must divide its channels, but got 3 for \(64, 64\)",
    "kind=pool op=MaxPool kernel=0": "must be 1 or more, but got kernel=0",
    "kind=pool op=MaxPool kernel=99": r"must fit its image, but got 99 for \(28, 28\)",
    "kind=pool op=": "must be one of MaxPool, AvgPool, but got ''",
    "kind=activation op=Foo": "must be one of ReLU, .*, but got 'Foo'",
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_shape_that_cannot_be_says_where(wrong: str, tmp_path: Path) -> None:
    row = MeasuredShape(OperatorShape("conv", "", "float", 1, 64, 64, 28, 28, 3), 0.05)
    names, values = (line.split(",") for line in table_text([row], "gpu").splitlines())
    changed_row = dict(zip(names, values, strict=True)) | dict(part.split("=") for part in wrong.split())
    (tmp_path / "a.csv").write_text(",".join(names) + "\n" + ",".join(changed_row.values()) + "\n")
    with pytest.raises(ValueError, match=rf"line 2 of .*a\.csv.*{WRONG[wrong]}"):
        read_table(tmp_path / "a.csv")


@pytest.mark.parametrize("cut", [1, 2, 3, 9])
def test_a_row_that_is_cut_off_says_where(cut: int, tmp_path: Path) -> None:
    text = table_text([MeasuredShape(standard_shapes()[0], 1.0)], "gpu").strip()
    (tmp_path / "a.csv").write_text(text.rsplit(",", cut)[0])
    with pytest.raises(ValueError, match=r"line 2 of .*a\.csv.*more or fewer values than the header"):
        read_table(tmp_path / "a.csv")


def shapes_of(operator: tuple[str, str]) -> st.SearchStrategy[OperatorShape]:
    formats, sizes = st.sampled_from(("float", "w8", "w8a8", "w4")), [st.integers(1, 64) for _ in range(5)]
    return st.builds(OperatorShape, *map(st.just, operator), formats, *sizes, repeat=st.integers(1, 3))


shapes = st.sampled_from([(kind, op) for kind in KINDS for op in OPS.get(kind, ("",))]).flatmap(shapes_of)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.builds(MeasuredShape, shapes, st.none() | st.floats(1e-4, 1e4), st.booleans()), min_size=1))
def test_tables_are_read_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[MeasuredShape]
) -> None:
    path = tmp_path_factory.mktemp("tables") / "table.csv"
    path.write_text(table_text(rows, "gpu"))
    found = read_table(path)
    assert [row.shape for row in found] == [row.shape for row in rows]
    assert [row.fixed for row in found] == [row.fixed for row in rows]
    for one, other in zip(found, rows, strict=True):
        assert (one.latency_ms or 0.0) == pytest.approx(other.latency_ms or 0.0, rel=1e-5)


def test_every_standard_shape_has_a_cost_and_a_name_of_its_own() -> None:
    found = standard_shapes(("float", "w8a8", "w8"))
    assert len({shape.name for shape in found}) == len(found)
    assert all(predicted(device("ascend"), MeasuredShape(shape)) > 0 for shape in found)
    with pytest.raises(ValueError, match="kind of an operator shape must be one of"):
        OperatorShape("lstm")


MINE = """
name = "mine"
like = "nvidia-t4"
[specification]
source = "a data sheet"
fp16_tflops = 130
int8_tops = 260
int4_tops = 520
memory_gb_per_s = 640
"""


def test_a_file_says_only_what_differs_from_a_relative(tmp_path: Path) -> None:
    """Twice the arithmetic and the bandwidth: half the time, but for the fixed times."""
    (tmp_path / "mine.toml").write_text(MINE)
    mine, t4 = device(tmp_path / "mine.toml"), device("gpu")
    assert mine.rates.macs_per_s["int8"] == pytest.approx(2 * t4.rates.macs_per_s["int8"])
    assert mine.rates.dram_bytes_per_s == pytest.approx(2 * t4.rates.dram_bytes_per_s)
    assert mine.rates.inference_s == t4.rates.inference_s
    assert mine.errors is None
    assert "efficiencies of nvidia-t4" in mine.data["rates"]["source"]


def test_rates_of_ones_own_stand_beside_a_relatives_on_the_specification(tmp_path: Path) -> None:
    (tmp_path / "plain.toml").write_text(MINE)
    (tmp_path / "mine.toml").write_text(MINE + "[rates]\ndram_bytes_per_s = 1e11\n")
    plain, mine = device(tmp_path / "plain.toml"), device(tmp_path / "mine.toml")
    assert mine.rates == replace(plain.rates, dram_bytes_per_s=1e11)
    assert mine.data["rates"]["source"].endswith("not measured, but for dram_bytes_per_s")


def test_integers_that_a_specification_does_not_name_are_not_executed(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(MINE.replace("int4_tops = 520", ""))
    mine = device(tmp_path / "mine.toml")
    assert set(mine.rates.macs_per_s) == {"float", "int8"}
    figures = {"source", "fp16_tflops", "int8_tops", "memory_gb_per_s", "memory_gb"}
    assert set(mine.data["specification"]) == figures
    assert mine.rates.cache_bytes == device("gpu").rates.cache_bytes


@pytest.mark.parametrize("gflops", [9.6, 96, 960])
def test_a_processor_grows_with_its_floats(gflops: float, tmp_path: Path) -> None:
    """Integers, too: the shipped processor's specification names none, and its rates do."""
    specification = f"fp32_gflops = {gflops}\nmemory_gb_per_s = 20"
    (tmp_path / "mine.toml").write_text(f'name = "mine"\nlike = "cpu"\n[specification]\n{specification}\n')
    mine, cpu = device(tmp_path / "mine.toml"), device("cpu")
    assert mine.rates.macs_per_s == pytest.approx({k: v * gflops / 96 for k, v in cpu.rates.macs_per_s.items()})
    assert mine.executes(Format(8, 8))


def test_a_relative_whose_figures_are_not_known_is_none(tmp_path: Path) -> None:
    data = {**device("cpu").data, "specification": {"source": "none"}}
    (tmp_path / "unknown.toml").write_text(device_text(data))
    (tmp_path / "mine.toml").write_text(MINE.replace("nvidia-t4", str(tmp_path / "unknown.toml")))
    with pytest.raises(ValueError, match="and its relative's must have fp16_tflops above 0, but got 130 and None"):
        device(tmp_path / "mine.toml")


def test_a_file_without_a_specification_has_its_relatives_rates(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('name = "mine"\nlike = "nvidia-t4"\nformats = ["float", "w8a8"]\n')
    mine, t4 = device(tmp_path / "mine.toml"), device("gpu")
    assert mine.rates == t4.rates
    assert mine.data["specification"] == t4.data["specification"]
    assert mine.data["rates"]["source"] == "the rates of nvidia-t4; not measured"


def test_a_file_that_names_nothing_is_named_after_itself(tmp_path: Path) -> None:
    (tmp_path / "board.toml").write_text('like = "nvidia-t4"\n')
    assert device(tmp_path / "board.toml").name == "board"


@pytest.mark.parametrize("figure", ["fp16_tflops = 130", "memory_gb_per_s = 640"])
@pytest.mark.parametrize("other", ["{} = 0", "", "misspelt_{} = 9", "{} = '9'"])
def test_a_relative_needs_its_figures(figure: str, other: str, tmp_path: Path) -> None:
    name = figure.partition(" ")[0]
    (tmp_path / "mine.toml").write_text(MINE.replace(figure, other.format(name)))
    with pytest.raises(ValueError, match=f"must have {name} above 0, but got (0|None|'9')"):
        device(tmp_path / "mine.toml")


def test_a_device_file_is_toml(tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text("name = ")
    with pytest.raises(ValueError, match="must be TOML"):
        device(tmp_path / "broken.toml")
