"""What the replacement of one layer costs in accuracy, without training: every value of ``structure/<layer>``.

    python benchmarks/replacements.py --shared ../shared [--quick]

ResNet-20 for CIFAR-10 (JPEG images). Each value of each layer alone, fitted on 256 training images; of each value the
mean over the layers that have all of them: the share of the layer's multiply-accumulates, the points of accuracy lost
on test images, and the layer on which it loses most. 3x3 convolutions between the first and the last layer have all.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
from cifar import Cifar

from autocomp.primitives.choices import Choices
from autocomp.primitives.tracing.tracer import trace
from autocomp.problem.jobs import evaluator_of
from autocomp.search_spaces import Format, Plan, split_value

CALIBRATED = 256
SHOWN = "separable2"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder with data/ and models/")
    parser.add_argument("--quick", action="store_true", help="250 test images")
    options = parser.parse_args()
    cifar = Cifar(options.shared)
    net, seen = cifar.network(), (cifar.images("train", CALIBRATED).x,)
    test = cifar.images("test", 250 if options.quick else 2000)
    graph = trace(net, (seen[0][:1],))
    choices = Choices([Format.parse("w8")], 8, "operators")
    evaluator = evaluator_of(net, graph, choices, (test.x,), test.y, seen)
    whole = evaluator.evaluate(Plan({})).accuracy
    assert whole is not None
    knobs = [knob for knob in evaluator.space.knobs if knob.kind == "structure"]
    most = max(len(knob.values) for knob in knobs)
    rows: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
    for knob in knobs:
        if len(knob.values) == most:
            (layer,) = knob.layers
            for value in knob.values[1:]:
                macs = sum(node.macs for node in knob.chains[value].nodes) / graph.nodes[graph.layers[layer]].macs
                accuracy = evaluator.evaluate(Plan({knob.name: value})).accuracy
                assert accuracy is not None
                rows[str(split_value(value)[0])].append((macs, whole - accuracy, layer))
    layers = max(map(len, rows.values()))
    print(f"float {whole:.4f} on {len(test.x)} test images; {layers} layers")
    print(f"{'value':12} {'MACs':>6} {'points lost':>12} {'most':>6}  where")
    for value, found in sorted(rows.items(), key=lambda item: -np.mean([macs for macs, _, _ in item[1]])):
        macs, lost = np.mean([row[:2] for row in found], axis=0)
        _, worst, where = max(found, key=lambda row: row[1])
        print(f"{value:12} {macs:6.3f} {100 * lost:12.2f} {100 * worst:6.2f}  {where}", flush=True)
    print(f"lost by {SHOWN} in one layer: {100 * np.mean([lost for _, lost, _ in rows[SHOWN]]):.2f} points")


if __name__ == "__main__":
    main()
