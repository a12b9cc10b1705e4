"""A saved front with its network again: the samples that were calibrated on are stored beside the plans."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .front import ParetoSet
from .jobs import Choices, evaluator_of
from .primitives.channels import group_channels
from .primitives.export import written_whole
from .primitives.realise import Parameters, parameters_of
from .primitives.trace import trace
from .search_spaces import Format

if TYPE_CHECKING:
    from .deploy import NetworkDeployer

FILE = "network.npz"
SAMPLES = 8  # on which exported files are compared


def parameters_key(parameters: Parameters) -> str:
    """Changes with any weight."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(parameters):
        digest.update(f"{name}{parameters[name].shape};".encode())
        digest.update(np.ascontiguousarray(parameters[name]).data)
    return digest.hexdigest()


def store(folder: Path, deployer: NetworkDeployer) -> None:
    evaluator = deployer.evaluator
    space = evaluator.space
    arrays = {f"sample/{i}": x[:SAMPLES] for i, x in enumerate(evaluator.inputs)}
    arrays |= {f"calibration/{i}": x for i, x in enumerate(deployer.calibration)}
    formats = [knob for knob in space.knobs if knob.group is None]
    description = {
        "parameters": parameters_key(evaluator.parameters),
        "space": space.key,
        "whole": dict(space.graph.whole),
        "batch": deployer.batch,
        "primitives": list(dict.fromkeys(knob.primitive for knob in space.knobs)),
        "formats": list(formats[0].values) if formats else [],
        "granularity": deployer.granularity,
        "seed": evaluator.seed,
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
    description = json.loads(str(arrays["description"]))
    if parameters_key(parameters_of(net)) != description["parameters"]:
        raise ValueError(f"the front in {folder} was found for other weights than this network has")
    samples, calibration = _numbered(arrays, "sample"), _numbered(arrays, "calibration")
    graph = trace(net, samples)
    missing = {layer: why for layer, why in description["whole"].items() if layer not in graph.whole}
    if missing:
        graph = group_channels(graph, missing)
    formats = [Format.parse(text) for text in description["formats"]]
    choices = Choices(formats, description["granularity"], description["primitives"])
    evaluator = evaluator_of(net, graph, choices, samples, None, calibration, seed=description["seed"])
    if evaluator.space.key != description["space"]:
        raise ValueError(f"the front in {folder} was found in another search space: by another version, or network")
    deployer = NetworkDeployer(net, evaluator, calibration, description["batch"], description["granularity"])
    return ParetoSet.load(folder, deployer)


def _numbered(arrays: dict[str, np.ndarray], name: str) -> tuple[np.ndarray, ...]:
    return tuple(arrays[f"{name}/{i}"] for i in range(sum(key.startswith(f"{name}/") for key in arrays)))
