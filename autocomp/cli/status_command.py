"""``status``: how far a search is, read from its storage while it runs or later."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .options import Json

DATABASE, PLACE = "search.db", "search.json"  # in the folder of --out: the usual storage, and where another one is


def status(
    place: Annotated[
        str, typer.Argument(metavar="DIR", help="The folder of a search's --out, or its storage: a path or a URL.")
    ],
    as_json: Json = False,
) -> None:
    """How far a search is: evaluations, hypervolume, rate, failures with their reasons, time left."""
    from autocomp.study.status import searches

    storage = _storage_of(place)
    found = searches(storage)
    if not found:
        raise ValueError(f"status needs a storage that holds a search, but {storage!r} holds none")
    if as_json:
        typer.echo(json.dumps({"storage": storage, "searches": [one.as_dict() for one in found]}, indent=1))
    else:
        typer.echo("\n".join(str(one) for one in found))


def remembered(out: Path, storage: str | None) -> str:
    """The storage of a search, which its folder remembers for ``status``; one with a password is not written down."""
    place = out / PLACE
    if storage is None:
        place.unlink(missing_ok=True)
        return str(out / DATABASE)
    if "@" not in storage:
        whole = storage if "://" in storage else str(Path(storage).expanduser().resolve())
        place.write_text(json.dumps({"storage": whole}) + "\n")
    return storage


def _storage_of(place: str) -> str:
    folder = Path(place)
    if "://" in place or not folder.is_dir():
        return place
    try:
        return str(json.loads((folder / PLACE).read_text())["storage"])
    except FileNotFoundError:
        pass
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder / PLACE} must name a storage, but it cannot be read: {error}") from error
    if not (folder / DATABASE).exists():
        raise FileNotFoundError(
            f"status needs a folder with a search's storage, but {place} has no {DATABASE}: give the path or the URL "
            "of the search's --storage"
        )
    return str(folder / DATABASE)
