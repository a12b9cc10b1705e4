"""The device ``cpu``: this machine's processor, measured by onnxruntime at its first use, later read from a cache."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autocomp import hardware_models
from autocomp.hardware_models import Device
from autocomp.hardware_models import device as find_device
from autocomp.hardware_models.device_file import device_text
from autocomp.hardware_models.device_model import split_runtime
from autocomp.hardware_models.fitting.own_device import calibrated
from autocomp.hardware_models.fitting.standard_shapes import standard_shapes
from autocomp.hardware_models.measurements.shapes import MeasuredShape, table_text
from autocomp.problem.arguments import check
from autocomp.results.stored import write_text

from .integer_sums import adds_in_16_bits
from .profiling import Report, counted, measure

log = logging.getLogger("autocomp")

TEMPLATE = Path(hardware_models.__file__).parent / "templates" / "onnxruntime.toml"
FORMATS = ("float", "w8a8")
SETTING = "AUTOCOMP_CPU"  # "assumed": never measure, use the shipped device file
INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")
SUMS = "int16_sums"  # the entry of a device's file
VERSION = 6  # of the measurement; a cache of another version is measured again


def device(name: str | Path | Device, may_measure: bool = True) -> Device:
    """A device by its name, its alias, or the path of a device file or of a measured table.

    ``"cpu"`` is this machine's processor with one thread, ``"cpu:4"`` with four: measured at first use, in about a
    minute, and later read from the cache. With ``may_measure=False``, or where the environment has
    ``AUTOCOMP_CPU=assumed``, a processor that has not been measured is the assumed one that is shipped. A runtime may
    follow the name: ``"ascend-310p3:mindspore"``, ``"cpu:lite"``.
    """
    check("device", name=name, may_measure=may_measure)
    chip, runtime = (name, None) if isinstance(name, Device) else split_runtime(name)
    if runtime is not None:
        return device(chip, may_measure).on(runtime)
    threads = threads_of(name)
    if threads is None or os.environ.get(SETTING) == "assumed":
        return find_device("cpu" if threads is not None else name)
    file = cache_file(threads)
    if file.is_file():
        return _with_sums(find_device(file))
    if not may_measure:
        return find_device("cpu")
    with counted("operators of this processor") as report:
        return measure_processor(threads, report)


def measure_processor(threads: int = 1, report: Report | None = None) -> Device:
    """Measure this machine's processor again, and store the result where :func:`device` reads it."""
    file = cache_file(threads)
    log.info("measuring this processor with %d thread%s, once: about a minute", threads, "s" * (threads > 1))
    rows = measure(standard_shapes(FORMATS), threads, report)
    found = fitted(rows, threads)
    try:
        write_text(file.with_suffix(".csv"), table_text(rows, "cpu"))
        write_text(file, device_text(found.data))
    except OSError as failure:
        log.warning("the measured processor cannot be stored, and will be measured again: %s", failure)
        return found
    error = 100 * found.data["fit"]["mean_error"]
    log.info("measured: mean error %.0f %% on operators left out of the fit; stored in %s", error, file)
    return find_device(file)


def fitted(rows: Sequence[MeasuredShape], threads: int = 1) -> Device:
    """The device of this processor, fitted to these measured shapes."""
    about: dict[str, Any] = {
        "name": "cpu" if threads == 1 else f"cpu:{threads}",
        SUMS: adds_in_16_bits(),
        "specification": {"source": description(), "threads": threads},
        "measured": {"table": cache_file(threads).with_suffix(".csv").name},
    }
    return calibrated(find_device(TEMPLATE), rows, about)


def _with_sums(found: Device) -> Device:
    """Files of earlier versions do not say how the processor adds products."""
    if SUMS in found.data:
        return found
    return Device.parse({**found.data, SUMS: adds_in_16_bits()}, found.name)


def cache_file(threads: int) -> Path:
    """Each processor, number of threads and version of onnxruntime has its own file."""
    key = hashlib.sha256(f"{description()} {VERSION}".encode()).hexdigest()[:12]
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "autocomp" / f"cpu-{key}-{threads}.toml"


def description() -> str:
    """The processor and the runtime in words."""
    import onnxruntime

    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    known = flags[1].split() if flags else []
    wide = " ".join(name for name in INSTRUCTIONS if name in known)
    chip = model[1] if model else platform.processor() or platform.machine()
    return f"{chip}, {os.cpu_count()} cores, {wide}; onnxruntime {onnxruntime.__version__}"


def threads_of(name: str | Path | Device) -> int | None:
    """The number of threads; None where the name is not this machine's processor."""
    match = re.fullmatch(r"cpu(?::([1-9]\d?))?", name) if isinstance(name, str) else None
    return None if match is None else int(match[1] or 1)
