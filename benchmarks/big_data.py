"""Memory of a search over 0.49 GB of 8-bit images that lie on disk, in every form in which they may be given.

Each form is searched in a process of its own. Its memory is the highest resident memory of the search, less that of a
search over 64 of the samples in memory, which has loaded all libraries and compiled all that is compiled. It is printed
in GB and as a share of the evaluated part: the bytes of the samples as they are stored. The last row is an
array in memory, which is counted itself; it does not count for the last line.

    python benchmarks/big_data.py [--quick] [--form memmap]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

SHAPE = (3, 64, 64)
COUNT, QUICK = 40_000, 8_000
SMALL = 64
FORMS = ("memmap", "path", "float32 path", "training", "generator", "dictionaries", "dataset", "folder", "in memory")
LIMIT = 1.3


def images(count: int) -> Iterator[np.ndarray]:
    """Batches (100, 3, 64, 64) uint8."""
    rng = np.random.default_rng(0)
    for _ in range(count // 100):
        yield rng.integers(0, 256, (100, *SHAPE), np.uint8)


def write(path: Path, count: int, dtype: Any) -> None:
    array = np.lib.format.open_memmap(path, "w+", dtype, (count, *SHAPE))
    for i, batch in enumerate(images(count)):
        array[100 * i : 100 * (i + 1)] = batch
    array.flush()


def write_folder(folder: Path, count: int) -> None:
    from PIL import Image

    for i, batch in enumerate(images(count)):
        (folder / f"class{i % 10}").mkdir(parents=True, exist_ok=True)
        for k, image in enumerate(batch):
            Image.fromarray(image.transpose(1, 2, 0)).save(folder / f"class{i % 10}" / f"{i:03d}{k:03d}.bmp")


def labels(count: int) -> np.ndarray:
    return np.arange(count) % 10


def data_of(form: str, folder: Path, count: int) -> dict[str, Any]:
    """Arguments of autocomp.Data."""
    path, y = folder / "x.npy", labels(count)
    if form == "memmap":
        return {"evaluate": (np.load(path, mmap_mode="r"), y)}
    if form == "path":
        return {"evaluate": (path, y)}
    if form == "float32 path":
        return {"evaluate": (folder / "floats.npy", labels(count // 4))}
    if form == "training":
        return {"train": (path, y), "evaluate": (np.load(path, mmap_mode="r")[:2000], y[:2000])}
    if form == "generator":
        return {"evaluate": ((x, y[:100]) for x in images(count))}
    if form == "dictionaries":
        return {"evaluate": ({"image": x, "label": y[:100]} for x in images(count)), "key": ("image", "label")}
    if form == "dataset":
        return {"evaluate": _dataset(path, y)}
    if form == "folder":
        return {"evaluate": folder / "images"}
    return {"evaluate": (np.load(path), y)}


def _dataset(path: Path, y: np.ndarray) -> Any:
    import mindspore.dataset as ds

    return ds.GeneratorDataset(Rows(path, y), ["x", "y"], shuffle=False, python_multiprocessing=False).batch(50)


class Rows:
    """Rows for MindSpore, read one at a time: a map's pages would count as memory of this process."""

    def __init__(self, path: Path, y: np.ndarray) -> None:
        self.path, self.y = path, y
        self.size = int(np.prod(SHAPE))
        self.offset = path.stat().st_size - len(y) * self.size

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        row = np.fromfile(self.path, np.uint8, self.size, offset=self.offset + i * self.size)
        return row.reshape(SHAPE), self.y[i]


def resident() -> int:
    """Bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Highest:
    """Watches the resident memory while the body runs."""

    def __enter__(self) -> Highest:
        self.most, self.ended = resident(), threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def _watch(self) -> None:
        while not self.ended.wait(0.005):
            self.most = max(self.most, resident())

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join()


def search(form: str, folder: Path, count: int) -> dict[str, float]:
    from mindspore import nn, ops

    import autocomp

    class Network(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.head = nn.Conv2d(3, 16, 3, 4), nn.Conv2d(16, 32, 3, 2), nn.Dense(32, 10)

        def construct(self, x: Any) -> Any:
            return self.head(ops.relu(self.second(ops.relu(self.first(x)))).mean((2, 3)))

    def run(data: autocomp.Data) -> None:
        budget = "size<60%, accuracy>-1%" if form == "training" else "size<60%"
        autocomp.search(Network(), budget, "ascend", data, trials=8, progress=False, fine_tune=1, train_budget=0)

    x = np.load(folder / "x.npy", mmap_mode="r")
    roles = ("evaluate", "train") if form == "training" else ("evaluate",)
    few: dict[str, Any] = {role: (np.array(x[:SMALL]), labels(SMALL)) for role in roles}
    with Highest() as before:
        run(autocomp.Data(**few))
    begun, started = resident(), time.perf_counter()
    given = data_of(form, folder, count)
    with Highest() as after:
        run(autocomp.Data(**given, limit=10**6))
    part = x.nbytes if form != "float32 path" else (count // 4) * 4 * int(np.prod(SHAPE))
    used = max(after.most - max(before.most, begun), 0)
    return {"part": part / 1e9, "used": used / 1e9, "seconds": time.perf_counter() - started}


def measured(form: str, folder: Path, count: int) -> dict[str, float]:
    """In a process of its own."""
    command = [sys.executable, __file__, "--inner", form, str(folder), str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{form} failed:\n{done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a fifth of the samples, three forms")
    parser.add_argument("--form", choices=FORMS, help="this form alone")
    parser.add_argument("--inner", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inner:
        form, folder, count = options.inner
        print(json.dumps(search(form, Path(folder), int(count))))
        return
    count = QUICK if options.quick else COUNT
    forms = (options.form,) if options.form else FORMS[:3] if options.quick else FORMS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder / "x.npy", count, np.uint8)
        write(folder / "floats.npy", count // 4, np.float32)
        if "folder" in forms:
            write_folder(folder / "images", count)
        print(f"{'form':14} {'samples GB':>10} {'memory GB':>10} {'share':>6} {'s':>6}")
        worst = 0.0
        for form in forms:
            row = measured(form, folder, count)
            share = row["used"] / row["part"]
            worst = max(worst, 0.0 if form == "in memory" else share)
            print(f"{form:14} {row['part']:10.2f} {row['used']:10.2f} {share:6.2f} {row['seconds']:6.1f}", flush=True)
    print(f"largest memory: {worst:.2f} of the evaluated part (goal {LIMIT})")


if __name__ == "__main__":
    main()
