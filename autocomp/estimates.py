"""Predicted costs of a network on devices: uncompressed, or with every layer in one format."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from autocomp.hardware_models import Cost, Device, OperatorCost, devices
from autocomp.hardware_models.generation import costs_of
from autocomp.measurement.processor import device as find_device
from autocomp.primitives.tracing.tracer import example_inputs, find_inputs, trace
from autocomp.problem.arguments import check
from autocomp.problem.budget import check_context
from autocomp.search_spaces import Format, Knob, NetworkGraph, SearchSpace, Workload


def estimate(
    net: Any,
    device: str | Path | Device,
    inputs: Any = None,
    precision: str | None = None,
    context: int | None = None,
    cache_bits: int | None = None,
) -> Cost:
    """Predicted costs of the network as it is; latency, energy and MACs are those of the whole batch.

    inputs: one shape with its batch, a list of shapes, or arrays; None probes the network with the usual image sizes.
    precision: a format for every layer, ``"w8a8"``; None is the device's own float format (fp16 on Ascend).
    context: of a language model, the tokens that a further one attends to, itself among them: then the costs have
        ``tpot_ms``, that token's time, and ``cache_mb``, and ``latency_ms`` is that of the prompt.
    cache_bits: 8 or 4, where keys and values are held in integers.

    ValueError: a context for a network that reads no tokens, or in which none attends to earlier ones.
    """
    check("estimate", net=net, device=device, precision=precision, context=context, cache_bits=cache_bits)
    check_context((), context, cache_bits)
    chip = find_device(device)
    return costs_in(chip, uniform_workload(net, chip, inputs, precision), context, cache_bits)


def costs_in(chip: Device, workload: Workload, context: int | None = None, cache_bits: int | None = None) -> Cost:
    """Of a workload of one plan."""
    if context is None:
        return chip.costs(workload)[0]
    return costs_of(chip, workload.space, workload.batch, context, cache_bits)(workload.vectors)[0]


def compare(
    net: Any,
    devices: Iterable[str | Path | Device] | None = None,
    inputs: Any = None,
    precision: str | None = None,
    context: int | None = None,
    cache_bits: int | None = None,
) -> dict[str, Cost]:
    """Name of each device -> predicted costs, as :func:`estimate` gives them; the network is traced once.

    devices: None takes all that are shipped. A device that does not offer ``precision`` is left out.
    """
    check("compare", net=net, devices=devices, precision=precision, context=context, cache_bits=cache_bits)
    check_context((), context, cache_bits)
    rows = workloads(net, devices, inputs, precision)
    return {chip.name: costs_in(chip, workload, context, cache_bits) for chip, workload in rows}


def workloads(
    net: Any,
    chosen: Iterable[str | Path | Device] | None = None,
    inputs: Any = None,
    precision: str | None = None,
) -> list[tuple[Device, Workload]]:
    """One workload for each device that offers the format. ValueError where two devices have the same name."""
    floats = precision is not None and re.fullmatch(r"fp(\d+)", precision)
    form = Format() if precision is None or floats else Format.parse(precision)
    chips = [find_device(name, chosen is not None) for name in (devices() if chosen is None else chosen)]
    able = [chip for chip in _by_name(chips).values() if form in chip.formats]
    able = [chip for chip in able if chip.float_bits == int(floats[1])] if floats else able
    if not able:
        raise ValueError(f"precision must be a format that one of the devices offers, but got {precision!r}")
    graph, batch = _traced(net, inputs)
    return [(chip, _uniform(graph, batch, form)) for chip in able]


def _by_name(chips: Iterable[Device]) -> dict[str, Device]:
    found: dict[str, Device] = {}
    for chip in chips:
        if found.setdefault(chip.name, chip).key != chip.key:
            raise ValueError(f"devices that are compared must have names of their own, but two are {chip.name!r}")
    return found


def operator_costs(
    net: Any, device: str | Path | Device, inputs: Any = None, precision: str | None = None
) -> list[OperatorCost]:
    """Like :func:`estimate`, but one row for each operator as the device runs it."""
    chip = find_device(device)
    return chip.cost_table(uniform_workload(net, chip, inputs, precision))


def uniform_workload(net: Any, device: Device, inputs: Any = None, precision: str | None = None) -> Workload:
    """One plan: every layer of the network in one format, all channels kept; ``fp16`` is a device's floats."""
    chosen = Format() if precision in (None, f"fp{device.float_bits}") else Format.parse(str(precision))
    if chosen not in device.formats:
        raise ValueError(
            f"precision must be one of {', '.join(map(str, device.formats))} on {device.name}, but got {precision!r}"
        )
    return _uniform(*_traced(net, inputs), chosen)


def in_format(workload: Workload, form: Format) -> Workload:
    """The same network with every layer in another format."""
    return _uniform(workload.graph, workload.batch, form)


def _traced(net: Any, inputs: Any) -> tuple[NetworkGraph, int]:
    arrays = find_inputs(net) if inputs is None else example_inputs(inputs)
    return trace(net, arrays), len(arrays[0])


def _uniform(graph: NetworkGraph, batch: int, form: Format) -> Workload:
    knobs = tuple(Knob(f"format/{layer}", "rtn", (layer,), (str(form),)) for layer in graph.layers)
    return Workload(SearchSpace(graph, knobs), np.zeros((1, len(knobs)), np.int64), batch)
