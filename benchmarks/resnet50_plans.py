"""mindcv's ResNet-50 under plans over all knobs, in every form: ``nas.py --resnet50``.

Needs ``pip install --no-deps mindcv==0.3.0``. Random weights, scales and statistics, images of 64 x 64. The plans are
drawn over channels, formats of weights and of inputs, all replacements of layers and skipped blocks; in the first half
of them inputs stay in floats. For each plan the elastic network, the converted one, and its MindIR, ONNX and
safetensors files are compared with what the search evaluates: relative errors in the 2-norm, allowed are 1e-4, and 5 %
where inputs are rounded. Four processes run one after the other, since compiled networks stay in memory.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

PLANS, PROCESSES, SIZE, SEED = 20, 4, 64, 0
REPLACED, SKIPPED = 0.5, 0.3  # of the layers and of the blocks that can be, in a drawn plan
EXACT, ROUNDED = 1e-4, 0.05
FORMS = ("elastic", "converted", "onnx", "mindir", "safetensors")
Row = tuple[str, bool, dict[str, float]]


def run(options: argparse.Namespace) -> None:
    count = 4 if options.quick else PLANS
    parts = np.array_split(np.arange(count), 1 if options.quick else PROCESSES)
    rows: list[Row] = []
    print(f"{'plan':>4} {'inputs':8} " + " ".join(f"{form:>11}" for form in FORMS) + "  choices")
    for part in parts:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            for row in pool.submit(agreements, count, part.tolist()).result():
                rows.append(row)
                errors = " ".join(f"{row[2][form]:11.1e}" for form in FORMS)
                print(f"{len(rows):>4} {'rounded' if row[1] else 'floats':8} {errors}  {row[0]}", flush=True)
    agree = sum(max(errors.values()) <= (ROUNDED if rounded else EXACT) for _, rounded, errors in rows)
    print(f"plans of ResNet-50 that agree in every form: {agree} of {len(rows)}")


def agreements(count: int, numbers: list[int]) -> list[Row]:
    """Of the plans with these numbers, of ``count``."""
    from mindcv_networks import build
    from zoo import randomised

    from autocomp.evaluators.engines import MindSporeEngine
    from autocomp.primitives.choices import Choices
    from autocomp.primitives.tracing.tracer import trace
    from autocomp.problem.jobs import evaluator_of
    from autocomp.search_spaces import Format

    net = randomised(build("resnet50"), np.random.default_rng(SEED))
    x = np.random.default_rng(1).standard_normal((16, 3, SIZE, SIZE)).astype(np.float32)
    graph = trace(net, (x[:1],))
    choices = Choices(
        [Format.parse(text) for text in ("w8", "w8a8", "w4")], 16, ("channel-pruning", "rtn", "operators", "depth")
    )
    evaluator = evaluator_of(net, graph, choices, (x[:4],), None, (x,))
    space = evaluator.space
    plans = drawn(space, count)
    print(f"{len(space.knobs)} knobs, 10^{space.log10_size:.0f} plans", flush=True)
    chains: dict[str, list[Any]] = {}
    for number in numbers:
        for layer, chain in space.structure(plans[number]).items():
            chains[layer] = [*chains.get(layer, []), *([] if chain in chains.get(layer, []) else [chain])]
    blocks = tuple(space.blocks.values())
    elastic = MindSporeEngine(net, graph, evaluator.engine.described_outputs, chains, blocks)
    return [compared(net, evaluator, choices, elastic, plans[number], (x[:2],)) for number in numbers]


def drawn(space: Any, count: int) -> list[Any]:
    rng = np.random.default_rng(SEED)
    vectors = space.random(rng, count)
    for position, knob in enumerate(space.knobs):
        if knob.kind in ("structure", "skip"):
            vectors[rng.random(count) > (REPLACED if knob.chains else SKIPPED), position] = 0
        if knob.kind == "format":
            floats = [i for i, form in enumerate(knob.formats) if not form.in_integers]
            vectors[: count // 2, position] = rng.choice(floats, count // 2)
    return [space.decode(vector) for vector in vectors]


def compared(net: Any, evaluator: Any, choices: Any, elastic: Any, plan: Any, x: tuple[np.ndarray, ...]) -> Row:
    import autocomp
    from autocomp.deployment.deploy import NetworkDeployer
    from autocomp.primitives.export.files import norm_error, run_mindir, run_onnx
    from autocomp.primitives.tracing.platform import forward

    started = time.monotonic()
    compressed = evaluator.compress(plan)
    expected = evaluator.engine.outputs(compressed, x)[0]
    deployer = NetworkDeployer(net, evaluator, x, choices, batch=len(x[0]))
    outputs = {
        "elastic": elastic.outputs(compressed, x)[0],
        "converted": forward(deployer.net(plan), x, graph=False)[0],
    }
    with tempfile.TemporaryDirectory() as folder:
        paths = {form: Path(folder) / f"net.{form}" for form in FORMS[2:]}
        for path in paths.values():
            deployer.export(plan, path)
        outputs |= {"onnx": run_onnx(paths["onnx"], x)[0], "mindir": run_mindir(paths["mindir"], x)[0]}
        outputs["safetensors"] = forward(autocomp.rebuild(net, paths["safetensors"]), x, graph=False)[0]
    kinds = [name.partition("/")[0] for name in plan]
    values = {str(value).partition("@")[0] for name, value in plan.items() if name.startswith("structure/")}
    told = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
    rounded = any(state.activation is not None for state in compressed.layers.values())
    seconds = f"{time.monotonic() - started:.0f} s"
    return f"{told}; {' '.join(sorted(values))}; {seconds}", rounded, {
        form: norm_error(found, expected) for form, found in outputs.items()
    }  # fmt: skip
