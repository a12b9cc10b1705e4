"""The command line: ``search | status | show | export | compare | profile-network | resolve | quickstart``, and on
devices ``estimate | profile | calibrate | devices``."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

import autocomp
from autocomp.errors import AutocompError
from autocomp.process.interrupts import interruptible

from . import device_commands as cli_devices
from . import front_commands as cli_fronts
from . import status_command as cli_status
from .options import Context, DeviceName, Inputs, Json, Net, Samples, Weights

QUICK_TRIALS = 24
QUICK_SAMPLES = 500

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Compress trained MindSpore networks for a device and a budget.",
)

Workers = Annotated[
    str | None,
    typer.Option(
        "--workers", metavar="N", help="Ray workers on this machine, or ray://host:port or auto; none: this process."
    ),
]
Budget = Annotated[
    str,
    typer.Option("--budget", help="Bounds joined by commas: 'latency<50%, accuracy>-1%', 'latency<5ms@90%'."),
]
Seed = Annotated[int, typer.Option("--seed", help="The same seed gives the same front.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"autocomp {autocomp.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    _log_to_stderr()


@app.command(
    epilog="Example: autocomp search --net resnet.py:resnet18 --weights resnet18.ckpt --data resnet.py:data "
    "--budget 'latency<50%, accuracy>-1%' --device ascend --out runs/a"
)
def search(
    net: Net,
    budget: Budget,
    device: DeviceName,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the front and its report.html.")],
    weights: Weights = None,
    data: Samples = None,
    inputs: Inputs = None,
    primitives: Annotated[
        str, typer.Option("--primitives", help="auto, or names joined by commas: rtn, lsq, channel-pruning, taylor...")
    ] = "auto",
    resolution: Annotated[
        list[float] | None,
        typer.Option(
            "--resolution",
            metavar="RATIO",
            help="A share of the images' sides, as 0.75, at which the network is searched, too. Once for each.",
        ),
    ] = None,
    trials: Annotated[int | None, typer.Option("--trials", min=1, help="Evaluations.", show_default="200")] = None,
    time_limit: Annotated[
        float | None,
        typer.Option(
            "--time-limit",
            metavar="SECONDS",
            min=1.0,
            help="Stop after so many seconds.",
            show_default="1800, where neither --trials nor training samples are given",
        ),
    ] = None,
    patience: Annotated[
        int, typer.Option("--patience", min=1, help="Stop when the front has not grown in so many batches of eight.")
    ] = 8,
    sampler: Annotated[str, typer.Option("--sampler", help="The strategy that proposes plans.")] = "auto",
    workers: Workers = None,
    evaluation_limit: Annotated[
        float | None,
        typer.Option(
            "--evaluation-limit",
            metavar="SECONDS",
            min=0.1,
            help="Of one evaluation, after which it has failed.",
            show_default="a minute, 20 times the float network's and 30 s per million weights",
        ),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            "--storage",
            help="A path or storage URL; the same call again resumes from it.",
            show_default="search.db in the folder of --out",
        ),
    ] = None,
    fine_tune: Annotated[
        int,
        typer.Option(
            "--fine-tune",
            metavar="EPOCHS",
            min=0,
            help="Train the best plans on the data's train samples, where none keeps the budget's accuracy.",
        ),
    ] = 2,
    context: Context = None,
    train_budget: Annotated[
        float | None,
        typer.Option(
            "--train-budget",
            metavar="EPOCHS",
            min=0.0,
            help="Epochs over the data's train samples that plans near the front are trained in all; 0: none.",
            show_default="as the evaluations take",
        ),
    ] = None,
    elastic: Annotated[
        float,
        typer.Option(
            "--elastic",
            metavar="EPOCHS",
            min=0.0,
            help="Epochs over the data's train samples of one network for all plans, to choose those that train.",
        ),
    ] = 0.0,
    seed: Seed = 0,
    quick: Annotated[
        bool, typer.Option("--quick", help=f"A quick search: {QUICK_TRIALS} evaluations on {QUICK_SAMPLES} samples.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Search how to compress a network; print the front, and store it with an HTML report."""
    from autocomp.study.study import ERROR

    from . import sources
    from .front_tables import front_as_dict

    shapes = sources.parse_shapes(inputs or ())
    autocomp.Budget.parse(budget)
    autocomp.device(device)
    _make_folder(out)
    samples = sources.load_data(data) if data is not None else None
    storage = cli_status.remembered(out, storage)
    front = autocomp.search(
        sources.load_net(net, weights),
        budget=budget,
        device=device,
        data=samples.shortened(QUICK_SAMPLES) if quick and samples is not None else samples,
        inputs=shapes,
        primitives=primitives if primitives == "auto" else [name.strip() for name in primitives.split(",")],
        resolutions=tuple(resolution or ()),
        trials=trials or (QUICK_TRIALS if quick else None),
        time_limit=time_limit,
        patience=patience,
        sampler=sampler,
        workers=_worker_count(workers),
        evaluation_limit=evaluation_limit,
        storage=storage,
        fine_tune=fine_tune,
        train_budget=train_budget,
        elastic=elastic,
        context=context,
        seed=seed,
        progress=True,
    )
    front.save(out)
    if as_json:
        typer.echo(json.dumps(front_as_dict(front), indent=1))
        return
    typer.echo(str(front))
    typer.echo(f"front and report.html are in {out}")
    if str(front.settings["stopped"]).startswith(ERROR):
        raise typer.Exit(1)


@app.command(
    epilog="Example: autocomp resolve runs/a --net resnet.py:resnet18 --weights resnet18.ckpt --budget 'size<9%'"
)
def resolve(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="The folder in which autocomp search stored the front.")
    ],
    net: Net,
    budget: Budget,
    weights: Weights = None,
    data: Samples = None,
    export: Annotated[
        Path | None,
        typer.Option("--export", metavar="FILE", help="Write a .mindir, .onnx or .safetensors file."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Predict the best plan for another budget, from a search's scores and evaluations.

    With the data of the search the plan is evaluated, and the front is stored again with it.
    """
    from autocomp.primitives.export.files import export_format

    from . import sources
    from .front_tables import resolved_as_dict

    autocomp.Budget.parse(budget)
    if export is not None:
        export_format(export)
    samples = sources.load_data(data) if data is not None else None
    front = autocomp.load(folder, sources.load_net(net, weights), samples)
    found = front.resolve(budget) if samples is None else front.resolve(budget, evaluate=True)
    if not as_json:
        typer.echo(found.summary(front.metrics))
        typer.echo(f"plan: {found.plan}")
    if samples is not None:
        front.save(folder)
    report = None if export is None else found.export(export)
    if as_json:
        typer.echo(json.dumps(resolved_as_dict(front, found, report), indent=1))
    elif report is not None:
        typer.echo(str(report))


@app.command()
def quickstart(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the files.")] = Path(
        "autocomp-quickstart"
    ),
    trials: Annotated[int | None, typer.Option("--trials", min=1, help="Evaluations.")] = None,
    workers: Workers = None,
    seed: Seed = 0,
    quick: Annotated[bool, typer.Option("--quick", help="Under a minute: fewer evaluations and images.")] = False,
    train: Annotated[
        bool,
        typer.Option("--train", help="Train plans near the front, too, for ascend-310p3:mindspore: some minutes more."),
    ] = False,
    as_json: Json = False,
) -> None:
    """A complete run on shipped data: a Fashion-MNIST network is searched for ascend-310p3, exported and checked."""
    from rich.console import Console

    from autocomp.quickstart.run import run

    from .front_tables import front_as_dict

    _make_folder(out)
    front = run(
        out,
        trials=trials,
        workers=_worker_count(workers),
        seed=seed,
        quick=quick,
        train=train,
        console=Console(stderr=as_json),
    )
    if as_json:
        typer.echo(json.dumps(front_as_dict(front), indent=1))


app.command(epilog="Example: autocomp estimate --net resnet.py:resnet18 --device ascend --inputs 8,3,224,224 --layers")(
    cli_devices.estimate
)
app.command(
    epilog="Example: autocomp compare runs/a runs/b && autocomp compare --net resnet.py:resnet18 --device ascend"
)(cli_devices.compare)
app.command(epilog="Example: autocomp status runs/a")(cli_status.status)
app.command(epilog="Example: autocomp show runs/a 3")(cli_fronts.show)
app.command(epilog="Example: autocomp export runs/a net.onnx --net resnet.py:resnet18 --point 'accuracy>-1%'")(
    cli_fronts.export
)
app.command(
    "profile-network",
    epilog="Example: autocomp profile-network --net resnet.py:resnet18 --data resnet.py:data --plan runs/a:knee",
)(cli_fronts.profile_network)
app.command(epilog="Example: autocomp profile --device my.toml --out table.csv --models models")(cli_devices.profile)
app.command()(cli_devices.calibrate)
app.command()(cli_devices.devices)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point. A mistake of the user is one sentence on standard error, with exit code 2; --debug raises it
    instead."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with interruptible():
            app(args=given, prog_name="autocomp")
    except (AutocompError, ValueError, TypeError, OSError) as error:
        if "--debug" in given:
            raise
        typer.echo(f"autocomp: {_sentence(error)}", err=True)
        sys.exit(2)


def _sentence(error: Exception) -> str:
    """Errors of the file system that no sentence was made of begin with their number."""
    if isinstance(error, OSError) and error.filename is not None and str(error).startswith("[Errno"):
        return f"{error.filename} cannot be used: {error.strerror}"
    return str(error)


def _worker_count(text: str | None) -> int | str | None:
    return int(text) if text is not None and text.isdigit() else text


def _make_folder(path: Path) -> None:
    """Checked before the search: a folder that cannot be written must not lose the results."""
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"--out must be a folder, but {path} is a file")
    probe = path / ".autocomp"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OSError(f"cannot write to the folder {path}: {error.strerror}") from error


class StandardError(logging.Handler):
    """Writes to what standard error is at that moment: it may have been replaced since the handler was made."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(f"{self.format(record)}\n")


def _log_to_stderr() -> None:
    logger = logging.getLogger("autocomp")
    if not logger.handlers:
        handler = StandardError()
        handler.setFormatter(logging.Formatter("%(levelname).1s %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
