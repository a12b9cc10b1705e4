"""The published measurements as observations: networks are built in MindSpore and traced, shapes become layers.

`measurements/` keeps each row's source. Single NVIDIA operators (11,000 rows) are read from ../shared/hardware.
"""

from __future__ import annotations

import csv
import hashlib
import pickle
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from autocomp.hardware_models import Device
from autocomp.hardware_models.fitting.fit import Observation, observe
from autocomp.primitives import trace
from autocomp.search_spaces import Knob, NetworkGraph, SearchSpace, Workload
from benchmarks import branching_networks as branching
from benchmarks import mindcv_networks, networks, pixel_networks

HERE = Path(__file__).parent
SHARED = HERE.parent.parent / "shared" / "hardware"

TOKENS = (64, 128, 256, 320, 384, 512)
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
    **pixel_networks.NETWORKS,
    **{f"bert_{tokens}": partial(branching.Bert, tokens) for tokens in TOKENS},
    **{f"bert_large_{tokens}": partial(branching.Bert, tokens, 24, 1024, 16) for tokens in TOKENS},
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
def graph(name: str, pixels: int = 224, builder: str = "own") -> NetworkGraph:
    """Traced once and kept in the temporary folder: tracing all takes some minutes. Builder: ``own`` or ``mindcv``."""
    autocomp = HERE.parent / "autocomp"
    traced = [*(autocomp / "primitives" / "tracing").glob("*.py"), *(autocomp / "search_spaces").glob("*.py")]
    builders = ("networks", "branching_networks", "pixel_networks", "mindcv_networks")
    read = [*(HERE / f"{name}.py" for name in builders), *sorted(traced)]
    sources = b"".join(path.read_bytes() for path in read)
    key = hashlib.sha256(sources).hexdigest()[:12]
    file = Path(tempfile.gettempdir()) / f"autocomp-graphs-{key}" / f"{builder}-{name}-{pixels}.pickle"
    if not file.exists():
        shape = _input(name, pixels)
        net = NETWORKS[name]() if builder == "own" else mindcv_networks.build(name)
        net.set_train(False)
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(pickle.dumps(trace(net, shape)))
    found: NetworkGraph = pickle.loads(file.read_bytes())
    return found


def _input(name: str, pixels: int) -> tuple[int, ...]:
    """An image, or the embedded tokens of BERT."""
    if not name.startswith("bert_"):
        return 1, 3, pixels, pixels
    return 1, int(name.rpartition("_")[2]), 1024 if "large" in name else 768


def builders(name: str) -> list[str]:
    """Who builds a network: this folder, mindcv, both, or nobody."""
    return ["own"] * (name in NETWORKS) + ["mindcv"] * mindcv_networks.has(name)


def uniform(some: NetworkGraph, batch: int, text: str = "float") -> Workload:
    """Every layer in one format."""
    knobs = (
        ()
        if text == "float"
        else tuple(Knob(f"format/{layer}", "", (layer,), ("float", text)) for layer in some.layers)
    )
    return SearchSpace(some, knobs).workload(np.ones((1, len(knobs)), int), batch)


FAMILIES = {  # by the beginnings of networks' names
    "dense": ("densenet", "googlenet", "inception"),
    "squeeze-excite": ("se_", "senet", "efficientnet", "mobilenet_v3", "ghostnet"),
    "grouped": ("resnext", "regnet", "cspresnext", "dpn"),
    "residual": ("resnet", "wide_resnet"),
    "plain": ("vgg", "alexnet", "squeezenet"),
    "depthwise": ("mobilenet", "mnasnet", "xception"),
    "shuffle": ("shufflenet",),
    "transformer": ("bert", "vit", "swin"),
    "large kernel": ("convnext",),
    "detection": ("yolo",),
    "segmentation": ("unet", "hrnet"),
}


def family(name: str) -> str:
    """Networks of one family are left out of a fit together."""
    return next(kind for kind, begins in FAMILIES.items() if name.startswith(begins))


FASTER_SIGMOID = ("yolox_s",)  # the source compiled it so, and no other network that has sigmoids


def ascend_networks(
    device: Device, chip: str = "Ascend310P3", precision: str = "fp16", chosen: Sequence[str] | None = None
) -> list[Observation]:
    """Rows of a chip, for each builder of their network: the chosen ones, or all but those with a faster sigmoid."""
    found = []
    for name, pixels, batch, milliseconds in ascend_rows(chip, precision):
        if name in FASTER_SIGMOID if chosen is None else name not in chosen:
            continue
        for builder in builders(name):
            workload = uniform(graph(name, pixels, builder), batch, "float" if precision == "fp16" else "w8a8")
            found.append(observe(device, workload, milliseconds * 1e-3, family(name)))
    return found


def ascend_rows(chip: str, precision: str) -> list[tuple[str, int, int, float]]:
    """Network, pixels, batch and milliseconds of the rows that say which network they measured."""
    found = dict.fromkeys(
        (*named, int(row["batch"]), float(row["ms_per_batch"]) * CHIPS.get(row["device"], 1))
        for file in ("ascend310p3_networks.csv", "ascend_networks_more.csv")
        for row in rows(HERE / "measurements" / file)
        if _chip(row) == chip and row["precision"].startswith(precision) and "TorchAIE" not in row["source"]
        for named in [_named(row)]
        if named is not None
    )
    return list(found)


def _chip(row: dict[str, str]) -> str:
    return row["device"].partition("x4")[0].partition("(")[0]


CHIPS = {"Ascend310(card?)": 4}  # chips of the card that share the rate, where the row does not say so


def _named(row: dict[str, str]) -> tuple[str, int] | None:
    """The network of a row, and its pixels; None where the source leaves them open."""
    name = row["arch"]
    if name == "vit_base":
        return _vit(row)
    if name == "swin":
        found = SWIN_LINES.get(int(row["source"].rpartition("#L")[2]), SWIN_BASE)
        return found, mindcv_networks.SWIN[found][0]
    return name, int(row["input"].rpartition("x")[2] or 224)


SWIN_BASE = "swin_base_patch4_window12_384"
SWIN_LINES = {  # lines of the source's tables -> the configuration that they name, where it is another one
    **dict.fromkeys((256, 257), "swin_large_patch4_window12_384"),
    **dict.fromkeys((258, 259), "swin_large_patch4_window7_224"),
}


VIT_RATES = {  # images a second -> patch and pixels, as the README of the same folder names them
    **dict.fromkeys(("342.34", "655.67", "599.02"), ("vit_b_16_224", 224)),
    **dict.fromkeys(("108.87", "151.01", "139.4"), ("vit_b_16_384", 384)),
    **dict.fromkeys(("431.89", "1439.61", "1593.47"), ("vit_b_32_224", 224)),
    **dict.fromkeys(("267.01", "587.07", "596.55"), ("vit_b_32_384", 384)),
}


def _vit(row: dict[str, str]) -> tuple[str, int] | None:
    return VIT_RATES.get(row["fps"])


def ascend_bert(device: Device, size: str = "base") -> list[Observation]:
    """BERT-base or BERT-large."""
    found, name = [], "bert" if size == "base" else f"bert_{size}"
    for row in rows(HERE / "measurements" / f"ascend310p3_bert_{size}.csv"):
        workload = uniform(graph(f"{name}_{row['seq']}"), int(row["batch"]))
        found.append(observe(device, workload, float(row["ms"]) * 1e-3, "transformer"))
    return found


def t4_networks(device: Device, precision: str) -> list[Observation]:
    """Precision is fp16 or int8; batch 1. Sorted by network."""
    found = []
    for row in sorted(rows(HERE / "measurements" / "nvidia_t4_fp16_int8.csv"), key=lambda row: row["model"]):
        if row["precision"] == precision:
            workload = uniform(graph(row["model"]), 1, "float" if precision == "fp16" else "w8a8")
            found.append(observe(device, workload, float(row["latency_ms"]) * 1e-3, family(row["model"])))
    return found


def h100_rows() -> list[tuple[str, int, float]]:
    """Network, batch and milliseconds in fp16, sorted; of the runtimes the faster one."""
    fastest: dict[tuple[str, int], float] = {}
    for row in rows(HERE / "measurements" / "h100_networks.csv"):
        key = row["net"], int(row["batch"])
        if row["dtype"] == "fp16":
            fastest[key] = min(fastest.get(key, float("inf")), float(row["median_ms"]))
    return [(*key, milliseconds) for key, milliseconds in sorted(fastest.items())]


def h100_networks(device: Device) -> list[Observation]:
    found = []
    for name, batch, milliseconds in h100_rows():
        for builder in builders(name)[:1]:
            workload = uniform(graph(name, 224, builder), batch)
            found.append(observe(device, workload, milliseconds * 1e-3, family(name)))
    return found


def a100_networks(device: Device) -> list[Observation]:
    found = []
    for row in rows(HERE / "measurements" / "a100_tensorrt_int8.csv"):
        workload = uniform(graph(row["net"]), int(row["batch"]), "w8a8")
        found.append(observe(device, workload, float(row["median_ms"]) * 1e-3, family(row["net"])))
    return found


@cache
def widths(text: str) -> NetworkGraph:
    """ResNet-50 with "a,b" of its channels: a of all, b of those inside of blocks, rounded to whole channels."""
    outside, inside = map(float, text.split(","))
    whole = graph("resnet50")
    nodes = list(whole.nodes)
    for i, node in enumerate(whole.nodes):
        if node.kind == "input":
            continue
        source = nodes[node.inputs[0]].shape[1]
        if node.kind == "dense":
            nodes[i] = replace(node, weight_shape=(1000, source))
            continue
        channels = source
        if node.kind == "conv" and node.weight_shape is not None:
            channels = round(node.weight_shape[0] * (inside if _inside(whole, i) else outside))
            node = replace(node, weight_shape=(channels, source, *node.weight_shape[2:]))
        nodes[i] = replace(node, shape=(1, channels, *node.shape[2:]), units=np.full(channels, -1))
    return NetworkGraph(tuple(nodes), whole.outputs)


def _inside(whole: NetworkGraph, index: int) -> bool:
    """Whether another convolution of the block alone reads a convolution, after its BatchNorm and activation."""
    if whole.nodes[index].shape[1:3] == (64, 112):
        return False  # the first one
    while len(whole.consumers[index]) == 1:
        index = whole.consumers[index][0]
        if whole.nodes[index].kind not in ("batchnorm", "activation"):
            return whole.nodes[index].kind == "conv"
    return False
