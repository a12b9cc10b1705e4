"""The weights of a trained elastic network as a file."""

from __future__ import annotations

import json
import logging
from dataclasses import astuple
from pathlib import Path

import numpy as np

from autocomp.evaluators.elastic.training import ElasticWeights
from autocomp.primitives.export.files import written_whole
from autocomp.primitives.numerics.quantizers import ActivationQuantizer
from autocomp.process.bounded_files import parse_json, read_arrays

log = logging.getLogger("autocomp")

PREFIX = "parameter/"


def write_elastic(path: Path, key: str, trained: ElasticWeights) -> None:
    """Writes the file completely or not at all. key: of the training."""
    ranges = [[layer, bits, *astuple(found)] for (layer, bits), found in trained.ranges.items()]
    description = {"key": key, "ranges": ranges, "steps": trained.steps, "samples": trained.samples}
    arrays = {PREFIX + name: array for name, array in trained.parameters.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as draft, draft.open("wb") as file:
        np.savez_compressed(file, description=np.array(json.dumps(description)), **arrays)


def read_elastic(path: Path, key: str) -> ElasticWeights | None:
    """None where there is no file, or one of another training, which is then written anew."""
    if not path.exists():
        return None
    try:
        file = read_arrays(path)
        description = parse_json(str(file["description"]), "the description")
        if description["key"] != key:
            log.warning("%s holds an elastic network of another training: it is written anew", path)
            return None
        ranges = {
            (str(layer), int(bits)): ActivationQuantizer(float(scale), int(zero_point), int(own))
            for layer, bits, scale, zero_point, own in description["ranges"]
        }
        parameters = {name.removeprefix(PREFIX): array for name, array in file.items() if name.startswith(PREFIX)}
        return ElasticWeights(parameters, ranges, int(description["steps"]), int(description["samples"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} must hold an elastic network, but it cannot be read: {error}") from error
