"""Greedy generation by a deployed language model, with a cache of keys and values where its file takes one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from autocomp.problem.arguments import check

if TYPE_CHECKING:
    from .deployed import DeployedNetwork

Arrays = tuple[np.ndarray, ...]
FORMS = (
    "a language model's file takes tokens (n, length) and gives logits (n, length, words), or it takes tokens (n, s), "
    "their position (n, 1) and the cache, and gives the logits (n, s, words) and, for each part of the cache, what the "
    "tokens add to it or all of it"
)


def generate(network: DeployedNetwork, tokens: Any, count: int, prefill: DeployedNetwork | None = None) -> np.ndarray:
    """See :meth:`autocomp.deployment.deployed.DeployedNetwork.generate`."""
    check("generate", count=count)
    prompt = _prompt(tokens)
    if prefill is not None and not isinstance(prefill, type(network)):
        raise ValueError(f"prefill must be a network that load_deployed gives, but got {type(prefill).__name__}")
    if len(network.inputs) == 1:
        if prefill is not None:
            raise ValueError(f"prefill fills a cache, but {network.path} takes none: leave it out")
        return _without_cache(network, prompt, count)
    return _Cached(network, prompt, count).generated(prefill or network)


def _prompt(tokens: Any) -> np.ndarray:
    """(n, length) integers of at least 32 bits: the tokens that are found have its type."""
    wanted = "tokens to go on from must be integers (n, length), a text a row"
    try:
        prompt = np.asarray(tokens.asnumpy() if hasattr(tokens, "asnumpy") else tokens)
    except ValueError:
        raise ValueError(f"{wanted}, but got rows of several lengths: generate from those of one length") from None
    if prompt.ndim != 2 or prompt.dtype.kind not in "iu" or not prompt.size:
        raise ValueError(f"{wanted}, but got {prompt.dtype.name} {prompt.shape}")
    if prompt.min() < 0:
        raise ValueError(f"{wanted}, none below 0, but got {prompt.min()}")
    return prompt if prompt.dtype.itemsize >= 4 else prompt.astype(np.int32)


def _check_words(tokens: np.ndarray, logits: np.ndarray) -> None:
    """ValueError for tokens that the network has no word for. The logits are those of a run of zeros before: no runtime
    says so itself, and MindSpore runs nothing more in its process after such a failure."""
    words = logits.shape[-1]
    if tokens.max() >= words:
        raise ValueError(f"tokens must be below {words}, the words of the network, but got {tokens.max()}")


def _without_cache(network: DeployedNetwork, prompt: np.ndarray, count: int) -> np.ndarray:
    """All tokens run for each new one; places that are not filled yet change nothing before them."""
    (taken,) = network.inputs
    if len(taken.shape) != 2 or taken.shape[1] is None:
        raise ValueError(f"{FORMS}; but {network.path} takes {taken.name} {taken.shape}")
    length, known = taken.shape[1], prompt.shape[1]
    _check_room(network, length, known, count)
    row = np.zeros((len(prompt), length + 1), prompt.dtype)
    _check_words(prompt, _outputs(network, network.run(row[:, :length]), 1, length)[0])
    row[:, :known] = prompt
    for place in range(known, known + count):
        (logits,) = _outputs(network, network.run(row[:, :length]), 1, length)
        row[:, place] = logits[:, place - 1].argmax(-1)
    return row[:, known : known + count]


class _Cached:
    """The cache of one generation, and how far it is filled."""

    def __init__(self, network: DeployedNetwork, prompt: np.ndarray, count: int) -> None:
        self.network, self.prompt, self.count, self.filled = network, prompt, count, 0
        tokens, position, *parts = network.inputs
        if len(tokens.shape) != 2 or tokens.shape[1] is None or position.shape[1:] != (1,) or not parts:
            taken = ", ".join(f"{one.name} {one.shape}" for one in network.inputs)
            raise ValueError(f"{FORMS}; but {network.path} takes {taken}")
        shapes = [tuple(len(prompt) if size is None else size for size in part.shape) for part in parts]
        self.cache = [np.zeros(shape, part.dtype) for shape, part in zip(shapes, parts, strict=True)]

    def generated(self, prefill: DeployedNetwork) -> np.ndarray:
        known, found = self.prompt.shape[1], np.zeros((len(self.prompt), self.count), self.prompt.dtype)
        step = _tokens_of(prefill, self.network)
        _check_words(self.prompt, self.outputs(self.network, np.zeros_like(self.prompt[:, :1]))[0])
        for start in range(0, known, step):
            last = self.run(prefill, self.prompt[:, start : start + step])
        for i in range(self.count):
            found[:, i] = last.argmax(-1)
            if i + 1 < self.count:
                last = self.run(self.network, found[:, i : i + 1])
        return found

    def run(self, network: DeployedNetwork, tokens: np.ndarray) -> np.ndarray:
        """(n, words) logits of the last of these tokens, which the cache then holds."""
        new = tokens.shape[1]
        logits, *added = self.outputs(network, tokens)
        for number, (part, more) in enumerate(zip(self.cache, added, strict=True)):
            self._add(network, number, part, more, new)
        self.filled += new
        return np.asarray(logits[:, new - 1])

    def outputs(self, network: DeployedNetwork, tokens: np.ndarray) -> Arrays:
        size = _tokens_of(network, self.network)
        filled = np.zeros((len(tokens), size), tokens.dtype)
        filled[:, : tokens.shape[1]] = tokens
        position = np.full((len(tokens), 1), self.filled, np.int32)
        return _outputs(network, network.run(filled, position, *self.cache), 1 + len(self.cache), size)

    def _add(self, network: DeployedNetwork, number: int, part: np.ndarray, more: np.ndarray, new: int) -> None:
        if more.shape == part.shape:  # all of it
            self.cache[number] = more.astype(part.dtype)
            return
        axes = [axis for axis in range(part.ndim) if part.ndim == more.ndim and part.shape[axis] != more.shape[axis]]
        if len(axes) != 1:
            raise ValueError(f"{FORMS}; but {network.path} gives {more.shape} for a part of the cache {part.shape}")
        (axis,) = axes
        _check_room(self.network, part.shape[axis], self.prompt.shape[1], self.count)
        np.moveaxis(part, axis, 0)[self.filled : self.filled + new] = np.moveaxis(more, axis, 0)[:new]


def _tokens_of(network: DeployedNetwork, like: DeployedNetwork) -> int:
    """Tokens that a run takes. ValueError for a network whose cache is another one."""
    cache = [(part.shape, part.dtype) for part in network.inputs[2:]]
    if cache != [(part.shape, part.dtype) for part in like.inputs[2:]]:
        raise ValueError(f"prefill must take the cache of {like.path}, but {network.path} takes another one")
    size = network.inputs[0].shape[1]
    assert size is not None
    return size


def _outputs(network: DeployedNetwork, outputs: Arrays, count: int, length: int) -> Arrays:
    if len(outputs) != count or outputs[0].ndim != 3 or outputs[0].shape[1] != length:
        given = ", ".join(str(array.shape) for array in outputs)
        raise ValueError(f"{FORMS}; but {network.path} gives {given}")
    return outputs


def _check_room(network: DeployedNetwork, length: int, known: int, count: int) -> None:
    """ValueError where the last token but one has no place."""
    if known + count - 1 > length:
        raise ValueError(
            f"{network.path} has places for {length} tokens, but got {known} and is to add {count}: shorten the "
            "tokens or count, or export it for a longer context"
        )
