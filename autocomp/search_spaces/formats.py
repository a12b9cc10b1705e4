"""Number formats of a layer: how many bits its weights and its input activations have, and which weights share a
scale."""

from __future__ import annotations

import re
from dataclasses import dataclass

FLOAT_BITS = 32


@dataclass(frozen=True, order=True)
class Format:
    """Bits of a layer's weights and of its input activations; 32 means the device's own float format.

    group: so many inputs of an output share a scale, in formats of weights alone; 0: all of them.

    >>> Format.parse("w4a8")
    Format(weight_bits=4, activation_bits=8)
    >>> str(Format(weight_bits=8)), Format.parse("w4g32").group
    ('w8', 32)
    """

    weight_bits: int = FLOAT_BITS
    activation_bits: int = FLOAT_BITS
    group: int = 0

    @classmethod
    def parse(cls, text: str) -> Format:
        """``"float"``, ``"w8"`` (weights only), ``"w8a8"`` or ``"w4g32"``; ValueError for anything else."""
        if text == "float":
            return cls()
        match = re.fullmatch(r"w([1-8])(?:a([2-8])|g([1-9][0-9]{0,4}))?", text)
        if match is None:
            rule = "a format is 'float', 'w<bits>' or 'w<bits>a<bits>', weights with 1 to 8 bits and inputs with 2 to 8"
            raise ValueError(f"{rule}, or 'w<bits>g<inputs that share a scale>', but got {text!r}")
        return cls(int(match[1]), int(match[2] or FLOAT_BITS), int(match[3] or 0))

    @property
    def in_integers(self) -> bool:
        """Whether weights and inputs have 8 bits or fewer: a chip for integers multiplies them as they are."""
        return max(self.weight_bits, self.activation_bits) <= 8

    def __str__(self) -> str:
        if self.weight_bits == FLOAT_BITS:
            return "float"
        weights = f"w{self.weight_bits}" + (f"g{self.group}" if self.group else "")
        return weights + ("" if self.activation_bits == FLOAT_BITS else f"a{self.activation_bits}")
