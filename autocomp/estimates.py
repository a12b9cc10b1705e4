"""What a network costs on a device before anything is compressed, or with every layer in one format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from autocomp.hardware_models import Cost, Device, OperatorCost
from autocomp.hardware_models import device as find_device
from autocomp.primitives.trace import example_inputs, find_inputs, trace
from autocomp.search_spaces import Format, Knob, SearchSpace, Workload


def estimate(net: Any, device: str | Path | Device, inputs: Any = None, precision: str | None = None) -> Cost:
    """Predicted costs of the network as it is; latency, energy and MACs are those of the whole batch.

    inputs: one shape with its batch, a list of shapes, or arrays; None probes the network with the usual image sizes.
    precision: a format for every layer, ``"w8a8"``; None is the device's own float format (fp16 on Ascend).
    """
    chip = find_device(device)
    return chip.costs(uniform_workload(net, chip, inputs, precision))[0]


def operator_costs(
    net: Any, device: str | Path | Device, inputs: Any = None, precision: str | None = None
) -> list[OperatorCost]:
    """The same, operator by operator as the device runs them."""
    chip = find_device(device)
    return chip.cost_table(uniform_workload(net, chip, inputs, precision))


def uniform_workload(net: Any, device: Device, inputs: Any = None, precision: str | None = None) -> Workload:
    """One plan: every layer of the network in one format, all channels kept."""
    chosen = Format() if precision is None else Format.parse(precision)
    if chosen not in device.formats:
        raise ValueError(
            f"precision must be one of {', '.join(map(str, device.formats))} on {device.name}, but got {precision!r}"
        )
    arrays = find_inputs(net) if inputs is None else example_inputs(inputs)
    graph = trace(net, arrays)
    knobs = [Knob(f"format/{layer}", "rtn", (layer,), (str(chosen),)) for layer in graph.layers]
    space = SearchSpace(graph, tuple(knobs))
    return Workload(space, np.zeros((1, len(knobs)), np.int64), batch=len(arrays[0]))
