"""A cache of keys and values in integers, around a decoder whose cache is in floats."""

from __future__ import annotations

from typing import Any

from autocomp.primitives.arguments import RULES
from autocomp.rules import checked

from .layers import ms, nn, ops

LEAST = 1e-8  # a scale: what is all zeros stays so
HALF_BYTE = 16.0


class IntegerCache(nn.Cell):
    """A decoder whose cache holds integers of 8 or 4 bits, with a scale for each token and head.

    Rounded to nearest, around zero: as KIVI (Liu et al., ICML 2024) rounds values token by token; here keys, too.

    >>> step = IntegerCache(Decoder(net, context), bits=8)
    >>> autocomp.export(step, "step.onnx", (tokens, position, *step.empty(cache)))

    ``net`` takes tokens (n, s), their position (n, 1) and parts of a cache, (n, ..., context, depth) floats each, and
    returns the logits and what the tokens add to each part, (n, ..., s, depth). This Cell takes two arrays in the place
    of each part, and returns two:

        integers: (n, ..., context, depth) int8; of 4 bits (n, ..., context, depth / 2), two in a byte.
        scales: (n, ..., context, 1) float32, the largest magnitude of the token in that head divided by 127 or 7.

    What the tokens of a run add is rounded when the cache takes it: they attend to their own keys and values in floats.
    """

    @checked(RULES["IntegerCache"])
    def __init__(self, net: Any, bits: int = 8) -> None:
        super().__init__()
        self.net, self.bits, self.top = net, bits, float(2 ** (bits - 1) - 1)

    def empty(self, cache: Any) -> tuple[Any, ...]:
        """Integers and scales, zeros, in the place of parts of a cache in floats: NumPy arrays (n, ..., depth).

        ValueError: a depth that two integers of 4 bits in a byte do not fill.
        """
        found: list[Any] = []
        for part in cache:
            depth = part.shape[-1]
            if self.bits == 4 and depth % 2:
                raise ValueError(f"a cache of 4 bits needs an even depth, but got {tuple(part.shape)}")
            found += [part.astype("int8")[..., : depth * self.bits // 8] * 0, part[..., :1].astype("float32") * 0]
        return tuple(found)

    def construct(self, tokens: Any, position: Any, *cache: Any) -> Any:
        parts = [self.in_floats(cache[i], cache[i + 1]) for i in range(0, len(cache), 2)]
        logits, *added = self.net(tokens, position, *parts)
        found = [logits]
        for more in added:
            found += self.rounded(more)
        return tuple(found)

    def in_floats(self, integers: Any, scale: Any) -> Any:
        levels = integers.astype(ms.float32)
        if self.bits == 4:
            high = ops.floor(levels * (1 / HALF_BYTE))
            levels = ops.concat((high, levels - high * HALF_BYTE - HALF_BYTE / 2), -1)
        return levels * scale

    def rounded(self, x: Any) -> list[Any]:
        """The integers and the scales of (n, ..., s, depth) floats."""
        scale = ops.maximum(ops.amax(ops.abs(x), -1, keepdims=True) * (1 / self.top), LEAST)
        levels = ops.round(x / scale)
        if self.bits == 4:
            half = levels.shape[-1] // 2
            levels = levels[..., :half] * HALF_BYTE + (levels[..., half:] + HALF_BYTE / 2)
        return [levels.astype(ms.int8), scale]
