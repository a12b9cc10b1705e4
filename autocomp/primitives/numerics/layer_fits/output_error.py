"""By how much the output of a layer changes where a chain takes its place."""

from __future__ import annotations

import numpy as np

from .convolution_fit import centre_taps
from .ghost_fit import CENTRE, SIZE

LEAST = 1e-12  # of the output's variance
Weights = tuple[np.ndarray | None, np.ndarray]  # of the first layer, where there are two, and of the last


def output_error(form: str, weights: Weights, weight: np.ndarray, samples: np.ndarray | None, centred: bool) -> float:
    """The share of the output's energy, or of its variance, that the chain lacks on the samples; without samples the
    share of the weight's energy.

    form: see :class:`autocomp.search_spaces.NodeAttributes`. weights: of the chain. weight: of the layer, (out, in,
    ...). samples: inputs that it is multiplied with, (n, k), of a Ghost layer with those around, (n, 9, k). centred:
    whether a bias or a BatchNorm makes up for a shift of the output's mean.
    """
    whole = weight.reshape(len(weight), -1).astype(np.float64)
    if samples is None:
        missing = whole - in_one_layer(form, weights, weight.shape)
        return float(np.square(missing).sum() / max(np.square(whole).sum(), LEAST))
    if form == "ghost":
        around = samples @ _first(weights).T  # (n, 9, computed)
        made = np.einsum("ndm,mpd->nmp", around, weights[1].reshape(-1, 2, SIZE * SIZE)).reshape(len(samples), -1)
        wanted = samples[:, CENTRE] @ whole.T
    else:
        made, wanted = samples @ in_one_layer(form, weights, weight.shape).T, samples @ whole.T
    error = wanted - made
    if centred:
        error, wanted = error - error.mean(0), wanted - wanted.mean(0)
    return float(np.square(error).sum() / max(np.square(wanted).sum(), LEAST))


def in_one_layer(form: str, weights: Weights, shape: tuple[int, ...]) -> np.ndarray:
    """(out, k): what the layers of a chain do to a patch, as one matrix. shape: of the layer's weight. Of a Ghost
    layer without the positions around."""
    outputs, inputs, *kernel = shape
    last, width = weights[1].reshape(len(weights[1]), -1).astype(np.float64), int(np.prod(shape[1:]))
    if form == "product":
        return np.asarray(last @ _first(weights))
    if form == "ghost":
        mixed = last.reshape(-1, 2, SIZE * SIZE)[:, :, CENTRE]
        return np.einsum("mp,mk->mpk", mixed, _first(weights)).reshape(outputs, width)
    if form == "separable":
        kernels = _first(weights).reshape(inputs, -1, int(np.prod(kernel)))
        return np.einsum("oic,ict->oit", last.reshape(outputs, inputs, -1), kernels).reshape(outputs, width)
    found = np.zeros((outputs, width))
    if form == "kernel":
        found[:, np.tile(centre_taps(tuple(kernel), weights[1].shape[-1]), inputs)] = last
    else:
        groups = width // last.shape[1]
        for rows, columns in zip(*(np.split(np.arange(n), groups) for n in (outputs, width)), strict=True):
            found[np.ix_(rows, columns)] = last[rows]
    return found


def _first(weights: Weights) -> np.ndarray:
    """The first layer's weight as a matrix."""
    first = weights[0]
    assert first is not None
    return np.asarray(first.reshape(len(first), -1), np.float64)
