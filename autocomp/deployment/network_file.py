"""The file of a searched network next to its front: its samples, and the choices of its search space."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autocomp.evaluators import PlanEvaluator
from autocomp.primitives.choices import Choices
from autocomp.primitives.export.files import written_whole
from autocomp.primitives.numerics.plan_compressor import Parameters
from autocomp.primitives.registry import chosen
from autocomp.problem.jobs import Arrays

FILE = "network.npz"
SAMPLES = 8  # stored samples on which exported files are compared


@dataclass(frozen=True)
class SearchedNetwork:
    """calibration: the calibration samples of the evaluator. batch: the batch of MindIR files."""

    evaluator: PlanEvaluator
    calibration: Arrays
    choices: Choices
    batch: int

    def write(self, folder: Path) -> None:
        """Writes the file from which :func:`autocomp.deployment.restore.restore` makes the same search space again."""
        arrays = {f"sample/{i}": x[:SAMPLES] for i, x in enumerate(self.evaluator.inputs)}
        arrays |= {f"calibration/{i}": x for i, x in enumerate(self.calibration)}
        arrays |= {f"importance/{name}": values for name, values in self.choices.importance.items()}
        with written_whole(folder / FILE) as draft:
            np.savez_compressed(draft, description=np.array(json.dumps(self._description())), **arrays)

    def _description(self) -> dict[str, Any]:
        evaluator, space = self.evaluator, self.evaluator.space
        effective = {name for knob in space.knobs for name in (knob.primitive, *knob.every_primitive)}
        return {
            "parameters": parameters_key(evaluator.parameters),
            "space": space.key,
            "whole": dict(space.graph.whole),
            "batch": self.batch,
            "primitives": [name for name in chosen(self.choices) if name in effective],
            "by_value": True,
            "trains": self.choices.trains,
            "formats": list(map(str, self.choices.formats)),
            "low_formats": list(map(str, self.choices.low_formats)),
            "table_bits": list(self.choices.table_bits),
            "tied_tables": self.choices.tied_tables,
            "ranges_of_rows": self.choices.ranges_of_rows,
            "group_formats": list(map(str, self.choices.group_formats)),
            "paying": None if self.choices.paying is None else sorted(map(list, self.choices.paying)),
            "context": self.choices.context,
            "cache_bits": self.choices.cache_bits,
            "channel_divisor": self.choices.channel_divisor,
            "strict_divisor": self.choices.strict_divisor,
            "excluded": sorted(self.choices.excluded),
            "gains": self.choices.gains,
            "restrictions": [
                [sorted(layers), one.layers, one.formats, one.keep, one.primitives]
                for layers, one in self.choices.restrictions
            ],
            "float_layers": sorted(self.choices.float_layers),
            "symmetric": evaluator.symmetric,
            "int16_sums": evaluator.compressor.int16_sums,
            "quantizes_tensors": evaluator.quantizes_tensors,
            "seed": evaluator.seed,
            "synthetic": evaluator.synthetic,
            "calibrated_on_all": _same(evaluator.inputs, self.calibration),
        }


def parameters_key(parameters: Parameters) -> str:
    """Changes with every weight."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(parameters):
        digest.update(f"{name}{parameters[name].shape};".encode())
        digest.update(np.ascontiguousarray(parameters[name]).data)
    return digest.hexdigest()


def _same(some: Arrays, others: Arrays) -> bool:
    return all(len(a) == len(b) and np.array_equal(a, b) for a, b in zip(some, others, strict=True))
