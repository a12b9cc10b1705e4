"""A cache of keys and values in integers, around a decoder whose cache is in floats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autocomp.primitives.arguments import RULES
from autocomp.rules import checked, is_integer

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

    bits: 8 or 4, of all parts; or one for each part, None for floats, as :attr:`Point.cache_bits` gives them: such a
        part is one array, as the decoder has it.

    What the tokens of a run add is rounded when the cache takes it: they attend to their own keys and values in floats.
    """

    @checked(RULES["IntegerCache"])
    def __init__(self, net: Any, bits: int | Sequence[int | None] = 8) -> None:
        super().__init__()
        self.net, self.bits = net, int(bits) if is_integer(bits) else tuple(bits)  # type: ignore[arg-type]

    def bits_of(self, count: int) -> tuple[int | None, ...]:
        """Of each of so many parts; ValueError where ``bits`` are for another number of them."""
        found = (self.bits,) * count if isinstance(self.bits, int) else self.bits
        if len(found) != count:
            raise ValueError(f"bits must be one for each of the {count} parts of the cache, but got {len(found)}")
        return found

    def empty(self, cache: Any) -> tuple[Any, ...]:
        """Integers and scales, zeros, in the place of parts of a cache in floats: NumPy arrays (n, ..., depth).

        ValueError: a depth that two integers of 4 bits in a byte do not fill, or bits for another number of parts.
        """
        found: list[Any] = []
        for part, bits in zip(cache, self.bits_of(len(cache)), strict=True):
            depth = part.shape[-1]
            if bits == 4 and depth % 2:
                raise ValueError(f"a cache of 4 bits needs an even depth, but got {tuple(part.shape)}")
            if bits is None:
                found.append(part)
            else:
                found += [part.astype("int8")[..., : depth * bits // 8] * 0, part[..., :1].astype("float32") * 0]
        return tuple(found)

    def construct(self, tokens: Any, position: Any, *cache: Any) -> Any:
        every: Any = (self.bits,) * (len(cache) // 2) if isinstance(self.bits, int) else self.bits
        parts, place = [], 0
        for bits in every:
            if bits is None:
                parts.append(cache[place])
                place += 1
            else:
                parts.append(self.in_floats(cache[place], cache[place + 1], bits))
                place += 2
        logits, *added = self.net(tokens, position, *parts)
        found = [logits]
        for i, more in enumerate(added):
            found += [more] if every[i] is None else self.rounded(more, every[i])
        return tuple(found)

    def in_floats(self, integers: Any, scale: Any, bits: int) -> Any:
        levels = integers.astype(ms.float32)
        if bits == 4:
            high = ops.floor(levels * (1 / HALF_BYTE))
            levels = ops.concat((high, levels - high * HALF_BYTE - HALF_BYTE / 2), -1)
        return levels * scale

    def rounded(self, x: Any, bits: int) -> list[Any]:
        """The integers and the scales of (n, ..., s, depth) floats."""
        scale = ops.maximum(ops.amax(ops.abs(x), -1, keepdims=True) * (1 / float(2 ** (bits - 1) - 1)), LEAST)
        levels = ops.round(x / scale)
        if bits == 4:
            half = levels.shape[-1] // 2
            levels = levels[..., :half] * HALF_BYTE + (levels[..., half:] + HALF_BYTE / 2)
        return [levels.astype(ms.int8), scale]
