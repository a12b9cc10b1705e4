"""One driver for each study of a storage: a second is refused while the first lives, and continues after a dead one."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .retries import written

logger = logging.getLogger("autocomp")

KEY = "driver"  # the study's attribute
BEAT_S = 10.0  # seconds between two signs of life
STALE_S = 40.0  # seconds without one, after which a driver on another machine counts as dead
SETTLE_S = 0.3  # seconds after which the last of several that began at the same time is the one

_HELD: set[str] = set()  # what drivers of this process hold


@contextmanager
def held(storage: Any, study: int, name: str) -> Iterator[None]:
    """Holds the study in the body. OSError where another driver does.

    storage: Optuna's. study: its number. name: of the storage, for messages.
    """
    mine: dict[str, Any] = {"id": uuid.uuid4().hex, "pid": os.getpid(), "host": _host()}
    _HELD.add(mine["id"])
    try:
        _take(storage, study, name, mine)
        ended = threading.Event()
        threading.Thread(target=_beat, args=(storage, study, mine, ended), name="autocomp-beat", daemon=True).start()
        try:
            yield
        finally:
            ended.set()
            with suppress(Exception):  # a storage that is gone; the process will be seen to have ended
                storage.set_study_user_attr(study, KEY, "{}")
    finally:
        _HELD.discard(mine["id"])


def _take(storage: Any, study: int, name: str, mine: dict[str, Any]) -> None:
    _refuse(storage, study, name)
    _sign(storage, study, name, mine)
    time.sleep(SETTLE_S)
    if _holder(storage, study).get("id") != mine["id"]:
        _refuse(storage, study, name)


def _refuse(storage: Any, study: int, name: str) -> None:
    holder = _holder(storage, study)
    if holder and lives(holder):
        where, ago = f"process {holder['pid']} on {holder['host'].split()[0]}", time.time() - holder["beat"]
        raise OSError(
            f"storage {name!r} is in use: the same search runs in {where} (last sign of life {ago:.0f} s ago); wait "
            "until it has ended, or give another storage"
        )


def _holder(storage: Any, study: int) -> dict[str, Any]:
    return holder_of(storage.get_study_user_attrs(study).get(KEY))


def holder_of(text: str | None) -> dict[str, Any]:
    """The driver of the attribute: its id, pid, host and beat (seconds since 1970); empty where there is none."""
    try:
        found = json.loads(text or "{}")
        return found if {"id", "pid", "host", "beat"} <= set(found) else {}
    except (TypeError, ValueError):
        return {}


def lives(holder: dict[str, Any]) -> bool:
    """Whether the driver still runs, as far as one can tell from this machine."""
    if holder["host"] == _host():
        if not _runs(holder["pid"]):
            return False
        if holder["pid"] == os.getpid():  # its end could not be written
            return holder["id"] in _HELD
    return bool(time.time() - holder["beat"] < STALE_S)


def _runs(process: int) -> bool:
    """Whether a process of this machine runs; one that only waits to be collected has ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _host() -> str:
    """The machine's name, and what tells this start of it from others."""
    boot = ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{socket.gethostname()} {boot}"


def _sign(storage: Any, study: int, name: str, mine: dict[str, Any]) -> None:
    text = json.dumps({**mine, "beat": time.time()})
    written(lambda: storage.set_study_user_attr(study, KEY, text), name)


def _beat(storage: Any, study: int, mine: dict[str, Any], ended: threading.Event) -> None:
    while not ended.wait(BEAT_S):
        try:
            storage.set_study_user_attr(study, KEY, json.dumps({**mine, "beat": time.time()}))
        except Exception as error:  # the next beat tries again
            logger.debug("no sign of life could be written: %s", error)
