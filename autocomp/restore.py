"""A saved front with its network again: the numbers that calibration found are stored beside the plans."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .front import ParetoSet
from .primitives.channels import group_channels
from .primitives.export import written_whole
from .primitives.quantizers import ActivationQuantizer
from .primitives.realise import Parameters, Realisation, Realiser, parameters_of
from .primitives.registry import search_space
from .primitives.trace import trace
from .search_spaces import Format, Plan

if TYPE_CHECKING:
    from .deploy import NetworkDeployer

FILE = "network.npz"
SAMPLES = 4


def parameters_key(parameters: Parameters) -> str:
    """Changes with any weight."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(parameters):
        digest.update(f"{name}{parameters[name].shape};".encode())
        digest.update(np.ascontiguousarray(parameters[name]).data)
    return digest.hexdigest()


def store(folder: Path, deployer: NetworkDeployer, plans: Iterable[Plan]) -> None:
    arrays: dict[str, np.ndarray] = {f"sample/{i}": x[:SAMPLES] for i, x in enumerate(deployer.samples)}
    ranges: dict[str, dict[str, list[float]]] = {}
    for plan in plans:
        realisation = deployer.realise(plan)
        for layer, (mean, variance) in realisation.statistics.items():
            arrays[f"mean/{plan.key}/{layer}"], arrays[f"variance/{plan.key}/{layer}"] = mean, variance
        ranges[plan.key] = {
            layer: [state.activation.scale, state.activation.zero_point]
            for layer, state in realisation.layers.items()
            if state.activation is not None
        }
    keep = [knob for knob in deployer.space.knobs if knob.group is not None]
    formats = [knob for knob in deployer.space.knobs if knob.group is None]
    description = {
        "parameters": parameters_key(deployer.parameters),
        "space": deployer.space.key,
        "whole": dict(deployer.space.graph.whole),
        "batch": deployer.batch,
        "primitives": list(dict.fromkeys(knob.primitive for knob in deployer.space.knobs)),
        "formats": list(formats[0].values) if formats else [],
        "granularity": max((knob.granularity for knob in keep), default=1),
        "ranges": ranges,
    }
    with written_whole(folder / FILE) as draft:
        np.savez_compressed(draft, description=np.array(json.dumps(description)), **arrays)


def restore(net: Any, folder: str | Path) -> ParetoSet:
    """The front, its points able to be carried out on ``net``; ValueError where that is another network."""
    from .deploy import NetworkDeployer

    path = Path(folder) / FILE
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no {FILE}: the front was saved without its network")
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    description = json.loads(str(arrays.pop("description")))
    samples = tuple(arrays[f"sample/{i}"] for i in range(sum(name.startswith("sample/") for name in arrays)))
    parameters = parameters_of(net)
    if parameters_key(parameters) != description["parameters"]:
        raise ValueError(f"the front in {folder} was found for other weights than this network has")
    graph = trace(net, samples)
    missing = {layer: why for layer, why in description["whole"].items() if layer not in graph.whole}
    if missing:
        graph = group_channels(graph, missing)
    chosen = [Format.parse(text) for text in description["formats"]]
    space = search_space(graph, parameters, chosen, description["granularity"], description["primitives"])
    if space.key != description["space"]:
        raise ValueError(f"the front in {folder} was found in another search space: by another version, or network")
    realise = _Stored(Realiser(space, parameters), arrays, description["ranges"])
    return ParetoSet.load(folder, NetworkDeployer(net, space, parameters, realise, samples, description["batch"]))


class _Stored:
    """Plans in numbers, with the stored ranges and statistics."""

    def __init__(self, realiser: Realiser, arrays: dict[str, np.ndarray], ranges: dict[str, Any]) -> None:
        self.realiser, self.arrays, self.ranges = realiser, arrays, ranges

    def __call__(self, plan: Plan) -> Realisation:
        if plan.key not in self.ranges:
            raise ValueError(f"only the points of a saved front can be carried out, and the plan {plan} is none")
        formats = self.realiser.space.formats(plan)
        self.realiser.ranges = {
            (layer, formats[layer].activation_bits): ActivationQuantizer(
                float(scale), int(zero_point), formats[layer].activation_bits
            )
            for layer, (scale, zero_point) in self.ranges[plan.key].items()
        }
        start = f"mean/{plan.key}/"
        layers = [name.removeprefix(start) for name in self.arrays if name.startswith(start)]
        return self.realiser(plan).with_statistics(
            {layer: (self.arrays[start + layer], self.arrays[f"variance/{plan.key}/{layer}"]) for layer in layers}
        )
