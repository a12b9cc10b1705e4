"""A fine-tuned network as a file: the trained parameters, their plan and their measurement."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autocomp.evaluators import Measurement
from autocomp.primitives.export.files import written_whole
from autocomp.primitives.numerics.plan_compressor import Parameters
from autocomp.process.bounded_files import parse_json, read_arrays
from autocomp.search_spaces import Plan

PREFIX = "parameter/"


@dataclass(frozen=True)
class TrainedWeights:
    """The trained parameters of one plan.

    plan: the plan whose network was trained, by the quantizer ``algorithm``. parameters: by name, as they were trained.
    measurement: of the network after training. steps: that were made in all; 0 where an older version stored none.
    """

    plan: Plan
    algorithm: str
    parameters: Parameters
    measurement: Measurement
    steps: int = 0

    def write(self, path: Path) -> None:
        """Writes the file completely or not at all."""
        description: dict[str, Any] = {
            "plan": str(self.plan),
            "algorithm": self.algorithm,
            "measurement": self.measurement.to_json(),
        }
        description["steps"] = self.steps
        arrays = {PREFIX + name: array for name, array in self.parameters.items()}
        with written_whole(path) as draft:
            np.savez_compressed(draft, description=np.array(json.dumps(description)), **arrays)

    @classmethod
    def read(cls, path: Path) -> TrainedWeights:
        """FileNotFoundError for no file, ValueError for a file that ``write`` did not write."""
        try:
            file = read_arrays(path)
            description = parse_json(str(file["description"]), "the description")
            arrays = {name.removeprefix(PREFIX): array for name, array in file.items() if name.startswith(PREFIX)}
            measurement = Measurement.from_json(description["measurement"])
            plan, steps = Plan.parse(description["plan"]), int(description.get("steps", 0))
            return cls(plan, description["algorithm"], arrays, measurement, steps)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} must hold a fine-tuned network, but it cannot be read: {error}") from error


def file_of(plan: Plan) -> str:
    """The name of the plan's file in the folder of a front."""
    return f"tuned-{plan.key}.npz"
