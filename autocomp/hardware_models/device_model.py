"""Devices: TOML files with a chip's published specification and the constants of its cost model."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from importlib import import_module, resources
from pathlib import Path
from typing import Any

import numpy as np

from autocomp.errors import nearest
from autocomp.process.bounded_files import read_text
from autocomp.process.plugins import add_plugins
from autocomp.search_spaces import Format, NetworkGraph, Workload

from . import model
from .containers import CONTAINERS, Container
from .cost import Cost, OperatorCost
from .device_file import check, check_names, merged
from .gemm import MatrixUnits
from .layouts import Layout
from .measurements.measured import MeasuredTable
from .measurements.shapes import read_table, rows_data, rows_of, table_device
from .older_names import in_older_names, in_present_names
from .operators import Program, lower
from .rates import Rates
from .runtimes.base import Runtime
from .runtimes.registry import on_other_runtime, runtime_of, unnamed
from .uncertainty import LatencyErrors

tomllib = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

DEVICE_BYTES = 4_000_000
PLUGINS = "autocomp.devices"  # the group of entry points

_INSTALLED: dict[str, Device] = {}  # those of installed packages, by name and by alias


@dataclass(frozen=True, eq=False)
class Device:
    """A chip, and the constants of its cost model.

    float_bits: of the device's own float format, in which every layer runs that is not quantized.
    formats: the formats of a layer, mildest first. Those that the chip does not execute only save storage.
    channel_divisor: numbers of channels that are multiples of it waste no arithmetic.
    strict_divisor: whether channels are cut only in multiples of it, since the runtime is slower between them.
    weight_only: numbers of bits of weights that a dense layer whose input is in floats reads as they are stored, where
        its runtime can; of other numbers they are floats once the network is loaded.
    group_sizes: numbers of inputs that may share a scale of weights alone, in dense layers.
    symmetric_inputs: whether the runtime takes only inputs that are rounded symmetrically around zero, as TensorRT
        does.
    int16_sums: whether a processor adds two products of 8-bit integers in 16 bits, which may saturate: x86-64 without
        VNNI. Weights that its runtime multiplies in integers are then rounded so that no two of them can.
    runtime: the software that executes networks on it: how it runs, fuses and stores operators and tensors.
    matrix, rates: how the chip divides matrix products, and how fast it is.
    grouped_outside: whether depthwise convolutions run outside the matrix unit.
    concat_in_place: whether a concatenation that fits into the cache costs nothing.
    fuses_pools: whether a max pool runs in the convolution whose only reader it is.
    free_activations: activations that a layer in floats applies within its arithmetic; the others read and write its
        output once more; None: all are free.
    layout: the layout of tensors in its memory.
    residual_share: the share of a residual's bytes that its addition to a layer's output still has to read.
    energy_pj: picojoules: ``mac`` by precision, ``vector`` for an element, ``dram`` and ``cache`` for a byte.
    errors: of predicted latencies, on networks that were not used in the fit; None where nothing was measured.
    data: the whole file.
    table: measured operators, which correct the predictions of the rates; their rows are in ``data``.
    """

    name: str
    float_bits: int
    formats: tuple[Format, ...]
    channel_divisor: int
    runtime: Runtime
    matrix: MatrixUnits
    rates: Rates
    grouped_outside: bool
    concat_in_place: bool
    residual_share: float
    energy_pj: Mapping[str, Any]
    errors: LatencyErrors | None
    data: Mapping[str, Any]
    fuses_pools: bool
    layout: Layout
    free_activations: tuple[str, ...] | None = None
    symmetric_inputs: bool = False
    int16_sums: bool = True
    strict_divisor: bool = False
    weight_only: tuple[int, ...] = ()
    group_sizes: tuple[int, ...] = ()
    table: MeasuredTable = field(default_factory=lambda: MeasuredTable(()))

    @cached_property
    def bytes_per_element(self) -> np.ndarray:
        """Bytes of an element by precision: float, int8, int4."""
        return np.array([self.float_bits / 8, 1.0, 0.5])

    @property
    def container(self) -> Container:
        """The form of the files that its runtime reads, or the one that the device's file names."""
        return CONTAINERS[self.form]

    @property
    def form(self) -> str:
        """The name of its container: "onnx", "atc" or "mindir"."""
        return str(self.data.get("container", self.runtime.container))

    @cached_property
    def key(self) -> str:
        """Changes with every entry of the device's file, and with every row of its table.

        A file from before files named their runtime keeps its key.
        """
        implied = self.data.get("runtime") == unnamed(self.data)
        data = {name: value for name, value in self.data.items() if name != "runtime" or not implied}
        text = json.dumps(in_older_names(data), sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def executes(self, some: Format) -> bool:
        """Whether the chip computes the format in integers, instead of only storing it."""
        return self.runtime.executes(some, self.rates.macs_per_s)

    def distinct_formats(self) -> tuple[Format, ...]:
        """Its formats without those that differ from another one with more bits in nothing that the device counts: a
        file stores both in as many bits, and no chip multiplies them in fewer than they are stored."""
        best: dict[tuple[int, int], int] = {}
        widths = {some: int(self.container.stored_bits(np.array(some.weight_bits))) for some in self.formats}
        for some, width in widths.items():
            key = (width, some.activation_bits)
            best[key] = max(best.get(key, 0), some.weight_bits)
        return tuple(some for some, width in widths.items() if some.weight_bits == best[width, some.activation_bits])

    def low_formats(self) -> tuple[Format, ...]:
        """Formats of 2 and 1 bits, where files store them in so many, beside the formats of 4 bits that it lists."""
        if not self.container.exact:
            return ()
        inputs = dict.fromkeys(some.activation_bits for some in self.formats if some.weight_bits == 4)
        found = [Format(bits, width) for width in inputs for bits in (2, 1)]
        return tuple(some for some in found if some not in self.formats)

    def group_formats(self) -> tuple[Format, ...]:
        """Formats of weights alone with a scale for each group of inputs, of those below 8 bits that it lists."""
        bits = dict.fromkeys(f.weight_bits for f in self.formats if f.weight_bits < 8 and f.activation_bits > 8)
        return tuple(Format(width, group=size) for width in bits for size in sorted(self.group_sizes))

    def on(self, runtime: str) -> Device:
        """The same chip under another runtime, by the name behind a device's colon: ``mindspore``, ``lite``.

        ValueError names the runtimes of the chip.
        """
        data = on_other_runtime(self.data, runtime)
        return self if data["name"] == self.name else Device.parse(data, data["name"])

    @property
    def table_bits(self) -> tuple[int, ...]:
        """The bits in which its files hold rows of an embedding; TensorRT has no operators that unpack them."""
        return tuple(bits for bits in self.container.table_bits if bits == 8 or not self.symmetric_inputs)

    def program(self, graph: NetworkGraph) -> Program:
        """The network as the device runs it."""
        return lower(graph, self.fuses_pools, self.runtime.recognises)

    def costs(self, workload: Workload) -> Cost:
        """Arrays (n,) for the n plans of the workload."""
        return model.costs(self, workload)

    def cost_table(self, workload: Workload) -> list[OperatorCost]:
        """One row for each operator as the device runs it, for a workload of one plan."""
        return model.operator_costs(self, workload)

    @classmethod
    def parse(cls, data: Mapping[str, Any], origin: str) -> Device:
        """A device from the content of a TOML file, with the rows of its table under ``measured``.

        ValueError names the missing or wrong entry.
        """
        try:
            data = in_present_names(data)
            check(data, origin)
            runtime, rows = runtime_of(data, origin), data.get("measured", {}).get("rows", ())
            found = cls(
                name=data["name"],
                float_bits=data["float_bits"],
                formats=tuple(Format.parse(text) for text in data["formats"]),
                channel_divisor=data["channel_divisor"],
                runtime=runtime,
                matrix=MatrixUnits.parse(data["matrix"]),
                rates=Rates.parse(data["rates"], runtime.rates),
                grouped_outside=data["fusion"]["grouped_outside"],
                concat_in_place=data["fusion"]["concat_in_place"],
                residual_share=data["fusion"]["residual_share"],
                energy_pj=data["energy_pj"],
                errors=LatencyErrors.parse(data["fit"]["errors"]) if "errors" in data.get("fit", {}) else None,
                data=data,
                fuses_pools=data["fusion"].get("pools", runtime.fuses_pools),
                free_activations=_names(data["fusion"].get("free_activations")),
                layout=Layout(**data.get("layout", {})),
                symmetric_inputs=data.get("symmetric_inputs", runtime.symmetric_inputs),
                int16_sums=data.get("int16_sums", True),
                strict_divisor=data.get("strict_divisor", False),
                weight_only=tuple(data.get("weight_only", ())),
                group_sizes=tuple(data.get("group_sizes", ())),
            )
            return replace(found, table=MeasuredTable(rows_of(rows)).held_against(found)) if rows else found
        except KeyError as missing:
            raise ValueError(f"a device file must have the entry {missing}, but {origin} has none") from missing
        except (AttributeError, TypeError) as error:
            raise ValueError(
                f"a device file must be as those that are shipped, but {origin} is not: {error}"
            ) from error


def _names(given: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if given is None else tuple(given)


def device(name: str | Path | Device) -> Device:
    """A device by its name, its alias, or the path of a TOML file or of a measured table; behind a colon another
    runtime on the same chip, as in ``ascend-310p3:mindspore``."""
    if isinstance(name, Device):
        return name
    chip, runtime = split_runtime(name)
    if runtime is not None:
        return device(chip).on(runtime)
    path = Path(name)
    if path.suffix in (".toml", ".csv"):
        if not path.is_file():
            raise FileNotFoundError(f"there is no device file {path}")
        return _read(path) if path.suffix == ".toml" else _of_table(path)
    known = _known()
    if str(name) not in known:
        meant = nearest(str(name), known)
        raise ValueError(f"unknown device {str(name)!r}; known: {', '.join(known)}; or a path to a .toml file{meant}")
    return known[str(name)]


def split_runtime(name: str | Path) -> tuple[str, str | None]:
    """A device's name, and that of the runtime behind its last colon; None where there is none."""
    chip, colon, runtime = str(name).rpartition(":")
    is_device = Path(chip).suffix in (".toml", ".csv") or chip in _known() or chip.startswith("cpu:")
    return (chip, runtime) if colon and is_device and not runtime.isdigit() else (str(name), None)


def _read(path: Path, readers: tuple[Path, ...] = ()) -> Device:
    """readers: the files that are like this one, which it may not be like itself."""
    try:
        data = in_present_names(tomllib.loads(read_text(path, DEVICE_BYTES)))
    except RecursionError:
        raise ValueError(
            f"a device file must be TOML that is nested less deep, but {path} is nested too deep"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"a device file must be TOML, but {path} is not: {error}") from error
    if "like" in data:
        try:
            relative = _relative(data["like"], (*readers, path.resolve())).data
            check_names(data, relative, str(path))
            data = merged({"name": path.stem, **data}, relative)
        except (AttributeError, TypeError, ValueError, KeyError) as error:
            raise ValueError(f"{path} cannot be like {data['like']}: {error}") from error
    return Device.parse(with_table(data, path), str(path))


def _relative(name: str | Path, readers: tuple[Path, ...]) -> Device:
    path = Path(name)
    if path.suffix != ".toml" or not path.is_file():
        return device(name)
    if path.resolve() in readers:
        raise ValueError("a device file must be like another device, but this one is like itself")
    return _read(path, readers)


def _of_table(path: Path) -> Device:
    """The device that the table names, with the table's rows instead of its own."""
    base = device(table_device(path))
    data = {**base.data, "name": path.stem, "aliases": [], "measured": {"table": path.name, "of": base.name}}
    return Device.parse(with_table(data, path), str(path))


def with_table(data: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """The content of a file, with the rows of the table that it names, which lies next to it."""
    measured = data.get("measured", {})
    if "table" not in measured:
        return dict(data)
    return {**data, "measured": {**measured, "rows": rows_data(read_table(file.parent / measured["table"]))}}


def devices() -> tuple[str, ...]:
    """Names of the devices that are shipped or that installed packages add, without aliases."""
    return tuple(dict.fromkeys(found.name for found in _known().values()))


def aliases() -> dict[str, str]:
    """Alias -> name."""
    return {name: found.name for name, found in _known().items() if name != found.name}


def _known() -> dict[str, Device]:
    """The shipped devices and those of installed packages, by name and by alias."""
    add_plugins(PLUGINS, _add)
    return _shipped() | _INSTALLED


def _add(name: str, given: Any) -> None:
    """given: the path of an installed package's device file, or a function that returns it."""
    found = device(given() if callable(given) else given)
    names = (found.name, *found.data.get("aliases", ()))
    taken = [one for one in names if one in _shipped() or one in _INSTALLED]
    if taken:
        raise ValueError(f"a device must have names of its own, but there is already a device {', '.join(taken)}")
    _INSTALLED.update(dict.fromkeys(names, found))


@cache
def _shipped() -> dict[str, Device]:
    """The shipped devices by name and by alias."""
    found: dict[str, Device] = {}
    for file in sorted(resources.files(__package__).joinpath("devices").iterdir(), key=lambda f: f.name):
        if file.name.endswith(".toml"):
            one = Device.parse(tomllib.loads(file.read_text(encoding="utf-8")), file.name)
            found |= dict.fromkeys((one.name, *one.data.get("aliases", ())), one)
    return found
