"""Where evaluations are stored: an SQLite file, a journal file or a database, by a path or a URL."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from .retries import first_sentence

if TYPE_CHECKING:
    import optuna

SQLITE = b"SQLite format 3\0"  # how such a file begins
JOURNAL = "journal:///"  # a file that processes of several machines may append to
BUSY_S = 60  # seconds that SQLite waits for another process


def named(storage: str | PathLike[str] | None) -> str:
    """As messages name it: without a password."""
    return re.sub(r"(://[^:/@]*):[^@/]*@", r"\1:***@", str(storage))


def url_of(storage: str | PathLike[str]) -> str:
    """A path becomes SQLite's URL; its folder is made."""
    text = str(storage)
    if "://" in text and not text.startswith(JOURNAL):
        return text
    path = Path(text.removeprefix(JOURNAL)) if text.startswith(JOURNAL) else Path(text)
    path = path.expanduser().resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    return f"{JOURNAL}{path}" if text.startswith(JOURNAL) else f"sqlite:///{path}"


def backend_of(url: str) -> optuna.storages.BaseStorage:
    """The storage of a URL, made where there is none yet."""
    import optuna
    from optuna.storages import journal

    if url.startswith("sqlite:"):
        return optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": {"timeout": BUSY_S}})
    if url.startswith(JOURNAL):
        path = url.removeprefix(JOURNAL)
        # Its lock works on NFS, and one that a killed process left is taken after half a minute.
        file = journal.JournalFileBackend(path, lock_obj=journal.JournalFileOpenLock(path))
        return optuna.storages.JournalStorage(file)
    # A server may have been started again since the last statement.
    return optuna.storages.get_storage(optuna.storages.RDBStorage(url, engine_kwargs={"pool_pre_ping": True}))


@contextmanager
def opened(storage: str, create: bool = True) -> Iterator[optuna.storages.BaseStorage]:
    """The storage, for the body. OSError in one sentence where it cannot be opened or read."""
    try:
        if not create:
            check_storage(storage, exists=True)
        yield backend_of(url_of(storage))
    except Exception as error:  # Optuna, SQLAlchemy, its drivers and the file system raise different errors
        if isinstance(error, OSError) and str(error).startswith("storage "):
            raise
        raise OSError(f"storage {named(storage)!r} cannot be opened or read: {first_sentence(error)}") from error


def check_storage(storage: str | PathLike[str] | None, exists: bool = False) -> None:
    """OSError for a path that no SQLite file can be written to, before anything is prepared; with ``exists`` also
    where there is none."""
    text = str(storage)
    if storage is None or ("://" in text and not text.startswith(JOURNAL)):
        return
    path = Path(text.removeprefix(JOURNAL)).expanduser()
    try:
        if exists and not path.exists():
            raise OSError("there is no such file")
        path.resolve().parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            with path.open("rb+") as file:
                if not text.startswith(JOURNAL) and file.read(len(SQLITE)) not in (b"", SQLITE):
                    raise OSError("it is no SQLite file")
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"storage {text!r} cannot be opened or written: {reason}") from error


def sibling(storage: str | PathLike[str] | None, name: str) -> Path | None:
    """A path next to an SQLite or journal file, ``search.db.<name>``; None for other storages."""
    if storage is None:
        return None
    for start in ("sqlite:///", JOURNAL):
        if (url := url_of(storage)).startswith(start):
            return Path(f"{url.removeprefix(start)}.{name}")
    return None
