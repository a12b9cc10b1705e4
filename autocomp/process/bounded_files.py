"""Files that others may have written: limits are checked before memory is taken, and what is wrong is one sentence.

Nothing that is read runs code: arrays of Python objects are refused.
"""

from __future__ import annotations

import json
import math
import os
import stat
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

TEXT_BYTES = 64_000_000
ARRAY_BYTES = 16_000_000_000  # of all arrays of one file
UNFOLDED = 100  # how many times its size a file of arrays may unfold to
SMALL_BYTES = 64_000_000  # up to here it may unfold to whatever it likes
DAMAGED = (
    *(ValueError, KeyError, TypeError, EOFError, NotImplementedError, RuntimeError, OverflowError, SyntaxError),
    *(zipfile.BadZipFile, zlib.error, struct.error, OSError, MemoryError),
)


def check_file(path: Path, most_bytes: int) -> None:
    """FileNotFoundError for none, ValueError for what is no regular file or is larger than ``most_bytes``."""
    try:
        found = path.stat()
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {path}") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"a file to read must have a usable path, but got {str(path)[:200]!r}: {error}") from error
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{path} must be a regular file, but it is a folder, a device or a pipe")
    if found.st_size > most_bytes:
        raise ValueError(f"{path} must have at most {most_bytes:,} bytes, but it has {found.st_size:,}")


def read_text(path: Path, most_bytes: int = TEXT_BYTES) -> str:
    """UTF-8; ValueError for anything else."""
    check_file(path, most_bytes)
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be text in UTF-8, but it is not: {error}") from error


def parse_json(text: str, name: str) -> Any:
    """ValueError for text that is no JSON, or is nested too deep. name: what the text is of, for the message."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError(f"{name} must be JSON, but it is nested too deep to be read") from None
    except ValueError as error:
        raise ValueError(f"{name} must be JSON, but it is not: {error}") from error


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz`` file; ValueError where it cannot be read, or unfolds to more than its size explains."""
    check_file(path, ARRAY_BYTES)
    try:
        with zipfile.ZipFile(path) as archive:
            _check_unfolded(archive, path.stat().st_size)
            return {name.removesuffix(".npy"): _array(archive, name) for name in archive.namelist()}
    except DAMAGED as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} must be a whole file of arrays (.npz), but it cannot be read: {said}") from error


def _check_unfolded(archive: zipfile.ZipFile, size: int) -> None:
    total = sum(member.file_size for member in archive.infolist())
    most = min(ARRAY_BYTES, max(SMALL_BYTES, UNFOLDED * size))
    if total > most:
        raise ValueError(f"its arrays must unfold to at most {most:,} bytes, but they unfold to {total:,}")


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """The header is held against the size of the member, before there is room made for the array."""
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"array {name} has the unknown version {version}")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
        claimed = file.tell() + math.prod(shape) * dtype.itemsize
        if dtype.hasobject or min(shape, default=0) < 0 or claimed > archive.getinfo(name).file_size:
            raise ValueError(f"array {name} claims shape {shape} of {dtype}, which the file does not hold")
    with archive.open(name) as file:
        found: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
    return found


def plain_mode() -> int:
    """The permissions that a new file of this process has: read and write, less the umask."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
