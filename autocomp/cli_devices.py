"""The commands that ask what a network costs: ``estimate``, ``compare``, ``devices``."""

from __future__ import annotations

from typing import Annotated

import typer

import autocomp

from .cli_options import DeviceName, Inputs, Net, Precision, Weights


def estimate(
    net: Net,
    device: DeviceName,
    inputs: Inputs = None,
    weights: Weights = None,
    precision: Precision = None,
    layers: Annotated[bool, typer.Option("--layers", help="Operator by operator.")] = False,
) -> None:
    """What a network costs on a device, uncompressed."""
    from rich.console import Console

    from autocomp import sources, tables
    from autocomp.estimates import uniform_workload

    shapes = sources.parse_shapes(inputs or ())
    chip = autocomp.device(device)
    workload = uniform_workload(sources.load_net(net, weights), chip, shapes, precision)
    cost = chip.costs(workload)[0]
    console = Console()
    typer.echo(f"{net} on {chip.name}, {precision or f'fp{chip.float_bits}'}")
    if layers:
        console.print(tables.operator_table(chip.cost_table(workload), cost, chip.rates.inference_s * 1e3))
    console.print(tables.cost_table(cost, chip.errors))


def compare(
    net: Net,
    device: Annotated[
        list[str] | None,
        typer.Option("--device", metavar="NAME", help="As in 'autocomp estimate'; once for each, all if none."),
    ] = None,
    inputs: Inputs = None,
    weights: Weights = None,
    precision: Precision = None,
) -> None:
    """What a network costs on several devices, side by side, and what integers would change."""
    from rich.console import Console

    from autocomp import sources, tables
    from autocomp.estimates import workloads

    shapes = sources.parse_shapes(inputs or ())
    names = [autocomp.device(name) for name in device or autocomp.devices()]
    rows = workloads(sources.load_net(net, weights), names, shapes, precision)
    typer.echo(f"{net}, {precision or 'in float'}, batch {rows[0][1].batch}")
    Console().print(tables.comparison_table(rows))


def devices() -> None:
    """The devices that are shipped: throughput, memory, formats, and where the figures come from."""
    from rich.console import Console

    from autocomp import tables
    from autocomp.hardware_models.device import aliases

    chips = [autocomp.device(name) for name in autocomp.devices()]
    Console().print(tables.device_table(chips, aliases()))
