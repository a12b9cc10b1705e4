"""Files that are damaged, far too large or made to mislead: one sentence, and no memory taken for what they claim."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import autocomp
from autocomp.errors import AutocompError
from autocomp.hardware_models import device
from autocomp.hardware_models.device_file import device_text
from autocomp.hardware_models.fitting.profiles import read_profile
from autocomp.hardware_models.measurements.shapes import MeasuredShape, OperatorShape, read_table, table_text
from autocomp.process.bounded_files import parse_json, read_arrays, read_text
from autocomp.results.stored import write_text
from tests import fronts


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    path = tmp_path / "network.npz"
    np.savez_compressed(path, a=np.arange(1000.0).reshape(10, 100), description=np.array("text"))
    return path


def test_arrays_as_they_were_written(arrays: Path) -> None:
    found = read_arrays(arrays)
    np.testing.assert_array_equal(found["a"], np.arange(1000.0).reshape(10, 100))
    assert str(found["description"]) == "text" and set(found) == {"a", "description"}


def _member(path: Path, data: bytes, count: int = 1) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(count):
            archive.writestr(f"a{i}.npy", data)


def _claiming(shape: tuple[int, ...], dtype: str = "<f4") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue() + bytes(64)


class TestArrays:
    @pytest.mark.parametrize("keep", [0, 1, 30, 100, 400])
    def test_cut_off(self, arrays: Path, keep: int) -> None:
        arrays.write_bytes(arrays.read_bytes()[:keep])
        with pytest.raises(ValueError, match=r"network.npz must be a whole file of arrays \(.npz\), but "):
            read_arrays(arrays)

    def test_damaged_within(self, arrays: Path) -> None:
        data = bytearray(arrays.read_bytes())
        data[60:90] = bytes(30)
        arrays.write_bytes(bytes(data))
        with pytest.raises(ValueError, match=r"must be a whole file of arrays \(.npz\), but"):
            read_arrays(arrays)

    @pytest.mark.parametrize("shape", [(10**12,), (10**6, 10**6), (2**40, 2**40), (17,)])
    def test_a_header_that_claims_what_the_file_does_not_hold(self, arrays: Path, shape: tuple[int, ...]) -> None:
        _member(arrays, _claiming(shape))
        with pytest.raises(ValueError, match=r"claims shape .* of float32, which the file does not hold"):
            read_arrays(arrays)

    def test_a_small_file_that_unfolds_to_a_large_one(self, arrays: Path) -> None:
        _member(arrays, bytes(40_000_000), count=3)
        with pytest.raises(
            ValueError, match=r"must unfold to at most 64,000,000 bytes, but they unfold to 120,000,000"
        ):
            read_arrays(arrays)

    def test_objects_are_refused(self, arrays: Path) -> None:
        np.savez(arrays, a=np.array([{}, []], object))
        with pytest.raises(ValueError, match="of object, which the file does not hold"):
            read_arrays(arrays)


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (Path("/dev/zero"), tmp_path, tmp_path / "pipe"):
        with pytest.raises(ValueError, match="must be a regular file, but it is a folder, a device or a pipe"):
            read_text(path)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_text(tmp_path / "none")


def test_text_that_is_too_long(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("[" * 101)
    with pytest.raises(ValueError, match="must have at most 100 bytes, but it has 101"):
        read_text(path, 100)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "", "{", "nul"])
def test_what_is_no_json(text: str) -> None:
    with pytest.raises(ValueError, match=r"^it must be JSON, but it is n"):
        parse_json(text, "it")


class TestDeviceFiles:
    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ('like = "{path}"', "this one is like itself"),
            ('like = "ascend"\nmeasured = {{ table = "/dev/zero" }}', "must be a regular file"),
            ('like = "ascend"\nrates = {{ inference_s = inf }}', "inference_s of a device file must be"),
            ('like = "ascend"\nrates = {{ vector_per_s = nan }}', "vector_per_s of a device file must be"),
            ('like = "ascend"\nenergy_pj = {{ dram_byte = inf }}', "energy_pj of a device file must be"),
            ("a = " + "[" * 100_000, "TOML"),
            ("like = 5", "cannot be like 5"),
        ],
    )
    def test_refused(self, tmp_path: Path, text: str, sentence: str) -> None:
        path = tmp_path / "mine.toml"
        path.write_text(text.format(path=path))
        with pytest.raises(ValueError, match=sentence) as error:
            device(path)
        assert len(str(error.value)) < 600

    def test_two_that_are_like_each_other(self, tmp_path: Path) -> None:
        one, two = tmp_path / "one.toml", tmp_path / "two.toml"
        one.write_text(f'like = "{two}"')
        two.write_text(f'like = "{one}"')
        with pytest.raises(ValueError, match="this one is like itself"):
            device(one)

    def test_without_energies(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.toml"
        data = {name: value for name, value in device("ascend-310p3").data.items() if name != "energy_pj"}
        path.write_text(device_text(data))
        with pytest.raises(ValueError, match="must have the entry 'energy_pj'"):
            device(path)


@pytest.mark.parametrize("change", [{"channels_in": 10**12}, {"height": 2**21}, {"repeat": 1001}])
def test_sizes_of_a_row_that_no_network_has(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"an operator shape .* at most"):
        OperatorShape("conv", **change)  # type: ignore[arg-type]


@pytest.mark.parametrize("line", ["GPU Compute Time:", "GPU Compute Time: " + "median = 1", "AvgRunTime = 1."])
def test_a_long_log_is_read_in_one_pass(tmp_path: Path, line: str) -> None:
    path = tmp_path / "a.log"
    path.write_text(line * 200_000 + "\n[I] GPU Compute Time: min = 1 ms, median = 2.5 ms\n")
    assert read_profile(path).latency_ms == 2.5


Reader = Callable[[Path], Any]


def _kinds(folder: Path) -> list[tuple[Path, Reader]]:
    """A file of each kind that is read, and what reads it."""
    saved = fronts.front([(0.88, 0.5, 0.3), (0.85, 0.4, 0.2)]).save(folder / "front")
    np.savez_compressed(folder / "network.npz", a=np.arange(30.0), description=np.array(json.dumps({"seed": 1})))
    (folder / "mine.toml").write_text(device_text(device("ascend-310p3").data))
    (folder / "table.csv").write_text(table_text([MeasuredShape(OperatorShape("conv"), 1.5)], "ascend"))
    (folder / "a.json").write_text(json.dumps([{"computeMs": 1.5}, {"computeMs": 2.5}]))
    (folder / "a.csv").write_text("Op Name,Task Duration(us)\nconv,12.5\n")
    (folder / "a.log").write_text("[I] GPU Compute Time: min = 1 ms, median = 2.5 ms\n")
    return [
        (saved / "front.json", lambda path: autocomp.load(path.parent)),
        (folder / "network.npz", read_arrays),
        (folder / "mine.toml", device),
        (folder / "table.csv", read_table),
        *((folder / name, read_profile) for name in ("a.json", "a.csv", "a.log")),
    ]


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, Reader, bytes]]:
    return [(path, read, path.read_bytes()) for path, read in _kinds(tmp_path_factory.mktemp("kinds"))]


CHANGES = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 3), st.binary(min_size=1, max_size=6)), min_size=1, max_size=4
)


def _mutated(data: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
    for place, kind, new in changes:
        at = int(place * len(data))
        skipped = (0, len(new), 40, len(data))[kind]  # put in, put over, cut out, cut off
        data = data[:at] + (new if kind < 2 else b"") + data[at + skipped :]
    return data


@pytest.mark.parametrize("kind", range(7))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=CHANGES)
def test_mutated_files(
    kinds: list[tuple[Path, Reader, bytes]], kind: int, changes: list[tuple[float, int, bytes]]
) -> None:
    path, read, data = kinds[kind]
    path.write_bytes(_mutated(data, changes))
    with suppress(ValueError, OSError, AutocompError):  # anything else fails the test
        read(path)


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_written_files_follow_the_umask(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        path = write_text(tmp_path / "a b=+()~网络" / "a.json", "{}")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == mode
    assert [entry.name for entry in path.parent.iterdir()] == ["a.json"]
