"""Zero-cost proxies: what an untrained network promises, from one batch of samples. Higher is better.

Nothing is compiled: the network runs cell by cell, on a copy. Each is comparable between networks of one task only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from autocomp.primitives.distillation.class_labels import as_classes
from autocomp.primitives.tracing.mindir import copy_network
from autocomp.primitives.tracing.platform import execution_mode, load_mindspore, to_tensors
from autocomp.primitives.tracing.tracer import example_inputs
from autocomp.rules import CELL, SEED, Rule, checked, whole

ACTIVATIONS = "ReLU ReLU6 LeakyReLU PReLU HSwish SiLU GELU ELU CELU SeLU Mish Hardtanh"
NORMS = "BatchNorm1d BatchNorm2d BatchNorm3d"
FEATURES = f"Conv1d Conv2d Conv3d {NORMS} {ACTIVATIONS}"  # cells whose output may be the last features
MIXED = 0.01  # of the noise that Zen score adds to its inputs


def is_samples(value: Any) -> bool:
    return len(getattr(value, "shape", ())) > 0


RULES = {
    "net": CELL,
    "x": Rule("an array of samples", is_samples, "at least two samples", lambda v: len(v) > 1),
    "y": Rule("an array of classes", lambda v: is_samples(v) or isinstance(v, (list, tuple))),
    "seed": SEED,
    "repeats": whole(1),
}
Proxy = Callable[..., float]


@checked(RULES)
def naswot(net: Any, x: np.ndarray) -> float:
    """How differently the activations split the samples: the logarithm of the determinant of the kernel whose entries
    count the activations that two samples have alike, on or off.

    Mellor, Turner, Storkey and Crowley, "Neural Architecture Search without Training", ICML 2021. Only activations that
    are cells are seen. -inf where two samples are never told apart.

    x: (n, ...) inputs, at least two.
    """
    codes: list[np.ndarray] = []
    copy = copy_network(net).set_train(True)  # BatchNorm by the batch
    with _watched(copy, ACTIVATIONS, lambda cell, given, made: codes.append(given > 0)):
        _run(copy, x)
    if not codes:
        raise ValueError("naswot needs activations that are cells, such as nn.ReLU(), but the network has none")
    flat = np.concatenate([code.reshape(len(code), -1) for code in codes], axis=1).astype(np.float64)
    sign, logarithm = np.linalg.slogdet(flat @ flat.T + (1 - flat) @ (1 - flat).T)
    return float(logarithm) if sign > 0 else -np.inf


@checked(RULES)
def gradient_norm(net: Any, x: np.ndarray, y: Any) -> float:
    """The sum of the norms of the loss's gradients in all weights, for new weights.

    Abdelfattah, Mehrotra, Dudziak and Lane, "Zero-Cost Proxies for Lightweight NAS", ICLR 2021.

    x: (n, ...) inputs. y: (n,) classes; the loss is the cross-entropy.
    """
    ms = load_mindspore()
    classes = as_classes(y, "y").astype(np.int32)
    if len(classes) != len(x):
        raise ValueError(f"y must have a class for each sample, but got {len(x)} samples, {len(classes)} classes")
    copy = copy_network(net).set_train(True)
    loss = ms.nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")

    def objective(given: Any, labels: Any) -> Any:
        return loss(copy(given), labels)

    with execution_mode(graph=False):
        gradients = ms.grad(objective, None, copy.trainable_params())(*to_tensors((_batch(x), classes)))
    return float(sum(np.linalg.norm(gradient.asnumpy()) for gradient in gradients))


@checked(RULES)
def synflow(net: Any, x: np.ndarray) -> float:
    """The logarithm of the synaptic flow: the sum over all weights of the weight times the gradient of the outputs'
    sum, where all weights are made positive and the inputs are ones.

    Tanaka, Kunin, Yamins and Ganguli, "Pruning neural networks without any data by iteratively conserving synaptic
    flow", NeurIPS 2020; as a score of networks Abdelfattah et al., ICLR 2021. BatchNorm passes its inputs on.

    x: inputs, of which only the shape counts.
    """
    ms = load_mindspore()
    copy = copy_network(net).set_train(False)
    for cell in _cells(copy, NORMS):
        for name, value in (("moving_mean", 0.0), ("moving_variance", 1.0), ("gamma", 1.0), ("beta", 0.0)):
            _fill(getattr(cell, name), value)
    weights = copy.trainable_params()
    for weight in weights:
        weight.set_data(ms.Tensor(np.abs(weight.asnumpy())))

    def objective(given: Any) -> Any:
        return copy(given).sum()

    with execution_mode(graph=False):
        gradients = ms.grad(objective, None, weights)(*to_tensors((np.ones_like(_batch(x)[:1]),)))
    flow = sum(
        np.abs(weight.asnumpy().astype(np.float64) * gradient.asnumpy()).sum()
        for weight, gradient in zip(weights, gradients, strict=True)
    )
    return float(np.log(flow)) if flow > 0 else -np.inf


@checked(RULES)
def zen_score(net: Any, x: np.ndarray, seed: int = 0, repeats: int = 2) -> float:
    """How much the last features of the network change with its inputs, whatever the scale of its weights: for Gaussian
    weights and inputs the logarithm of the mean change by a small noise, plus the logarithms of the scales that
    BatchNorms take away.

    Lin et al., "Zen-NAS: A Zero-Shot NAS for High-Performance Image Recognition", ICCV 2021. The features are the last
    output of four axes of a convolution, a BatchNorm or an activation that is a cell.

    x: inputs, of which only the shape counts. seed: of the weights and inputs. repeats: draws that are averaged.
    """
    rng, shape = np.random.default_rng(seed), _batch(x).shape
    copy = copy_network(net).set_train(True)
    return float(np.mean([_zen(copy, shape, rng) for _ in range(repeats)]))


def _zen(copy: Any, shape: tuple[int, ...], rng: np.random.Generator) -> float:
    ms = load_mindspore()
    for weight in copy.trainable_params():
        if weight.ndim > 1:
            weight.set_data(ms.Tensor(rng.standard_normal(weight.shape).astype(np.float32)))
    scales: list[float] = []
    features: list[np.ndarray] = []

    def seen(cell: Any, given: np.ndarray, made: np.ndarray) -> None:
        if type(cell).__name__ in NORMS.split():
            axes = (0, *range(2, given.ndim))
            scales.append(0.5 * float(np.log(given.var(axis=axes).mean() + 1e-12)))
        if made.ndim == 4:
            features[:] = [made]

    x = rng.standard_normal(shape).astype(np.float32)
    with _watched(copy, FEATURES, seen):
        _run(copy, x + MIXED * rng.standard_normal(shape).astype(np.float32))
        if not features:
            raise ValueError("zen_score needs a convolution, a BatchNorm or an activation that is a cell")
        moved, scales[:] = features[0], []
        _run(copy, x)
    return float(np.log(np.abs(features[0] - moved).mean() + 1e-12)) + sum(scales)


def _batch(x: Any) -> np.ndarray:
    (found,) = example_inputs(x if not hasattr(x, "shape") else (x,))
    return found.astype(np.float32) if found.dtype == np.uint8 else found


def _run(net: Any, x: np.ndarray) -> None:
    with execution_mode(graph=False):
        net(*to_tensors((_batch(x),)))


def _fill(parameter: Any, value: float) -> None:
    parameter.set_data(load_mindspore().Tensor(np.full(parameter.shape, value, np.float32)))


def _cells(net: Any, names: str) -> list[Any]:
    return [cell for _, cell in net.cells_and_names() if type(cell).__name__ in names.split()]


@contextmanager
def _watched(net: Any, names: str, seen: Callable[[Any, np.ndarray, np.ndarray], object]) -> Iterator[None]:
    """Calls ``seen`` with each of these cells that runs, its input and its output."""

    def hook(cell: Any, given: Any, made: Any) -> None:
        seen(cell, given[0].asnumpy(), made.asnumpy())

    handles = [cell.register_forward_hook(hook) for cell in _cells(net, names)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


# By name, as functions of a network, inputs and classes.
PROXIES: dict[str, Proxy] = {
    "gradient_norm": gradient_norm,
    "naswot": lambda net, x, y: naswot(net, x),
    "synflow": lambda net, x, y: synflow(net, x),
    "zen_score": lambda net, x, y: zen_score(net, x),
}
