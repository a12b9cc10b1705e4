"""Estimates BatchNorm's running statistics again, for the present weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from autocomp.errors import NoEffectError
from autocomp.primitives.arguments import RULES
from autocomp.primitives.cells.layers import ms
from autocomp.primitives.tracing.mindir import copy_network
from autocomp.primitives.tracing.platform import forward
from autocomp.primitives.tracing.tracer import as_float32
from autocomp.rules import checked

nn = ms.nn
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@checked(RULES["reestimate_batchnorm"])
def reestimate_batchnorm(net: Any, images: np.ndarray | tuple[np.ndarray, ...], batch: int = 64) -> Any:
    """A copy whose BatchNorms normalise by the mean and variance of these samples (Li et al., EagleEye, ECCV 2020).

    Pruned and rounded weights change BatchNorm's input; this restores much of the lost accuracy, without labels.
    Samples pass in batches, each normalised by its own statistics as in training; Dropout drops nothing. The mean is
    the mean over the batches; the variance is their mean variance plus the variance of their means.

    Args:
        images: (n, ...) the network's input, or a tuple of such arrays; more than one sample.
        batch: samples at a time, at least 2. A last batch of fewer than 2 is left out.

    Raises:
        TypeError: net is no Cell. NoEffectError: it has no BatchNorm that runs.
        ValueError: fewer than 2 samples, or a batch of fewer than 2.
    """
    net = as_float32(net)
    arrays = images if isinstance(images, tuple) else (images,)
    if batch < 2 or len(arrays[0]) < 2:
        raise ValueError(
            f"BatchNorm needs 2 samples or more at a time, but got batch={batch} of {len(arrays[0])} samples"
        )
    twin = copy_network(net)
    norms = {name: cell for name, cell in twin.cells_and_names() if isinstance(cell, NORMS)}
    seen: dict[str, list[tuple[int, np.ndarray, np.ndarray]]] = {name: [] for name in norms}
    hooks = [cell.register_forward_pre_hook(_recording(seen[name])) for name, cell in norms.items()]
    for cell in norms.values():
        cell.use_batch_statistics = True
    try:
        for start in range(0, len(arrays[0]) - 1, batch):
            forward(twin, tuple(array[start : start + batch] for array in arrays), graph=False)
    finally:
        for hook in hooks:
            hook.remove()
    if not any(seen.values()):
        raise NoEffectError("reestimate_batchnorm found no nn.BatchNorm that the network runs")
    for name, cell in norms.items():
        cell.use_batch_statistics = next(c for n, c in net.cells_and_names() if n == name).use_batch_statistics
        if seen[name]:
            _set(cell, seen[name])
    return twin.set_train(net.training)


def _recording(seen: list[tuple[int, np.ndarray, np.ndarray]]) -> Any:
    def record(cell: Any, inputs: tuple[Any, ...]) -> None:
        x = inputs[0].asnumpy().astype(np.float64)
        axes = (0, *range(2, x.ndim))
        seen.append((x.size // x.shape[1], x.mean(axes), x.var(axes)))

    return record


def _set(cell: Any, seen: list[tuple[int, np.ndarray, np.ndarray]]) -> None:
    counts, means, variances = (np.array(column) for column in zip(*seen, strict=True))
    share = (counts / counts.sum())[:, None]
    mean = (share * means).sum(0)
    variance = (share * (variances + (means - mean) ** 2)).sum(0)
    cell.moving_mean.set_data(ms.Tensor(mean.astype(np.float32)))
    cell.moving_variance.set_data(ms.Tensor(variance.astype(np.float32)))
