"""What the replacement of layers costs in accuracy, without training: every value of ``structure/<layer>``.

    python benchmarks/replacements.py --shared ../shared [--images 500] [--joint] [--values separable2,...] [--quick]

ResNet-20 for CIFAR-10 (JPEG images). Each value of each layer alone, fitted on 256 training images; of each value the
mean over the layers that have all of them: the share of the layer's multiply-accumulates, the points of accuracy lost
on test images, and the layer on which it loses most. 3x3 convolutions between the first and the last layer have all.

``--joint``: each value in all these layers at once, as a search evaluates it, and with the layers fitted one after the
other to what they give in the whole network, as before a training.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from cifar import Cifar

from autocomp.evaluators import PlanEvaluator
from autocomp.primitives.choices import Choices
from autocomp.primitives.tracing.tracer import trace
from autocomp.primitives.verification.refit import to_fit_on
from autocomp.primitives.verification.refit_plan import refitted_plan
from autocomp.problem.jobs import evaluator_of
from autocomp.search_spaces import Format, Knob, Plan, Value, split_value

CALIBRATED = 256
SHOWN = "separable2"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder with data/ and models/")
    parser.add_argument("--images", type=int, default=500, help="of the test set, the first")
    parser.add_argument("--joint", action="store_true", help="in all layers at once")
    parser.add_argument("--values", default="", help="with --joint these alone, separable2 among them")
    parser.add_argument("--quick", action="store_true", help="100 test images")
    options = parser.parse_args()
    cifar = Cifar(options.shared)
    net, seen = cifar.network(), (cifar.images("train", CALIBRATED).x,)
    test = cifar.images("test", 100 if options.quick else options.images)
    graph = trace(net, (seen[0][:1],))
    choices = Choices([Format.parse("w8")], 8, "operators")
    evaluator = evaluator_of(net, graph, choices, (test.x,), test.y, seen)
    whole = evaluator.evaluate(Plan({})).accuracy
    assert whole is not None
    knobs = [knob for knob in evaluator.space.knobs if knob.kind == "structure"]
    most = max(len(knob.values) for knob in knobs)
    print(f"float {whole:.4f} on {len(test.x)} test images; {sum(len(k.values) == most for k in knobs)} layers")
    if options.joint:
        joint(evaluator, [knob for knob in knobs if len(knob.values) == most], seen, whole, options.values.split(","))
        return
    rows: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
    for knob in knobs:
        if len(knob.values) == most:
            (layer,) = knob.layers
            for value in knob.values[1:]:
                macs = sum(node.macs for node in knob.chains[value].nodes) / graph.nodes[graph.layers[layer]].macs
                accuracy = evaluator.evaluate(Plan({knob.name: value})).accuracy
                assert accuracy is not None
                rows[str(split_value(value)[0])].append((macs, whole - accuracy, layer))
    print(f"{'value':12} {'MACs':>6} {'points lost':>12} {'most':>6}  where")
    for value, found in sorted(rows.items(), key=lambda item: -np.mean([macs for macs, _, _ in item[1]])):
        macs, lost = np.mean([row[:2] for row in found], axis=0)
        _, worst, where = max(found, key=lambda row: row[1])
        print(f"{value:12} {macs:6.3f} {100 * lost:12.2f} {100 * worst:6.2f}  {where}", flush=True)
    print(f"lost by {SHOWN} in one layer: {100 * np.mean([lost for _, lost, _ in rows[SHOWN]]):.2f} points")


def joint(
    evaluator: PlanEvaluator, knobs: Sequence[Knob], seen: tuple[np.ndarray, ...], whole: float, chosen: Sequence[str]
) -> None:
    """Each value in the layers of these knobs at once; chosen: names of values, or "" for all."""
    plain, graph = evaluator.compress(Plan({})), evaluator.space.graph
    labels, lost = evaluator.labels, {}
    print(f"{'value':12} {'MACs':>6} {'points lost':>12} {'fitted':>7} {'seconds':>8}")
    values = [value for value in knobs[0].values[1:] if chosen == [""] or split_value(value)[0] in chosen]
    for value in sorted(values, key=lambda value: -macs_of(evaluator, knobs, value)):
        found = evaluator.compress(Plan({knob.name: value for knob in knobs}))
        started = time.perf_counter()
        read, bare = (evaluator.engine.layer_inputs, evaluator.engine.node_outputs), found.with_statistics({})
        fitted = refitted_plan(graph, evaluator.parameters, plain, bare, read[0], to_fit_on([seen]), read[1])
        seconds = time.perf_counter() - started
        outputs = (evaluator.engine.outputs(one, evaluator.inputs)[0].argmax(1) for one in (found, fitted))
        own, after = (whole - float(np.mean(one == labels)) for one in outputs)
        name, macs = str(split_value(value)[0]), macs_of(evaluator, knobs, value) / graph.macs
        print(f"{name:12} {macs:6.3f} {100 * own:12.1f} {100 * after:7.1f} {seconds:8.1f}", flush=True)
        lost[name] = own, after
    own, after = lost[SHOWN]
    print(
        f"lost by {SHOWN} in all layers, fitted one after the other: {100 * after:.1f} points, before {100 * own:.1f}"
    )


def macs_of(evaluator: PlanEvaluator, knobs: Sequence[Knob], value: Value) -> int:
    """Of the network with this value in all of these knobs."""
    plan = Plan({knob.name: value for knob in knobs})
    return evaluator.space.of_plan(plan).graph.macs


if __name__ == "__main__":
    main()
