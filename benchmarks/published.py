"""The published measurements as observations: networks are built in MindSpore and traced, shapes become layers.

`measurements/` keeps each row's source. Single NVIDIA operators (11,000 rows) are read from ../shared/hardware.
"""

from __future__ import annotations

import csv
import hashlib
import pickle
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from autocomp.hardware_models import Device
from autocomp.hardware_models.fitting.fit import Observation, observe
from autocomp.primitives import trace
from autocomp.search_spaces import Knob, NetworkGraph, SearchSpace, Workload
from benchmarks import branching_networks as branching
from benchmarks import networks

HERE = Path(__file__).parent
SHARED = HERE.parent.parent / "shared" / "hardware"

NETWORKS: dict[str, Callable[[], Any]] = {
    "resnet18": partial(networks.resnet, (2, 2, 2, 2), False),
    "resnet34": partial(networks.resnet, (3, 4, 6, 3), False),
    "resnet50": partial(networks.resnet, (3, 4, 6, 3)),
    "resnet101": partial(networks.resnet, (3, 4, 23, 3)),
    "resnet152": partial(networks.resnet, (3, 8, 36, 3)),
    "resnext50_32x4d": partial(networks.resnet, (3, 4, 6, 3), groups=32, base_width=4),
    "resnext101_32x8d": partial(networks.resnet, (3, 4, 23, 3), groups=32, base_width=8),
    "wide_resnet50_2": partial(networks.resnet, (3, 4, 6, 3), base_width=128),
    "wide_resnet101_2": partial(networks.resnet, (3, 4, 23, 3), base_width=128),
    **{f"vgg{depth}": partial(networks.vgg, depth) for depth in networks.VGG},
    **{f"vgg{depth}_bn": partial(networks.vgg, depth, True) for depth in networks.VGG},
    "alexnet": networks.alexnet,
    "mobilenet_v1": networks.mobilenet_v1,
    "mobilenet_v2": networks.mobilenet_v2,
    "mnasnet0_5": partial(networks.mnasnet, 0.5),
    "mnasnet0_75": partial(networks.mnasnet, 0.75),
    "mnasnet1_0": partial(networks.mnasnet, 1.0),
    "mnasnet1_3": partial(networks.mnasnet, 1.3),
    "efficientnet_b0": partial(networks.efficientnet, 1.0),
    "efficientnet_b1": partial(networks.efficientnet, 1.1),
    "densenet121": partial(branching.densenet, (6, 12, 24, 16)),
    "densenet161": partial(branching.densenet, (6, 12, 36, 24), 48, 96),
    "densenet169": partial(branching.densenet, (6, 12, 32, 32)),
    "densenet201": partial(branching.densenet, (6, 12, 48, 32)),
    "googlenet": branching.googlenet,
    "inception_v3": branching.inception_v3,
    "squeezenet1_0": partial(branching.squeezenet, "1_0"),
    "squeezenet1_1": partial(branching.squeezenet, "1_1"),
    "shufflenet_v2_x0_5": partial(branching.shufflenet_v2, (48, 96, 192, 1024)),
    "shufflenet_v2_x1_0": partial(branching.shufflenet_v2, (116, 232, 464, 1024)),
    "shufflenet_v2_x1_5": partial(branching.shufflenet_v2, (176, 352, 704, 1024)),
    "shufflenet_v2_x2_0": partial(branching.shufflenet_v2, (244, 488, 976, 2048)),
    **{f"bert_{tokens}": partial(branching.Bert, tokens) for tokens in (64, 128, 256, 320, 384, 512)},
}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def columns(path: Path, device: str) -> dict[str, np.ndarray]:
    """Numeric columns of one device's rows."""
    some = [row for row in rows(path) if row["device"] == device]
    names = [name for name in some[0] if name not in ("split", "device", "kernel")]
    return {name: np.array([float(row[name]) for row in some]) for name in names}


@cache
def graph(name: str, pixels: int = 224) -> NetworkGraph:
    """Traced once and kept in the temporary folder: tracing all takes some minutes."""
    autocomp = HERE.parent / "autocomp"
    traced = [*(autocomp / "primitives" / "tracing").glob("*.py"), *(autocomp / "search_spaces").glob("*.py")]
    read = [HERE / "networks.py", HERE / "branching_networks.py", *sorted(traced)]
    sources = b"".join(path.read_bytes() for path in read)
    key = hashlib.sha256(sources).hexdigest()[:12]
    file = Path(tempfile.gettempdir()) / f"autocomp-graphs-{key}" / f"{name}-{pixels}.pickle"
    if not file.exists():
        shape = (1, int(name[5:]), 768) if name.startswith("bert_") else (1, 3, pixels, pixels)
        net = NETWORKS[name]()
        net.set_train(False)
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(pickle.dumps(trace(net, shape)))
    found: NetworkGraph = pickle.loads(file.read_bytes())
    return found


def uniform(some: NetworkGraph, batch: int, text: str = "float") -> Workload:
    """Every layer in one format."""
    knobs = (
        ()
        if text == "float"
        else tuple(Knob(f"format/{layer}", "", (layer,), ("float", text)) for layer in some.layers)
    )
    return SearchSpace(some, knobs).workload(np.ones((1, len(knobs)), int), batch)


def ascend_networks(device: Device) -> list[Observation]:
    found = []
    for row in rows(HERE / "measurements" / "ascend310p3_networks.csv"):
        some = graph(row["arch"], int(row["input"].rpartition("x")[2]))
        workload = uniform(some, int(row["batch"]))
        found.append(observe(device, workload, float(row["ms_per_batch"]) * 1e-3, row["arch"]))
    return found


def ascend_bert(device: Device) -> list[Observation]:
    found = []
    for row in rows(HERE / "measurements" / "ascend310p3_bert_base.csv"):
        workload = uniform(graph(f"bert_{row['seq']}"), int(row["batch"]))
        found.append(observe(device, workload, float(row["ms"]) * 1e-3, f"bert {row['seq']} x {row['batch']}"))
    return found


def t4_networks(device: Device, precision: str) -> list[Observation]:
    """Precision is fp16 or int8; batch 1. Sorted by network."""
    found = []
    for row in sorted(rows(HERE / "measurements" / "nvidia_t4_fp16_int8.csv"), key=lambda row: row["model"]):
        if row["precision"] == precision:
            workload = uniform(graph(row["model"]), 1, "float" if precision == "fp16" else "w8a8")
            found.append(observe(device, workload, float(row["latency_ms"]) * 1e-3, row["model"]))
    return found
