"""The device ``cpu``: measured once, kept, read again; and what onnxruntime makes of the models that are measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

import autocomp
from autocomp.cli.commands import main
from autocomp.hardware_models import device as find_device
from autocomp.hardware_models.fitting.own_device import predicted
from autocomp.hardware_models.fitting.standard_shapes import standard_shapes
from autocomp.hardware_models.lowered import LoweredNetwork
from autocomp.hardware_models.measurements.shapes import OPS, MeasuredShape, OperatorShape, read_table
from autocomp.hardware_models.operators import lower
from autocomp.hardware_models.rates import INT8
from autocomp.measurement import integer_sums, own_devices, processor
from autocomp.measurement.operator_models import operator_inputs, operator_model
from autocomp.measurement.profiling import measure, typical_ms
from benchmarks.peak_memory import peak_mb

CONVS = ((form, size, kernel) for form in ("float", "w8a8") for size in (8, 16) for kernel in (1, 3))
SMALL = [
    *(OperatorShape("conv", "", form, 1, size, size, 8, 8, kernel, repeat=2) for form, size, kernel in CONVS),
    OperatorShape("dense", channels_in=16, channels_out=8, repeat=2),
    OperatorShape("add", "Add", channels_in=8, height=8, width=8),
]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, and shapes that take no time; latencies are what another device says of them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(processor.SETTING)
    counted: list[int] = []

    def measured(shapes: list[OperatorShape], threads: int = 1, report: object = None) -> list[MeasuredShape]:
        counted.append(threads)
        chip = find_device("cpu")
        return [MeasuredShape(shape, predicted(chip, MeasuredShape(shape)) / threads) for shape in shapes]

    monkeypatch.setattr(processor, "measure", measured)
    monkeypatch.setattr(processor, "standard_shapes", lambda formats: SMALL)
    yield tmp_path
    assert len(counted) == len(set(counted)), "measured twice"


def test_the_processor_is_measured_once(cache: Path) -> None:
    first = autocomp.device("cpu")
    assert autocomp.device("cpu").key == first.key != find_device("cpu").key
    assert first.name == "cpu"
    assert first.errors is not None
    assert "onnxruntime" in first.data["specification"]["source"]
    assert [file.suffix for file in sorted((cache / "autocomp").iterdir())] == [".csv", ".toml"]


def test_each_number_of_threads_is_a_device(cache: Path) -> None:
    assert autocomp.device("cpu:2").name == "cpu:2"
    assert autocomp.device("cpu:2").key != autocomp.device("cpu").key


def test_the_device_says_how_the_processor_adds(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of an earlier version does not; the assumed processor is one that may saturate."""
    monkeypatch.setattr(processor, "adds_in_16_bits", lambda: False)
    first = autocomp.device("cpu")
    assert not first.int16_sums and find_device("cpu").int16_sums
    (file,) = (cache / "autocomp").glob("*.toml")
    assert "int16_sums = false\n" in file.read_text()
    file.write_text(file.read_text().replace("int16_sums = false\n", ""))
    assert autocomp.device("cpu").key == first.key and not autocomp.device("cpu:lite").int16_sums


@pytest.mark.parametrize(("product", "pixel", "narrow"), [(0, 0, False), (-1, 0, True), (0, -90, True)])
def test_sums_that_saturate_are_noticed(
    monkeypatch: pytest.MonkeyPatch, product: int, pixel: int, narrow: bool
) -> None:
    """Of a matrix product or of a convolution; onnxruntime's results are moved by these numbers."""

    class Session(onnxruntime.InferenceSession):
        def run(self, *arguments: Any) -> Any:
            products, pixels = super().run(*arguments)
            real = integer_sums.DEPTH * 255 * 127, 200  # whatever this processor does
            return np.full_like(products, real[0] + product), np.full_like(pixels, real[1] + pixel)

    monkeypatch.setattr(integer_sums.onnxruntime, "InferenceSession", Session)
    assert integer_sums.adds_in_16_bits.__wrapped__() == narrow


def test_nothing_is_measured_where_it_may_not(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert processor.device("cpu", may_measure=False).key == find_device("cpu").key
    monkeypatch.setenv(processor.SETTING, "assumed")
    assert autocomp.device("cpu").key == find_device("cpu").key
    assert not (cache / "autocomp").exists()


def test_a_processor_that_cannot_be_kept_is_used(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    (cache / "autocomp").write_text("a file in the folder's place")
    assert autocomp.device("cpu").errors is not None
    assert "will be measured again" in caplog.text


def test_other_devices_are_what_they_are() -> None:
    assert autocomp.device("ascend").key == find_device("ascend").key


def optimized(model: bytes, tmp_path: Path) -> onnx.GraphProto:
    """What onnxruntime makes of a model, in the order in which it runs."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return onnx.load(options.optimized_model_filepath).graph


def operators(model: bytes, tmp_path: Path) -> Counter[str]:
    return Counter(node.op_type for node in optimized(model, tmp_path).node)


@pytest.mark.parametrize("form", ["w8", "w4"])
def test_floats_of_stored_weights_are_computed_when_a_file_is_loaded(form: str, tmp_path: Path) -> None:
    """No operator converts weights at each inference."""
    ran = operators(operator_model(OperatorShape("conv", "", form, 1, 16, 16, 8, 8, 3, repeat=3)), tmp_path)
    floats = operators(operator_model(OperatorShape("conv", "", "float", 1, 16, 16, 8, 8, 3, repeat=3)), tmp_path)
    assert ran == floats


@pytest.mark.parametrize("activation", ["ReLU", "ReLU6"])
def test_a_stack_in_integers_runs_in_integers(activation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as the cost model says: all, the tail too."""
    monkeypatch.setattr("autocomp.measurement.operator_models.SCALE", 6 / 255)
    shape = OperatorShape("conv", activation, "w8a8", 1, 16, 16, 8, 8, 3, repeat=3)
    workload = shape.workload()
    lowered = LoweredNetwork(find_device(processor.TEMPLATE), lower(workload.graph), workload)
    assert all(lowered.precision(head)[0] == INT8 for head in workload.graph.layers.values())
    ran = operators(operator_model(shape), tmp_path)
    assert ran["QLinearConv"] == len(workload.graph.layers) == 4
    assert ran["Conv"] == ran["FusedConv"] == 0


@pytest.mark.parametrize("format", ["float", "w8", "w8a8", "w4a8"])
def test_memory_is_what_a_process_takes(format: str) -> None:
    """Layers of different shapes: onnxruntime keeps a buffer for a later tensor of the same, which is not modelled."""
    shape = OperatorShape("conv", "", format, 1, 64, 48, 160, 160, 3)
    measured = peak_mb(operator_model(shape), operator_inputs(shape)[0].shape)
    assert find_device(processor.TEMPLATE).costs(shape.workload()).memory_mb[0] == pytest.approx(measured, rel=0.05)


@pytest.mark.parametrize("format", ["float", "w8a8"])
@pytest.mark.parametrize(("out", "groups"), [(64, 2), (64, 16), (128, 64)])
def test_memory_is_what_groups_take(out: int, groups: int, format: str) -> None:
    """In integers their convolutions run one after the other; channels that are convolved alone into two are
    repeated."""
    shape = OperatorShape("conv", "", format, 1, 64, out, 160, 160, 3, groups=groups)
    measured = peak_mb(operator_model(shape), operator_inputs(shape)[0].shape)
    assert find_device(processor.TEMPLATE).costs(shape.workload()).memory_mb[0] == pytest.approx(measured, rel=0.05)


def test_operators_are_measured_behind_other_data() -> None:
    """Alone an addition finds all it touches in the caches: then it is measured at about half of its time."""
    shape = OperatorShape("add", "Add", channels_in=64, height=56, width=56)
    model, inputs = operator_model(shape), operator_inputs(shape)
    alone = np.median([typical_ms(model, inputs) for _ in range(3)])
    (row,) = measure([shape])
    assert row.latency_ms is not None and row.latency_ms > 1.1 * alone


def test_every_standard_shape_runs() -> None:
    small = {shape.kind + shape.op + shape.format: shape for shape in standard_shapes(("float", "w8a8", "w8"))}
    assert {shape.kind for shape in small.values()} >= {"conv", "dense", "matmul", "softmax", "layernorm", "pool"}
    for row in measure(list(small.values()), passes=1):
        assert row.latency_ms is not None and row.latency_ms > 0


def test_every_operator_of_a_shape_runs() -> None:
    shapes = [OperatorShape(kind, op, channels_in=2, height=4, width=4) for kind, ops in OPS.items() for op in ops]
    assert all(row.latency_ms for row in measure(shapes, passes=1))


def test_stacks_rank_as_they_run() -> None:
    """Each has four times the arithmetic of the one before."""
    sizes = ((16, 14), (32, 14), (32, 28), (64, 28), (64, 56))
    stacks = [OperatorShape("conv", "", "float", 1, c, c, p, p, 3, repeat=2) for c, p in reversed(sizes)]
    rows = measure(stacks, passes=1)
    expected = [predicted(find_device(processor.TEMPLATE), row) for row in rows]
    assert np.array_equal(np.argsort(expected), np.argsort([row.latency_ms or 0.0 for row in rows]))


def test_models_compute_what_their_shape_says(tmp_path: Path) -> None:
    shape = OperatorShape("matmul", batch=2, channels_in=8, channels_out=5, height=4, groups=3)
    session = onnxruntime.InferenceSession(operator_model(shape), providers=["CPUExecutionProvider"])
    a, b = operator_inputs(shape)
    names = [spec.name for spec in session.get_inputs()]
    np.testing.assert_allclose(session.run(None, dict(zip(names, (a, b), strict=True)))[0], a @ b, rtol=1e-4, atol=1e-5)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    return int(exit_.value.code or 0)


LOG = "GPU Compute Time: min = 1 ms, max = 3 ms, mean = 2 ms, median = {} ms"


def test_a_device_is_profiled_by_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Written, measured elsewhere, read again, fitted: what a T4's file predicts is what came back."""
    monkeypatch.setattr(own_devices, "standard_shapes", lambda formats: SMALL)
    monkeypatch.setattr(own_devices, "PRODUCTS", ())  # none in larger batches
    table, models = tmp_path / "table.csv", tmp_path / "models"
    base = ("profile", "--device", "gpu", "--out", str(table))
    assert run(*base, "--models", str(models)) == 0
    assert "0 of 10 shapes" in capsys.readouterr().out
    files = sorted(models.iterdir())
    assert len(files) == len(SMALL)
    logs = []
    for shape in SMALL:
        logs.append(tmp_path / f"{shape.name}.log")
        logs[-1].write_text(LOG.format(3 * predicted(find_device("gpu"), MeasuredShape(shape))))
    arguments = [part for log in logs for part in ("--results", str(log))]
    assert run(*base, *arguments, "--fit", str(tmp_path / "mine.toml")) == 0
    assert "10 of 10 shapes" in capsys.readouterr().out
    mine = autocomp.device(tmp_path / "mine.toml")
    for row in read_table(table):
        assert predicted(mine, row) == pytest.approx(row.latency_ms, rel=0.05)


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_models_that_are_written_have_their_shapes_batch(batch: int, tmp_path: Path) -> None:
    """They compute what the model with a free batch does."""
    kinds = {shape.kind + shape.format: shape for shape in standard_shapes(("float", "w8a8"))}
    shapes = [
        replace(shape, batch=batch, height=min(shape.height, 14), width=min(shape.width, 14))
        for shape in kinds.values()
    ]
    rows, template = [MeasuredShape(shape) for shape in shapes], str(processor.TEMPLATE)
    assert own_devices.write_models(rows, tmp_path, template) == len(shapes)
    for shape in shapes:
        session = onnxruntime.InferenceSession(tmp_path / f"{shape.name}.onnx", providers=["CPUExecutionProvider"])
        free = onnxruntime.InferenceSession(operator_model(shape), providers=["CPUExecutionProvider"])
        arrays = operator_inputs(shape)
        assert [spec.shape for spec in session.get_inputs()] == [list(array.shape) for array in arrays]
        feed = dict(zip((spec.name for spec in session.get_inputs()), arrays, strict=True))
        result, expected = session.run(None, feed)[0], free.run(None, feed)[0]
        assert session.get_outputs()[0].shape == list(result.shape)
        np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["cpu", "cpu:3"])
def test_a_processor_is_profiled_from_what_is_known_of_onnxruntime(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def measured(shapes: list[OperatorShape], threads: int, report: object) -> list[MeasuredShape]:
        asked.append(threads)
        chip = find_device(processor.TEMPLATE)
        return [MeasuredShape(shape, predicted(chip, MeasuredShape(shape))) for shape in shapes]

    def standard(formats: list[str]) -> list[OperatorShape]:
        asked.append(tuple(formats))
        return SMALL

    monkeypatch.setattr(own_devices, "standard_shapes", standard)
    monkeypatch.setattr(own_devices, "measure", measured)
    table, mine = tmp_path / "table.csv", tmp_path / "mine.toml"
    assert run("profile", "--device", name, "--out", str(table), "--run", "--fit", str(mine)) == 0
    assert asked == [processor.FORMATS, 3 if name == "cpu:3" else 1]
    assert autocomp.device(mine).runtime.name == autocomp.device(table).runtime.name == "onnxruntime"


def test_a_result_is_named_after_a_shape(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "resnet.log").write_text(LOG.format(2))
    arguments = ("--device", "gpu", "--out", str(tmp_path / "t.csv"), "--results", str(tmp_path / "resnet.log"))
    assert run("profile", *arguments) == 2
    assert "must be named after a shape of the table, but got resnet" in capsys.readouterr().err
    assert not (tmp_path / "t.csv").exists()
