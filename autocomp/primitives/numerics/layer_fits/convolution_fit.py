"""Cheaper convolutions, fitted to the outputs of the one that they replace: smaller kernels, groups, separable ones.

A smaller kernel and a convolution in groups read some of the numbers that the layer reads. Their weights are the
least-squares prediction of the layer's outputs from those numbers: the layer's own weights for them, plus what the
missing numbers contribute as far as these tell it. A separable convolution (Chollet, "Xception", CVPR 2017, section 2)
begins with the best kernels of each channel alone, by a truncated SVD; then the kernels and what mixes them are fitted
in turns.
"""

from __future__ import annotations

import numpy as np

from .factorisation import LayerFactors

RIDGE, DOUBT = 1e-3, 0.05  # of the mean second moment; DOUBT is multiplied by numbers / samples
SWEEPS, MOST_KERNELS = 3, 1_200  # turns, where the kernels of all channels have at most so many numbers


def centre_taps(kernel: tuple[int, ...], size: int) -> np.ndarray:
    """(kh * kw,) bool: the taps of a kernel that a smaller one, size x size, keeps."""
    inside = np.zeros(kernel, bool)
    inside[tuple(slice((k - size) // 2, (k + size) // 2) for k in kernel)] = True
    return inside.reshape(-1)


def with_smaller_kernel(weight: np.ndarray, size: int, samples: np.ndarray | None, centred: bool) -> LayerFactors:
    """weight: (out, in, kh, kw). size: of the new kernel, odd as those of the old one. samples: (n, in * kh * kw),
    what the weight is multiplied with. centred: whether a bias can make up for a shift of the output's mean."""
    outputs, inputs, *kernel = weight.shape
    places = np.tile(centre_taps(tuple(kernel), size), inputs)
    found, shift = _predicted(_matrix(weight), places, samples, centred)
    return LayerFactors(None, found.reshape(outputs, inputs, size, size).astype(np.float32), shift, None)


def in_groups(weight: np.ndarray, groups: int, samples: np.ndarray | None, centred: bool) -> LayerFactors:
    """The arguments are those of :func:`with_smaller_kernel`; outputs and inputs are multiples of ``groups``."""
    outputs, inputs, *kernel = weight.shape
    check_groups(outputs, inputs, groups)
    matrix, owner = _matrix(weight), np.repeat(np.arange(groups), weight[0].size // groups)
    rows = np.split(matrix, groups)
    fits = [_predicted(some, owner == group, samples, centred) for group, some in enumerate(rows)]
    found = np.concatenate([one for one, _ in fits]).reshape(outputs, inputs // groups, *kernel)
    return LayerFactors(None, found.astype(np.float32), np.concatenate([shift for _, shift in fits]), None)


def check_groups(outputs: int, inputs: int, groups: int) -> None:
    """ValueError where the channels cannot be parted into as many groups."""
    if outputs % groups or inputs % groups:
        raise ValueError(
            f"a convolution in {groups} groups must keep multiples of {groups} channels, but the plan keeps {inputs} "
            f"inputs and {outputs} outputs"
        )


def separable(weight: np.ndarray, multiplier: int, samples: np.ndarray | None, centred: bool) -> LayerFactors:
    """``multiplier`` kernels for each input channel, and a 1x1 convolution over what they give; the other arguments are
    those of :func:`with_smaller_kernel`."""
    outputs, inputs, *kernel = weight.shape
    taps = int(np.prod(kernel))
    matrix = _matrix(weight)
    mean = np.zeros(matrix.shape[1]) if samples is None or not centred else samples.mean(0, dtype=np.float64)
    moment = _moment(samples, mean, matrix.shape[1])
    kernels = _own_kernels(matrix.reshape(outputs, inputs, taps), moment, multiplier)
    read = matrix @ moment
    mixing = _mixing(read, kernels, moment)
    for _ in range(SWEEPS if kernels.size <= MOST_KERNELS else 0):
        kernels = _kernels(read, mixing, moment, kernels.shape)
        mixing = _mixing(read, kernels, moment)
    kernels, mixing = _balanced(kernels, mixing, moment)
    inner = None if samples is None else _apply(samples, kernels).astype(np.float32)
    shift = matrix @ mean - mixing @ _apply(mean[None], kernels)[0]
    first = kernels.reshape(inputs * multiplier, 1, *kernel).astype(np.float32)
    last = mixing.reshape(outputs, inputs * multiplier, *[1] * len(kernel)).astype(np.float32)
    return LayerFactors(first, last, shift.astype(np.float32), inner)


def _matrix(weight: np.ndarray) -> np.ndarray:
    return np.asarray(weight.reshape(len(weight), -1), np.float64)


def _moment(samples: np.ndarray | None, mean: np.ndarray, width: int) -> np.ndarray:
    """(k, k) second moment around the mean, with a ridge; the identity without samples."""
    if samples is None:
        return np.eye(width)
    seen = samples.astype(np.float64) - mean
    moment = np.asarray(seen.T @ seen / len(seen))
    moment[np.diag_indices(width)] += (RIDGE + DOUBT * width / len(seen)) * max(np.trace(moment) / width, 1e-12)
    return moment


def _predicted(
    matrix: np.ndarray, places: np.ndarray, samples: np.ndarray | None, centred: bool
) -> tuple[np.ndarray, np.ndarray]:
    """(out, m) weights for the numbers at ``places``, (k,) bool, and the (out,) shift of the output's mean."""
    kept = matrix[:, places]
    if samples is None:
        return kept, np.zeros(len(matrix), np.float32)
    seen, missing = samples[:, places].astype(np.float64), samples @ np.where(places, 0.0, matrix).T
    mean = np.zeros(seen.shape[1])
    wanted = missing.mean(0)
    if centred:
        mean = seen.mean(0)
        seen, missing = seen - mean, missing - wanted
    moment = seen.T @ seen / len(seen)
    size = max(float(np.trace(moment)) / len(moment), 1e-12)
    moment[np.diag_indices_from(moment)] += (RIDGE + DOUBT * len(moment) / len(seen)) * size
    added = np.linalg.solve(moment, seen.T @ missing / len(seen)).T
    shift = wanted - added @ mean if centred else np.zeros(len(matrix))
    return kept + added, shift.astype(np.float32)


def _own_kernels(weight: np.ndarray, moment: np.ndarray, count: int) -> np.ndarray:
    """(in, count, taps): of each channel alone the kernels that span most of what it contributes.

    weight: (out, in, taps); moment: (in * taps, in * taps)."""
    inputs, taps = weight.shape[1:]
    own = moment.reshape(inputs, taps, inputs, taps)[np.arange(inputs), :, np.arange(inputs)]
    sizes, basis = np.linalg.eigh(own)
    sizes = np.sqrt(np.maximum(sizes, 1e-12 * np.maximum(sizes[:, -1:], 1e-30)))
    root = (basis * sizes[:, None]) @ basis.transpose(0, 2, 1)
    inverse = (basis / sizes[:, None]) @ basis.transpose(0, 2, 1)
    right = np.linalg.svd(weight.transpose(1, 0, 2) @ root, full_matrices=False)[2][:, :count]
    if right.shape[1] < count:  # fewer outputs than kernels
        right = np.concatenate((right, np.zeros((inputs, count - right.shape[1], taps))), 1)
    kernels = right @ inverse
    return np.asarray(kernels / np.maximum(np.linalg.norm(kernels, axis=2, keepdims=True), 1e-30))


def _mixing(read: np.ndarray, kernels: np.ndarray, moment: np.ndarray) -> np.ndarray:
    """(out, in * count): the least-squares mixture of what the kernels give. read: (out, k), weight times moment."""
    given = _apply(_apply(moment, kernels).T, kernels)
    given[np.diag_indices_from(given)] += RIDGE * max(float(np.trace(given)) / len(given), 1e-12)
    return np.asarray(np.linalg.solve(given, _apply(read, kernels).T).T)


def _kernels(read: np.ndarray, mixing: np.ndarray, moment: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(in, count, taps): the least-squares kernels for a mixture."""
    inputs, count, taps = shape
    weights = (mixing.T @ mixing).reshape(inputs, count, inputs, count)
    moments = moment.reshape(inputs, taps, inputs, taps)
    system = np.einsum("icjd,itju->ictjdu", weights, moments, optimize=True).reshape(inputs * count * taps, -1)
    system[np.diag_indices_from(system)] += RIDGE * max(float(np.trace(system)) / len(system), 1e-12)
    wanted = np.einsum("oic,oit->ict", mixing.reshape(-1, inputs, count), read.reshape(-1, inputs, taps), optimize=True)
    return np.asarray(np.linalg.solve(system, wanted.reshape(-1)).reshape(shape))


def _apply(rows: np.ndarray, kernels: np.ndarray) -> np.ndarray:
    """(n, in * count): rows, (n, in * taps), under the kernels, (in, count, taps)."""
    inputs, count, taps = kernels.shape
    found = np.einsum("nit,ict->nic", rows.reshape(-1, inputs, taps), kernels, optimize=True)
    return np.asarray(found.reshape(-1, inputs * count))


def _balanced(kernels: np.ndarray, mixing: np.ndarray, moment: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both with a part of each inner channel's size, so that the tensor between them can be rounded."""
    given = np.sqrt(np.maximum(np.diag(_apply(_apply(moment, kernels).T, kernels)), 1e-30))
    scale = np.sqrt(np.maximum(np.linalg.norm(mixing, axis=0), 1e-9 * np.linalg.norm(mixing) + 1e-30) / given)
    return kernels * scale.reshape(kernels.shape[:2])[..., None], mixing / scale
