"""The commands on saved fronts: what is in them, their points as files, two of them side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from .options import DeviceName, Inputs, Json, Net, Samples, Weights

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder in which a search stored its front.")]
POINT_HELP = "A number of the front's table, from 0, 'float', 'knee', or bounds: 'size<20%, accuracy>-1%'."


def show(
    folder: Folder,
    point: Annotated[str | None, typer.Argument(metavar="[POINT]", help=POINT_HELP)] = None,
    as_json: Json = False,
) -> None:
    """The front of a search, or one of its points layer by layer."""
    from autocomp.results.front import ParetoSet

    from . import front_tables, tables

    front = ParetoSet.load(folder)
    if point is None:
        _print(front_tables.front_as_dict(front), as_json, str(front))
        return
    found = front_tables.point_of(front, point)
    if as_json:
        _print(front_tables.point_as_dict(front, found), True, "")
        return
    typer.echo(found.summary(front.metrics))
    if front.layers is None or found.plan not in front.layers:
        typer.echo("\n".join(f"{place}: {value}" for place, value in found.plan.items()))
    else:
        tables.show(front_tables.layer_table(front.layers, found))


def export(
    folder: Folder,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write: .mindir, .onnx or .safetensors.")],
    net: Net,
    weights: Weights = None,
    point: Annotated[str, typer.Option("--point", metavar="POINT", help=POINT_HELP)] = "knee",
    form: Annotated[
        str | None,
        typer.Option("--form", help="qat, simulated, compressed-tensors or ascend-v1, in place of the device's."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a point of a saved front as a file for its device, load it again and compare."""
    from autocomp.deployment.restore import restore
    from autocomp.primitives.export.files import export_format
    from autocomp.results.front import ParetoSet

    from . import front_tables, sources

    export_format(file)
    front_tables.point_of(ParetoSet.load(folder), point)  # before the network is loaded and traced
    front = restore(sources.load_net(net, weights), folder)
    report = front_tables.point_of(front, point).export(file, form)
    front.save(folder)
    _print(front_tables.report_as_dict(report), as_json, str(report))


def profile_network(
    net: Net,
    data: Samples = None,
    weights: Weights = None,
    device: DeviceName = "ascend",
    inputs: Inputs = None,
    plan: Annotated[
        str | None, typer.Option("--plan", metavar="PLAN", help="A plan in JSON, or DIR:POINT of a saved front.")
    ] = None,
    samples: Annotated[int, typer.Option("--samples", min=1, help="Samples on which tensors are read.")] = 64,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write an HTML file, too.")] = None,
    as_json: Json = False,
) -> None:
    """A network layer by layer: its tensors, costs, memory, and under a plan the noise that each choice adds.

    With --device cpu the layers' times are measured. --net may be an .onnx file, whose nodes are measured.
    """
    from autocomp.deployment.inspection.profiler import profile

    from . import sources

    shapes = sources.parse_shapes(inputs or ())
    given = sources.load_data(data) if data is not None else None
    chosen = None if plan is None else _plan(plan)
    network = sources.network_or_file(net, weights)
    found = profile(network, given, chosen, device, inputs=shapes, samples=samples)
    if html is not None:
        found.report(html)
    _print(found.as_dict(), as_json, str(found))


def _plan(text: str) -> Any:
    """JSON, or a point of a saved front."""
    from autocomp.results.front import ParetoSet

    from .front_tables import point_of

    if text.lstrip().startswith("{"):
        return text
    folder, _, point = _parted(text)
    return point_of(ParetoSet.load(folder), point or "knee").plan


def compare_fronts(references: list[str], as_json: bool) -> None:
    """Two folders, or two points as ``DIR:POINT``."""
    from autocomp.results.comparison import FrontComparison, PointComparison
    from autocomp.results.front import ParetoSet

    from . import front_tables

    if len(references) != 2:
        raise ValueError(
            f"compare takes two saved fronts, or one network with --net, but got {len(references)} folders"
        )
    folders, marks, chosen = zip(*(_parted(text) for text in references), strict=True)
    first, second = (ParetoSet.load(folder) for folder in folders)
    found: Any = None
    if any(marks):
        points = [
            front_tables.point_of(front, text or "knee") for front, text in zip((first, second), chosen, strict=True)
        ]
        names = tuple(f"{text}: {point.name}" for text, point in zip(references, points, strict=True))
        found = PointComparison.of(points[0], points[1], first.metrics, (names[0], names[1]))
    else:
        found = FrontComparison.of(first, second, (references[0], references[1]))
    _print(found.as_dict(), as_json, str(found))


def _print(value: dict[str, Any], as_json: bool, text: str) -> None:
    typer.echo(json.dumps(value, indent=1) if as_json else text)


def _parted(text: str) -> tuple[str, str, str]:
    """A folder whose name has a colon is one."""
    folder, mark, point = text.partition(":")
    return (text, "", "") if Path(text).is_dir() else (folder, mark, point)
