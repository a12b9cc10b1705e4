"""The commands on devices: the costs of networks there, and how a user's own device is measured."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

import autocomp

from .front_commands import compare_fronts
from .options import NET_HELP, Context, DeviceName, Inputs, Json, Net, Precision, Weights

Threads = Annotated[int, typer.Option("--threads", min=1, max=99, help="Threads of onnxruntime.")]


def estimate(
    net: Net,
    device: DeviceName,
    inputs: Inputs = None,
    weights: Weights = None,
    precision: Precision = None,
    layers: Annotated[bool, typer.Option("--layers", help="Show the cost of each operator.")] = False,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """The costs of an uncompressed network on a device."""
    from autocomp.estimates import costs_in, uniform_workload

    from . import sources, tables

    shapes = sources.parse_shapes(inputs or ())
    chip = autocomp.device(device)
    workload = uniform_workload(sources.load_net(net, weights), chip, shapes, precision)
    cost = costs_in(chip, workload, context)
    if as_json:
        found = {"device": chip.name, "precision": precision or f"fp{chip.float_bits}", "cost": asdict(cost)}
        rows = {"layers": [asdict(row) for row in chip.cost_table(workload)]} if layers else {}
        typer.echo(json.dumps({**found, **rows}, indent=1))
        return
    typer.echo(f"{net} on {chip.name}, {precision or f'fp{chip.float_bits}'}")
    if layers:
        tables.show(tables.operator_table(chip.cost_table(workload), cost, chip.rates.inference_s * 1e3))
    tables.show(tables.cost_table(cost, chip.errors))


def compare(
    fronts: Annotated[
        list[str] | None, typer.Argument(metavar="[DIR[:POINT]]...", help="Two saved fronts, or a point of each.")
    ] = None,
    net: Annotated[str | None, typer.Option("--net", metavar="REF", help=NET_HELP)] = None,
    device: Annotated[
        list[str] | None,
        typer.Option("--device", metavar="NAME", help="As in 'autocomp estimate'; once for each, all if none."),
    ] = None,
    inputs: Inputs = None,
    weights: Weights = None,
    precision: Precision = None,
    as_json: Json = False,
) -> None:
    """Two saved fronts, or two of their points; or with --net the costs of a network on several devices, and the change
    with 8-bit integers."""
    from autocomp.estimates import workloads
    from autocomp.measurement.processor import device as find_device

    from . import sources, tables

    if net is None:
        compare_fronts(fronts or [], as_json)
        return
    if fronts:
        raise ValueError(f"compare takes two saved fronts or --net, but got both: {fronts[0]} and --net {net}")
    shapes = sources.parse_shapes(inputs or ())
    names = [find_device(name, may_measure=bool(device)) for name in device or autocomp.devices()]
    rows = workloads(sources.load_net(net, weights), names, shapes, precision)
    if as_json:
        typer.echo(json.dumps({chip.name: asdict(chip.costs(workload)[0]) for chip, workload in rows}, indent=1))
        return
    typer.echo(f"{net}, {precision or 'in float'}, batch {rows[0][1].batch}")
    tables.show(tables.comparison_table(rows))


def profile(
    device: Annotated[
        str, typer.Option("--device", metavar="NAME", help="The device to measure: its .toml file, or the nearest one.")
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="The table, .csv; rows that it has already are kept.")
    ],
    models: Annotated[
        Path | None, typer.Option("--models", metavar="DIR", help="Write an ONNX model for each shape there.")
    ] = None,
    results: Annotated[
        list[Path] | None,
        typer.Option("--results", metavar="FILE", help="A profiler's output, named as the model; once for each."),
    ] = None,
    run: Annotated[bool, typer.Option("--run", help="Measure on this processor, by onnxruntime.")] = False,
    threads: Threads = 1,
    network: Annotated[
        list[str] | None,
        typer.Option(
            "--network",
            metavar="FILE[@BATCH]=LATENCY",
            help="A network's ONNX file and its latency, resnet50.onnx=2.31ms, for the fit; once for each.",
        ),
    ] = None,
    fit: Annotated[
        Path | None, typer.Option("--fit", metavar="FILE", help="Fit the model to the table; store the device, .toml.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write operator shapes to measure on a device, read their measurements, and fit the device to them."""
    from autocomp.measurement import own_devices
    from autocomp.measurement.measured_networks import parse_network
    from autocomp.measurement.profiling import counted

    if network and fit is None:
        raise ValueError(f"--network is part of a fit and needs --fit, but got --network {network[0]} alone")
    networks = [parse_network(text) for text in network or ()]
    device, threads = own_devices.beginning(device, threads)
    rows = own_devices.table_rows(device, out)
    written = None if models is None else own_devices.write_models(rows, models, device)
    if written is not None and not as_json:
        typer.echo(f"{written} models are in {models}")
    rows = own_devices.with_results(rows, results or ())
    if run:
        with counted("operators") as report:
            rows = own_devices.measured(rows, threads, report)
    own_devices.store_table(rows, out, device)
    known = sum(row.latency_ms is not None for row in rows)
    found: dict[str, Any] = {"table": str(out), "shapes": len(rows), "measured": known, "models": written, "fit": None}
    if not as_json:
        typer.echo(f"{known} of {len(rows)} shapes in {out} are measured")
    if fit is not None:
        chip = own_devices.fit(rows, device, out, fit, networks)
        error = chip.data["fit"].get("mean_error")
        said = "" if error is None else f", mean error {error:.0%} on what was left out of the fit"
        predicted = {one.name: float(chip.costs(one.workload).latency_ms[0]) for one in networks}
        found["fit"] = {
            "file": str(fit),
            "device": chip.name,
            "mean_error": error,
            "networks": [
                {"name": one.name, "measured_ms": one.latency_ms, "predicted_ms": predicted[one.name]}
                for one in networks
            ],
        }
        if not as_json:
            typer.echo(f"{fit}: {chip.name}{said}")
            for one in networks:
                typer.echo(f"{one.name}: {one.latency_ms:.4g} ms measured, {predicted[one.name]:.4g} ms predicted")
    if as_json:
        typer.echo(json.dumps(found, indent=1))


def calibrate(threads: Threads = 1, as_json: Json = False) -> None:
    """Measure this machine's processor again; the devices cpu and cpu:THREADS use the result."""
    from autocomp.measurement.processor import measure_processor
    from autocomp.measurement.profiling import counted

    from . import tables

    with counted("operators") as report:
        chip = measure_processor(threads, report)
    if as_json:
        typer.echo(json.dumps(tables.device_as_dict(chip), indent=1))
    else:
        typer.echo(f"{chip.name}: {chip.data['specification']['source']}")


def devices(as_json: Json = False) -> None:
    """The shipped devices: throughput, memory, runtimes, formats, and the sources of the figures."""
    from autocomp.hardware_models.device_model import aliases
    from autocomp.measurement.processor import device

    from . import tables

    chips = [device(name, may_measure=False) for name in autocomp.devices()]
    if as_json:
        typer.echo(json.dumps([tables.device_as_dict(chip) for chip in chips], indent=1))
        return
    tables.show(tables.device_table(chips, aliases()))
    tables.show(tables.runtime_table(chips))
