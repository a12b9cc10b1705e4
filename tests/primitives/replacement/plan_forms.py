"""What tests of plans that change the network itself share: subjects, drawn plans, files and costs beside the changed
network's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autocomp.deployment.deploy import NetworkDeployer
from autocomp.evaluators.engines import MindSporeEngine
from autocomp.hardware_models import CostTables, device
from autocomp.primitives.choices import Choices
from autocomp.primitives.export.files import norm_error, run_mindir, run_onnx
from autocomp.primitives.tracing.platform import forward
from autocomp.problem.jobs import evaluator_of
from autocomp.search_spaces import Format, Plan
from tests.conftest import Subject

Made = tuple[Subject, Any]  # and its evaluator
FIELDS = ("macs", "params", "bops", "latency_ms", "memory_mb", "size_mb", "energy_mj")


def choices_of(primitives: Sequence[str], in_floats: bool) -> Choices:
    formats = ("w8", "w4") if in_floats else ("w8", "w8a8", "w4a8")
    return Choices([Format.parse(text) for text in formats], 4, tuple(primitives), quantizes_tensors=not in_floats)


def made_of(subject: Subject, choices: Choices) -> Made:
    return subject, evaluator_of(subject.net, subject.graph, choices, (subject.x,), None, (subject.x,))


def drawn(evaluator: Any, count: int, seed: int) -> list[Plan]:
    return [evaluator.space.decode(v) for v in evaluator.space.random(np.random.default_rng(seed), count)]


def check_elastic(made: Made, plans: Sequence[Plan]) -> None:
    """The elastic network computes what is evaluated."""
    subject, evaluator = made
    space, described = evaluator.space, evaluator.engine.described_outputs
    blocks, relus = tuple(space.blocks.values()), tuple(space.activations.values())
    other, x = MindSporeEngine(subject.net, subject.graph, described, space.chains, blocks, (), relus), (subject.x[:8],)
    for plan in plans:
        compressed = evaluator.compress(plan)
        assert norm_error(other.outputs(compressed, x)[0], evaluator.engine.outputs(compressed, x)[0]) < 1e-4, plan


def check_files(made: Made, deployer: NetworkDeployer, plan: Plan, folder: Path, gone: bytes) -> np.ndarray:
    """The converted network and its files compute what is evaluated, which differs from the float network; ``gone`` is
    in no file. The converted network's output for one sample."""
    evaluator, x = made[1], (made[0].x[:1],)
    expected = forward(deployer.net(plan), x, graph=False)[0]
    assert norm_error(evaluator.engine.outputs(evaluator.compress(plan), x)[0], expected) < 1e-4
    assert norm_error(expected, evaluator.engine.outputs(evaluator.compress(Plan()), x)[0]) > 1e-2
    for ending, run in ((".onnx", run_onnx), (".mindir", run_mindir)):
        path = folder / f"net{ending}"
        deployer.export(plan, path)
        assert norm_error(run(path, x)[0], expected) < 1e-4, ending
        assert gone not in path.read_bytes(), ending
    return expected


def cost_errors(space: Any, name: str, count: int) -> dict[str, np.ndarray]:
    """Of each cost, (count,): how far the space's tables are from the changed network's own costs, as a share."""
    chip, vectors = device(name), space.random(np.random.default_rng(6), count)
    tables = CostTables(chip, space, 2)(vectors)
    alone = [chip.costs(space.workload(vector, 2).specialised) for vector in vectors]
    expected = {field: np.array([float(getattr(cost, field)[0]) for cost in alone]) for field in FIELDS}
    return {field: np.abs(getattr(tables, field) / expected[field] - 1) for field in FIELDS}
