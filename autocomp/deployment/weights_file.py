"""The weights of a compressed network as a ``.safetensors`` file, with what its structure needs: the plan, which
channels stay, and the shapes of its inputs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from autocomp.primitives.export.files import WEIGHTS
from autocomp.search_spaces import Plan

Arrays = tuple[np.ndarray, ...]
VERSION = "1"


@dataclass(frozen=True)
class StoredWeights:
    """arrays: by the names of the compressed network's parameters. kept: (units,) bool; None where the plan says it.
    inputs: shape, with a batch of 1, and NumPy's type of each. whole: the layers whose channels the search did not cut,
    with reasons: they are none of the units.
    """

    plan: Plan
    arrays: dict[str, np.ndarray]
    inputs: tuple[tuple[tuple[int, ...], str], ...]
    kept: np.ndarray | None = None
    whole: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls, net: Any, plan: Plan, inputs: Arrays, kept: np.ndarray | None, whole: Mapping[str, str]
    ) -> StoredWeights:
        arrays = {parameter.name: np.array(parameter.asnumpy(), order="C") for parameter in net.get_parameters()}
        return cls(plan, arrays, tuple(((1, *x.shape[1:]), x.dtype.name) for x in inputs), kept, whole)

    def write(self, path: Path) -> None:
        kept = "" if self.kept is None else "".join("1" if unit else "0" for unit in self.kept)
        described = {"autocomp": VERSION, "plan": str(self.plan), "kept": kept, "inputs": json.dumps(self.inputs)}
        described["whole"] = json.dumps(dict(self.whole))
        save_file(self.arrays, path, metadata=described)

    @classmethod
    def read(cls, path: Path) -> StoredWeights:
        """FileNotFoundError for no file, ValueError for a file that ``write`` did not write."""
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {path}")
        try:
            with safe_open(path, "numpy") as file:
                described = file.metadata() or {}
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            inputs = tuple((tuple(shape), dtype) for shape, dtype in json.loads(described["inputs"]))
            kept = np.array([unit == "1" for unit in described["kept"]]) if described["kept"] else None
            whole = json.loads(described.get("whole", "{}"))  # earlier versions wrote none
            return cls(Plan.parse(described["plan"]), arrays, inputs, kept, dict(whole))
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} must hold weights that autocomp exported, but it lacks {error}") from error

    def examples(self) -> Arrays:
        """Inputs of these shapes: noise, or zeros where they are integers."""
        rng = np.random.default_rng(0)
        return tuple(
            rng.standard_normal(shape).astype(dtype) if np.dtype(dtype).kind == "f" else np.zeros(shape, dtype)
            for shape, dtype in self.inputs
        )


def holds_weights(path: Any) -> bool:
    """Whether the path is that of weights alone."""
    return isinstance(path, (str, os.PathLike)) and Path(path).suffix.lower() == WEIGHTS
