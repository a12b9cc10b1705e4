"""Loads a saved front together with its network; the calibration samples are stored next to the plans."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from autocomp.evaluators import PlanEvaluator, Scores, score, synthetic_inputs
from autocomp.evaluators.accuracy import AGREEMENT, FIDELITY
from autocomp.evaluators.user_metric import UserMetric
from autocomp.hardware_models import Device
from autocomp.hardware_models.generation import costs_of
from autocomp.primitives.choices import Choices
from autocomp.primitives.numerics.plan_compressor import parameters_of
from autocomp.primitives.restrictions import Restrict
from autocomp.primitives.tracing.channels import left_whole
from autocomp.primitives.tracing.tracer import trace
from autocomp.problem.data import Samples
from autocomp.problem.jobs import RepeatedCosts, as_taken, evaluator_of
from autocomp.process.bounded_files import parse_json, read_arrays
from autocomp.results.front import ParetoSet
from autocomp.results.point import Point
from autocomp.results.stored import read
from autocomp.results.wording import percent
from autocomp.search_spaces import Format
from autocomp.study.ledger import SCORES, Ledger

from .deploy import NetworkDeployer
from .file_sizes import FileSizes
from .network_file import FILE, parameters_key
from .resolutions.searches import restored
from .resolving import ScoreResolver

DESCRIBED = ("parameters", "space", "whole", "batch", "primitives", "formats", "seed")
SAME = 1e-6  # largest difference of accuracies on the same samples


def restore(net: Any, folder: str | Path, given: Samples | None = None, measure: UserMetric | None = None) -> ParetoSet:
    """The front, with points that can be applied to ``net``; ValueError where that is another network.

    given: samples to evaluate on: those of the search, or the samples that those were evenly taken from; ValueError for
        other samples. measure: the user's metric, if the search had one.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        read(Path(folder))  # raises where there is no front at all
        raise FileNotFoundError(f"{folder} holds no {FILE}: the front was saved without its network")
    arrays = read_arrays(path)
    description = _description(arrays, path)
    if parameters_key(parameters_of(net)) != description["parameters"]:
        raise ValueError(f"the front in {folder} was found for other weights than this network has")
    samples, calibration = _numbered(arrays, "sample"), _numbered(arrays, "calibration")
    graph = trace(net, samples)
    graph = left_whole(graph, description["whole"])
    formats = [Format.parse(text) for text in description["formats"]]
    channel_divisor, strict_divisor = _divisor(description)
    symmetric = description.get("symmetric", False)
    excluded = frozenset(description.get("excluded", ()))
    quantizes_tensors = description.get("quantizes_tensors", False)  # older versions rounded layers' inputs alone
    gains = description.get("gains")
    float_layers = frozenset(description.get("float_layers", ()))
    paying = description.get("paying")
    choices = Choices(
        formats,
        channel_divisor,
        _primitives(description),
        symmetric,
        strict_divisor,
        excluded,
        quantizes_tensors,
        description.get("trains", False),
        _importance(arrays),
        None if gains is None else {name: tuple(values) for name, values in gains.items()},
        float_layers,
        _restrictions(description),
        tuple(map(Format.parse, description.get("low_formats", ()))),
        tuple(description.get("table_bits", ())),  # older versions left embeddings in float
        description.get("tied_tables", False),
        None if paying is None else frozenset((layer, some, name) for layer, some, name in paying),
        description.get("ranges_of_rows", False),
        tuple(map(Format.parse, description.get("group_formats", ()))),
        description.get("context"),
        description.get("cache_bits"),
        int16_sums=description.get("int16_sums", True),
    )
    seed, synthetic = description["seed"], description.get("synthetic", False)
    labels = None
    if given is not None:
        given = given.take(_samples_of(folder))
        samples, labels = as_taken(net, given), given.y
    elif synthetic:
        samples = calibration if description.get("calibrated_on_all", False) else synthetic_inputs(graph, seed)
    metric = measure if given is not None else None
    evaluator = evaluator_of(
        net, graph, choices, samples, labels, calibration, synthetic, seed, metric, _compared_by(folder, given)
    )
    if evaluator.space.key != description["space"]:
        raise ValueError(f"the front in {folder} was found in another search space: by another version, or network")
    with_samples, batch = given is not None or synthetic, description["batch"]
    resolver = _resolver(Path(folder), evaluator, batch, with_samples)
    sizes = None if resolver is None else FileSizes(resolver.device, evaluator.space, batch)
    deployer = NetworkDeployer(net, evaluator, calibration, choices, batch, with_samples, sizes)
    deployer.lower += restored(Path(folder), deployer, lambda scaled, own: restore(scaled, own, given, measure))
    front = ParetoSet.load(folder, deployer, resolver)
    if given is not None:
        _check_samples(front.float_point, evaluator)
    return front


def _description(arrays: dict[str, np.ndarray], path: Path) -> dict[str, Any]:
    """ValueError where it lacks what :func:`store` writes."""
    found = parse_json(str(arrays.get("description", "")), f"the description in {path}")
    lacking = [name for name in DESCRIBED if not isinstance(found, dict) or name not in found]
    if lacking or "sample/0" not in arrays or "calibration/0" not in arrays:
        lacks = lacking[0] if lacking else "samples"
        raise ValueError(f"{path} must be what ParetoSet.save writes, but it lacks {lacks}")
    return dict(found)


def _primitives(description: dict[str, Any]) -> list[str]:
    """Names of the primitives. What earlier versions called rtn rounded below 8 bits as adaround does."""
    names = list(description["primitives"])
    return names if description.get("by_value") or "rtn" not in names else [*names, "adaround"]


def _restrictions(description: dict[str, Any]) -> tuple[tuple[frozenset[str], Restrict], ...]:
    found = description.get("restrictions", ())  # earlier versions had none
    return tuple((frozenset(layers), Restrict(*arguments)) for layers, *arguments in found)


def _importance(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The importance of channels that was measured, by primitive."""
    return {key.removeprefix("importance/"): array for key, array in arrays.items() if key.startswith("importance/")}


def _divisor(description: dict[str, Any]) -> tuple[int, bool]:
    """channel_divisor and strict_divisor. Fronts of earlier versions have other keys."""
    if "channel_divisor" in description:
        return description["channel_divisor"], description["strict_divisor"]
    older = {key[:5]: value for key, value in description.items() if key.startswith(("gran", "whole_"))}
    return older["granu"], older.get("whole", False)


def _resolver(folder: Path, evaluator: PlanEvaluator, batch: int, with_samples: bool) -> ScoreResolver | None:
    """None for a front that was saved without scores and device."""
    saved = read(folder).resolver
    if saved is None:
        return None

    def measured() -> Scores:
        if not with_samples:
            raise ValueError(
                "this front has no scores and needs the data of the search: use autocomp.load(folder, net, data)"
            )
        return score(evaluator)

    space, chip = evaluator.space, Device.parse(saved["device"], str(folder))
    ledger = Ledger(space)
    ledger.remember(SCORES, saved["scores"] or "")
    generates = (read(folder).settings.get(name) for name in ("context", "cache_bits"))
    costs = RepeatedCosts(costs_of(chip, space, batch, *generates))
    known = evaluator if with_samples else None
    return ScoreResolver(space, costs, chip, measured, known, ledger)


def _samples_of(folder: str | Path) -> int:
    """The number of samples that the search evaluated on."""
    return next(record.measurement.samples for record in read(Path(folder)).records if not record.plan)


def _compared_by(folder: str | Path, given: Samples | None) -> str:
    """As the search compared plans with the float network, where it had samples without labels."""
    if given is None or given.y is not None:
        return ""
    metric = next(record.measurement.metric for record in read(Path(folder)).records if not record.plan)
    return metric if metric in (AGREEMENT, FIDELITY) else ""


def _check_samples(of_float: Point, evaluator: PlanEvaluator) -> None:
    found = evaluator.plain_accuracy(), evaluator.metric, len(evaluator.inputs[0])
    expected = of_float.accuracy, of_float.metric, of_float.samples
    if found[1:] != expected[1:] or abs(found[0] - expected[0]) > SAME:
        raise ValueError(
            "data must be what the front was searched with, where the float network has "
            f"{_said(*expected)}, but got data where it has {_said(*found)}"
        )


def _said(accuracy: float, metric: str, samples: int) -> str:
    return f"{metric} {percent(accuracy)} on {samples} samples"


def _numbered(arrays: dict[str, np.ndarray], name: str) -> tuple[np.ndarray, ...]:
    return tuple(arrays[f"{name}/{i}"] for i in range(sum(key.startswith(f"{name}/") for key in arrays)))
