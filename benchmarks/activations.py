"""What ReLUs in the place of other activations cost in accuracy, without training, and what they save.

    python benchmarks/activations.py --shared ../shared [--quick]

A network of five convolutions with BatchNorm and two dense layers, trained on Fashion-MNIST once with each function.
Each activation alone and all of them, as ReLUs and with their mean shift taken back by the biases behind them, found on
128 training images: points of accuracy lost on 2,000 test images. Beside it the predicted latency with all ReLUs at
batch 64, as a share of the float network's.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autocomp.evaluators import PlanEvaluator
from autocomp.hardware_models import device
from autocomp.primitives.choices import Choices
from autocomp.primitives.tracing.tracer import trace
from autocomp.problem.jobs import evaluator_of
from autocomp.quickstart.network import MEAN, STD
from autocomp.search_spaces import Format, Plan

FUNCTIONS = ("HSwish", "SiLU", "GELU")
DEVICES = ("cpu", "ascend-310p3")
TRAIN, TEST, CALIBRATED, BATCH = 12_000, 2_000, 128, 64


def network(function: str) -> Any:
    """A new network; MindSpore is loaded now."""
    from mindspore import nn, ops

    def normed(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[Any]:
        return [nn.Conv2d(inputs, outputs, kernel, stride), nn.BatchNorm2d(outputs), getattr(nn, function)()]

    class Net(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.SequentialCell(
                *normed(1, 16, 3, 2),
                *normed(16, 32, 3, 2),
                *normed(32, 64, 1),
                *normed(64, 32, 3),
                *normed(32, 64, 3, 2),
            )
            self.hidden, self.act, self.head = nn.Dense(64, 64), getattr(nn, function)(), nn.Dense(64, 10)

        def construct(self, x: Any) -> Any:
            return self.head(self.act(self.hidden(ops.mean(self.body(x), (2, 3)))))

    return Net()


def scaled(pixels: np.ndarray) -> np.ndarray:
    return ((pixels[:, None].astype(np.float32) / 255) - MEAN) / STD


def trained(function: str, x: np.ndarray, y: np.ndarray, epochs: int) -> Any:
    import mindspore as ms
    from mindspore import nn

    ms.set_seed(0)
    net = network(function).set_train(True)
    steps = len(x) // BATCH * epochs
    rate = nn.cosine_decay_lr(0.0, 0.1, steps, len(x) // BATCH, epochs)
    optimizer = nn.SGD(net.trainable_params(), rate, momentum=0.9, weight_decay=5e-4, nesterov=True)
    step = nn.TrainOneStepCell(nn.WithLossCell(net, nn.CrossEntropyLoss()), optimizer).set_train(True)
    rng = np.random.default_rng(0)
    for _ in range(epochs):
        order = rng.permutation(len(x))[: len(x) // BATCH * BATCH].reshape(-1, BATCH)
        for rows in order:
            step(ms.Tensor(x[rows]), ms.Tensor(y[rows]))
    return net.set_train(False)


def lost(evaluator: PlanEvaluator, names: Sequence[str], corrects: Any, whole: float) -> float:
    evaluator.compressor.corrects, before = corrects, evaluator.compressor.corrects
    try:
        accuracy = evaluator.evaluate(Plan(dict.fromkeys(names, "relu@activations"))).accuracy
    finally:
        evaluator.compressor.corrects = before
    assert accuracy is not None
    return 100 * (whole - accuracy)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder with data/")
    parser.add_argument("--quick", action="store_true", help="HSwish alone, one epoch")
    options = parser.parse_args()
    sys.path.insert(0, str(options.shared / "data"))
    from load import fashion_mnist

    (x, y), (test_x, test_y) = (
        (scaled(pixels[:count]), labels[:count])
        for pixels, labels, count in ((*fashion_mnist("train"), TRAIN), (*fashion_mnist("test"), TEST))
    )
    print(f"{'function':9} {'float':>6} {'one, bare':>11} {'biases':>7} {'all, bare':>11} {'biases':>7}", *DEVICES)
    found = 0.0
    for function in FUNCTIONS[:1] if options.quick else FUNCTIONS:
        net = trained(function, x, y, 1 if options.quick else 4)
        graph = trace(net, (x[:1],))
        choices = Choices([Format.parse("w8a8")], 8, "activations")
        evaluator = evaluator_of(net, graph, choices, (test_x,), test_y, (x[:CALIBRATED],))
        whole, space = evaluator.plain_accuracy(), evaluator.space
        names = [knob.name for knob in space.knobs]
        alone, together = [], []
        for corrects in (None, evaluator.compressor.corrects):
            alone.append(np.mean([lost(evaluator, [name], corrects, whole) for name in names]))
            together.append(lost(evaluator, names, corrects, whole))
        shares = []
        for name in DEVICES:
            latency = device(name).costs(space.workload(np.stack([0 * space.sizes, space.sizes - 1]), 64)).latency_ms
            shares.append(f"{latency[1] / latency[0]:.3f}")
        found = together[1]
        row = f"{alone[0]:11.2f} {alone[1]:7.2f} {together[0]:11.2f} {together[1]:7.2f}"
        print(f"{function:9} {whole:6.3f} {row}", *shares, flush=True)
    print(f"lost by ReLUs in the place of all activations of the last network: {found:.2f} points")


if __name__ == "__main__":
    main()
