"""Which scales of layers' inputs a search offers: SmoothQuant's and AWQ's, where they pay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from autocomp.evaluators.calibration import input_scalings
from autocomp.evaluators.engines import Arrays, Engine
from autocomp.primitives.choices import Choices
from autocomp.primitives.numerics.divided_inputs import DYNAMIC, SMOOTH, InputScaling, Key
from autocomp.primitives.numerics.plan_compressor import CompressedWeights
from autocomp.primitives.numerics.scale_takers import shared_inputs
from autocomp.primitives.registry import AUTOMATIC_DIVIDING, chosen, dividing
from autocomp.process.deadline import Deadline
from autocomp.search_spaces import NetworkGraph

PAYS, ROWS_PAY = 0.8, 0.5  # of the error of the layers' outputs, at which scales are offered by themselves


def scalings_of(
    engine: Engine,
    graph: NetworkGraph,
    plain: CompressedWeights,
    calibration: Arrays,
    choices: Choices,
    seed: int,
    deadline: Deadline | None = None,
) -> dict[Key, InputScaling]:
    """Those of the primitives that are chosen from; with "auto" of networks with attention alone. deadline: see
    :func:`autocomp.evaluators.calibration.input_scalings`."""
    names = [name for name in chosen(choices) if name in dividing()]
    if choices.primitives == "auto":
        names = [*AUTOMATIC_DIVIDING] if any(node.kind == "softmax" for node in graph.nodes) else []
    names = [name for name in names if name != DYNAMIC or choices.ranges_of_rows]
    offers = [(name, some) for name in names for some in (*choices.formats, *choices.group_formats)]
    return input_scalings(engine, graph, plain, calibration, offers, seed, choices.symmetric, deadline)


def without_scales(graph: NetworkGraph, scalings: Mapping[Key, InputScaling]) -> tuple[str, ...]:
    """A note where the time was short, so that scales of some inputs were not compared."""
    scaled = {layer for layer, _, _ in scalings}
    inputs = shared_inputs(graph)
    missing = [one for one in inputs if scaled and one.layers[0] not in scaled]
    if not missing:
        return ()
    return (
        f"the time limit left no time to compare scales for the inputs of {len(missing)} of {len(inputs)} layers, from "
        f"{missing[0].layers[0]} on: they are rounded without",
    )


def with_paying(choices: Choices, scalings: Mapping[Key, InputScaling]) -> Choices:
    """With "auto": scales are offered where they lower the error of the layers' outputs to ``PAYS`` of what it is
    without, or less; ranges for each row, which take more time, where they lower it to ``ROWS_PAY`` of what scales
    alone leave."""
    if choices.primitives != "auto" or not scalings:
        return choices
    gains = {key: scaling.gain for key, scaling in scalings.items()}
    alone = {key: gains.get((*key[:2], SMOOTH), 1.0) for key in gains if key[2] == DYNAMIC}
    most = {key: min(PAYS, ROWS_PAY * alone.get(key, 1.0)) if key in alone else PAYS for key in gains}
    return replace(choices, paying=frozenset(key for key, gain in gains.items() if gain <= most[key]))
