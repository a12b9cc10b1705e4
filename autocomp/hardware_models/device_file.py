"""Device files: which entries are optional, which values they may have, and how a file is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from .containers import DEPLOYED
from .gemm import MatrixUnits
from .layouts import Layout
from .rates import Rates, constant_fields
from .runtimes.registry import runtime_of

FLOAT_PEAKS = ("fp16_tflops", "fp32_gflops")
INTEGER_PEAKS = {"int8": "int8_tops", "int4": "int4_tops"}
ENTRIES = (
    *("name", "like", "aliases", "float_bits", "formats", "channel_divisor", "strict_divisor", "weight_only"),
    *("group_sizes", "symmetric_inputs", "int16_sums", "container", "runtime"),
    *("specification", "matrix", "fusion", "layout", "rates", "fit", "energy_pj", "measured"),
)
MAY_BE_ZERO = (
    "operator_s",
    "inference_s",
    "transcendental_operations",
    "softmax_layernorm_operations",
)


def merged(data: Mapping[str, Any], relative: Mapping[str, Any]) -> dict[str, Any]:
    """A file that is ``like`` another device: entries that it lacks are those of its relative.

    From the relative's specification only ``memory_gb`` is used. With a specification of its own, the rates that the
    file lacks are the relative's efficiencies on that specification; ValueError where the specification is not
    sufficient.
    """
    whole = {key: value for key, value in relative.items() if key not in ("aliases", "fit", "measured")}
    new = data.get("specification")
    if new is not None:
        old = relative.get("specification", {})
        whole["specification"] = {key: value for key, value in old.items() if key == "memory_gb"}
    own = [name for name in data.get("rates", ()) if name != "source"]
    if any(name not in own for name in relative["rates"] if name != "source"):
        found = _relatives_rates(relative, new)
        whole["rates"] = {**found, "source": f"{found['source']}, but for {', '.join(own)}"} if own else found
    for key, value in data.items():
        whole[key] = {**whole[key], **value} if isinstance(value, Mapping) and key in whole else value
    return whole


def _relatives_rates(relative: Mapping[str, Any], new: Mapping[str, Any] | None) -> dict[str, Any]:
    """The relative's own rates where there is no new specification."""
    if new is None:
        return {**relative["rates"], "source": f"the rates of {relative['name']}; not measured"}
    text = f"efficiencies of {relative['name']} on this chip's specification; not measured"
    rates = derived(Rates.parse(relative["rates"], runtime_of(relative).rates), relative.get("specification", {}), new)
    return {"source": text, **rates_data(rates)}


def derived(fitted: Rates, old: Mapping[str, Any], new: Mapping[str, Any]) -> Rates:
    """The efficiencies of a chip with specification ``old`` on another chip: every rate grows with the figure that
    limits it.

    Integer precisions that only ``old`` names are not executed there; those that it does not name grow like floats.
    """
    peak = next((name for name in FLOAT_PEAKS if name in old), FLOAT_PEAKS[0])
    arithmetic = _grown(peak, old, new)
    bandwidth = _grown("memory_gb_per_s", old, new)
    peaks = {name: INTEGER_PEAKS[name] for name in INTEGER_PEAKS if INTEGER_PEAKS[name] in old}
    able = [name for name in fitted.macs_per_s if name not in peaks or new.get(peaks[name])]
    macs = {name: fitted.macs_per_s[name] * _grown(peaks.get(name, peak), old, new) for name in able}
    return replace(
        fitted,
        macs_per_s=macs,
        grouped_macs_per_s=fitted.grouped_macs_per_s * arithmetic,
        cache_bytes=new.get("l2_mb", old.get("l2_mb", fitted.cache_bytes / 1e6)) * 1e6,
        cache_bytes_per_s=fitted.cache_bytes_per_s * (arithmetic if fitted.overlapped else bandwidth),
        dram_bytes_per_s=fitted.dram_bytes_per_s * bandwidth,
        vector_per_s=fitted.vector_per_s * arithmetic,
        transposed_bytes_per_s=fitted.transposed_bytes_per_s * arithmetic,
    )


def _grown(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> float:
    """The ratio of one figure in two specifications."""
    now: Any = new.get(name)
    was: Any = old.get(name)
    if not all(isinstance(figure, (int, float)) and figure > 0 for figure in (now, was)):
        raise ValueError(f"a specification and its relative's must have {name} above 0, but got {now!r} and {was!r}")
    return float(now / was)


def check_names(data: Mapping[str, Any], relative: Mapping[str, Any], origin: str) -> None:
    """ValueError for an entry whose name is almost the name of a known entry: it would have no effect."""
    rates = constant_fields(runtime_of({**relative, **_runtime(data)}, origin).rates)
    known = {"": ENTRIES, "rates": (*rates, "source"), "layout": (*Layout.__dataclass_fields__,)}
    known["matrix"] = (*MatrixUnits.__dataclass_fields__,)
    known["fusion"] = ("pools", "free_activations", *relative["fusion"])
    known["specification"] = (*INTEGER_PEAKS.values(), *relative.get("specification", {}), "l2_mb")
    for table, names in known.items():
        given = data.get(table, {}) if table else data
        for name in given if isinstance(given, Mapping) else ():  # a value of another kind is refused later
            meant = get_close_matches(name, [other for other in names if other not in given], 1, 0.85)
            if name not in names and meant:
                place = f"[{table}] of {origin}" if table else origin
                raise ValueError(f"{place} has {name!r}, which is not read: {meant[0]!r} is meant")


def _runtime(data: Mapping[str, Any]) -> dict[str, Any]:
    return {"runtime": data["runtime"]} if "runtime" in data else {}


def check(data: Mapping[str, Any], origin: str) -> None:
    """ValueError for an entry with an impossible value; KeyError for a missing entry."""
    for name, value, rule, holds in (*_whole_rules(data), *_rate_rules(data, origin)):
        if not holds:
            raise ValueError(f"{name} of a device file must be {rule}, but {origin} has {value!r}")
    rates = data["rates"]
    for precision in rates["macs_per_s"]:
        if precision not in rates["operator_s"] or precision not in data["matrix"]["tile"]:
            raise ValueError(
                "a device file must have an operator_s under [rates] and a tile under [matrix] for every precision of "
                f"macs_per_s, but {origin} lacks one for {precision}"
            )


def _whole_rules(data: Mapping[str, Any]) -> Iterator[tuple[str, Any, str, bool]]:
    """Entry, value, rule, and whether the value follows the rule."""
    container = data.get("container")
    yield "container", container, f"one of {', '.join(DEPLOYED)}", container is None or container in DEPLOYED
    for name in ("float_bits", "channel_divisor"):
        yield name, data[name], "an integer above 0", isinstance(data[name], int) and data[name] > 0
    for name in ("strict_divisor", "symmetric_inputs", "int16_sums"):
        yield name, data.get(name, False), "true or false", isinstance(data.get(name, False), bool)
    bits = data.get("weight_only", [])
    yield "weight_only", bits, "a list of numbers of bits from 1 to 8", _numbers_of_bits(bits)
    sizes = data.get("group_sizes", [])
    yield "group_sizes", sizes, "a list of integers above 1", _sizes(sizes)
    free = data["fusion"].get("free_activations", [])
    yield "free_activations", free, "a list of operators", isinstance(free, (list, tuple))
    for name, value in data.get("layout", {}).items():
        yield name, value, "an integer above 0", isinstance(value, int) and value > 0
    alignments = data["matrix"].get("alignments", ())
    yield "alignments", alignments, "a list of [channels above 0, share, share]", all(map(_is_alignment, alignments))
    block = data["matrix"].get("grouped_block", 1)
    yield "grouped_block", block, "an integer above 0", isinstance(block, int) and block > 0
    for name, value in _numbers(data["energy_pj"]):
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        yield f"{name} of energy_pj", value, "a finite number of 0 or more", number and 0 <= value < float("inf")
    yield "macs_per_s", data["rates"]["macs_per_s"], "a table with float", "float" in data["rates"]["macs_per_s"]


def _is_alignment(given: Any) -> bool:
    numbers = isinstance(given, (list, tuple)) and all(isinstance(n, (int, float)) and n >= 0 for n in given)
    return numbers and len(given) == 3 and isinstance(given[0], int) and given[0] > 0


def _numbers(table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The entries of a table and of the tables in it, but for its source."""
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _numbers(value)
        elif name != "source":
            yield name, value


def _rate_rules(data: Mapping[str, Any], origin: str) -> Iterator[tuple[str, Any, str, bool]]:
    rates, known = data["rates"], constant_fields(runtime_of(data, origin).rates)
    for name in (name for name in known if name in rates and name != "overlapped"):
        values = rates[name].values() if isinstance(rates[name], Mapping) else (rates[name],)
        for value in values:
            number = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < float("inf")
            if name in MAY_BE_ZERO:
                yield name, value, "a number of 0 or more", number and value >= 0
            else:
                yield name, value, "a number above 0", number and value > 0


def rates_data(rates: Rates) -> dict[str, Any]:
    """The rates as in a file: rounded to four digits, without infinite and empty values."""
    known = constant_fields(type(rates.runtime))
    given = {name: value for name, value in rates.constants().items() if value not in (known[name].default, {})}
    return {name: _rounded(value) for name, value in given.items()}


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _rounded(entry) for key, entry in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


def device_text(data: Mapping[str, Any]) -> str:
    """TOML, with numbers of four digits, which is more than the precision of any fit."""
    plain = {key: value for key, value in data.items() if not isinstance(value, Mapping)}
    tables = {key: dict(value) for key, value in data.items() if isinstance(value, Mapping)}
    tables.get("measured", {}).pop("rows", None)  # the file names the table, which has the rows
    parts = [section(plain), *(f"[{key}]\n{section(value)}" for key, value in tables.items())]
    return "\n\n".join(parts) + "\n"


def section(values: Mapping[str, Any]) -> str:
    return "\n".join(f"{name} = {_text(value)}" for name, value in values.items())


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_text(entry)}" for key, entry in value.items()) + " }"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") + '"'
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_text, value)) + "]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _sizes(given: Any) -> bool:
    return isinstance(given, (list, tuple)) and all(isinstance(one, int) and one > 1 for one in given)


def _numbers_of_bits(given: Any) -> bool:
    return isinstance(given, (list, tuple)) and all(isinstance(one, int) and 0 < one <= 8 for one in given)
