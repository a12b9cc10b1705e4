"""A layer's outputs as half as many channels, and two depthwise kernels over each of them.

The channels that a plan keeps are taken in pairs. The computed channel of a pair is the combination of both in which
they vary most. Each of the two is made from it by the kernel that predicts it best, by least squares on sampled outputs
(the cheap operation of Han et al., "GhostNet", CVPR 2020, section 3.1, with two outputs for each channel). So channels
keep their places, and nothing is gathered or concatenated.
"""

from __future__ import annotations

import numpy as np

from .factorisation import LayerFactors

SIZE = 3  # of the kernels
RIDGE = 1e-3  # of the mean second moment
CENTRE = SIZE * SIZE // 2


def ghosted(weight: np.ndarray, around: np.ndarray | None, centred: bool) -> LayerFactors:
    """weight: (out, in, kh, kw), out even. around: (n, 9, in * kh * kw), what the weight is multiplied with at a
    position and its neighbours, zeros outside the image. centred: whether a bias can make up for a shift of the
    output's mean."""
    matrix = weight.reshape(len(weight), -1).astype(np.float64)
    pairs = matrix.reshape(-1, 2, matrix.shape[1])
    outputs = None if around is None else (around @ matrix.T).reshape(*around.shape[:2], -1, 2)
    mixed = _mixtures(pairs, outputs, centred)
    first = np.einsum("mp,mpk->mk", mixed, pairs)
    if outputs is None:
        kernels, shift, inner = _alone(mixed), np.zeros(len(matrix)), None
    else:
        computed = np.einsum("mp,ndmp->ndm", mixed, outputs)
        kernels, shift = _fitted(computed, outputs[:, CENTRE], centred)
        inner = computed[:, CENTRE].astype(np.float32)
    last = kernels.reshape(-1, 1, SIZE, SIZE).astype(np.float32)
    return LayerFactors(first.reshape(-1, *weight.shape[1:]).astype(np.float32), last, shift.astype(np.float32), inner)


def _mixtures(pairs: np.ndarray, outputs: np.ndarray | None, centred: bool) -> np.ndarray:
    """(m, 2) unit vectors: the direction in which both outputs of a pair vary most."""
    if outputs is None:
        moment = pairs @ pairs.transpose(0, 2, 1)
    else:
        seen = outputs[:, CENTRE]
        seen = seen - seen.mean(0) if centred else seen
        moment = np.einsum("nmp,nmq->mpq", seen, seen)
    found = np.linalg.eigh(moment)[1][:, :, -1]
    return np.asarray(found * np.sign(found[np.arange(len(found)), np.abs(found).argmax(1)])[:, None])


def _alone(mixed: np.ndarray) -> np.ndarray:
    """(m, 2, 9): kernels of one position."""
    kernels = np.zeros((*mixed.shape, SIZE * SIZE))
    kernels[:, :, CENTRE] = mixed
    return kernels


def _fitted(computed: np.ndarray, wanted: np.ndarray, centred: bool) -> tuple[np.ndarray, np.ndarray]:
    """(m, 2, 9) kernels and (2 m,) shifts of the least squared error. computed: (n, 9, m); wanted: (n, m, 2)."""
    count, taps, channels = computed.shape
    seen = computed.transpose(2, 0, 1)
    if centred:
        seen = np.concatenate((seen, np.ones((channels, count, 1))), 2)
    gram = seen.transpose(0, 2, 1) @ seen
    places = np.arange(taps)
    sizes = np.trace(gram[:, :taps, :taps], axis1=1, axis2=2)[:, None] / taps
    gram[:, places, places] += RIDGE * np.maximum(sizes, 1e-9)
    found = np.linalg.solve(gram, seen.transpose(0, 2, 1) @ wanted.transpose(1, 0, 2))  # (m, 9 or 10, 2)
    shift = found[:, taps].reshape(-1) if centred else np.zeros(2 * channels)
    return found[:, :taps].transpose(0, 2, 1), shift
