"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

NET_HELP = "The network: package.module:build or path/to/file.py:build, a Cell or its builder."

Net = Annotated[
    str,
    typer.Option(
        "--net",
        metavar="REF",
        help=NET_HELP,
    ),
]
Weights = Annotated[
    Path | None, typer.Option("--weights", metavar="FILE", help="The network's parameters: a .ckpt or .npz file.")
]
DeviceName = Annotated[
    str, typer.Option("--device", metavar="NAME", help="One of 'autocomp devices', or a path to a .toml file.")
]
Inputs = Annotated[
    list[str] | None,
    typer.Option("--inputs", metavar="SHAPE", help="Input shape, batch first: 8,3,224,224. Once for each input."),
]
Context = Annotated[
    int | None,
    typer.Option(
        "--context",
        metavar="TOKENS",
        min=1,
        help="Of a language model: also the time of a token (tpot) behind so many, and the cache of keys and values.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON in the place of a table.")]
Precision = Annotated[
    str | None, typer.Option("--precision", help="Format of every layer, as in w8a8; the device's float if none.")
]
Samples = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="REF",
        help="autocomp.Data, a dict of its arguments or a pair (x, y), or a function that returns one.",
    ),
]
