"""Reads GGUF files with NumPy alone: metadata, and tensors as float32 (F32, F16, Q8_0, Q4_1).

A file has a header, metadata as typed values, a table of tensors, and their data, aligned. Dimensions are stored with
the fastest first. Q4_1 has blocks of 32 numbers: a float16 scale d, a float16 minimum m, and 16 bytes of nibbles, of
which the low ones are the first 16 numbers: w = d q + m. Q8_0: a float16 scale and 32 signed bytes.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
TEXT, ARRAY = 8, 9
BLOCK = 32


def _f32(raw: np.ndarray) -> np.ndarray:
    return raw.view("<f4").astype(np.float32)


def _f16(raw: np.ndarray) -> np.ndarray:
    return raw.view("<f2").astype(np.float32)


def _q8_0(raw: np.ndarray) -> np.ndarray:
    blocks = raw.reshape(-1, 2 + BLOCK)
    scale = np.ascontiguousarray(blocks[:, :2]).view("<f2").astype(np.float32)
    return scale * blocks[:, 2:].view(np.int8).astype(np.float32)


def _q4_1(raw: np.ndarray) -> np.ndarray:
    blocks = raw.reshape(-1, 4 + BLOCK // 2)
    scale, least = (np.ascontiguousarray(blocks[:, i : i + 2]).view("<f2").astype(np.float32) for i in (0, 2))
    levels = np.concatenate((blocks[:, 4:] & 15, blocks[:, 4:] >> 4), 1).astype(np.float32)
    return scale * levels + least


KINDS: dict[int, tuple[Callable[[np.ndarray], np.ndarray], int, int]] = {  # read by; bytes and numbers of a block
    0: (_f32, 4, 1),
    1: (_f16, 2, 1),
    3: (_q4_1, 4 + BLOCK // 2, BLOCK),
    8: (_q8_0, 2 + BLOCK, BLOCK),
}


@dataclass(frozen=True)
class GgufFile:
    """metadata: by key. places: name -> (shape with the fastest axis last, kind, offset in the file)."""

    data: Any
    metadata: dict[str, Any]
    places: dict[str, tuple[tuple[int, ...], int, int]]

    def tensor(self, name: str) -> np.ndarray:
        """float32."""
        shape, kind, start = self.places[name]
        if kind not in KINDS:
            raise ValueError(f"tensors must be F32, F16, Q8_0 or Q4_1, but {name} is of kind {kind}")
        read, size, numbers = KINDS[kind]
        count = int(np.prod(shape)) // numbers * size
        return read(np.frombuffer(self.data, np.uint8, count, start)).reshape(shape)


class _Reader:
    def __init__(self, data: Any) -> None:
        self.data, self.at = data, 0

    def number(self, form: str) -> Any:
        (value,) = struct.unpack_from(f"<{form}", self.data, self.at)
        self.at += struct.calcsize(f"<{form}")
        return value

    def text(self) -> str:
        length = self.number("Q")
        self.at += length
        return bytes(self.data[self.at - length : self.at]).decode()

    def value(self, kind: int) -> Any:
        if kind == TEXT:
            return self.text()
        if kind == ARRAY:
            inner, count = self.number("I"), self.number("Q")
            return [self.value(inner) for _ in range(count)]
        return self.number(NUMBERS[kind])

    def tensors(self, count: int) -> Iterator[tuple[str, tuple[int, ...], int, int]]:
        for _ in range(count):
            name, axes = self.text(), self.number("I")
            shape = tuple(self.number("Q") for _ in range(axes))[::-1]
            yield name, shape, self.number("I"), self.number("Q")


def read_gguf(path: Path) -> GgufFile:
    """Metadata at once, tensors when they are asked for."""
    with path.open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    reader = _Reader(data)
    if bytes(data[:4]) != b"GGUF":
        raise ValueError(f"a GGUF file must begin with GGUF, but {path} does not")
    reader.at = 8
    tensors, values = reader.number("Q"), reader.number("Q")
    metadata = {}
    for _ in range(values):
        key = reader.text()
        metadata[key] = reader.value(reader.number("I"))
    found = list(reader.tensors(tensors))
    step = metadata.get("general.alignment", 32)
    start = -(-reader.at // step) * step
    return GgufFile(data, metadata, {name: (shape, kind, start + at) for name, shape, kind, at in found})
