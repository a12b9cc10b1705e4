"""Values of knobs in plans: what is chosen, and, after an ``@``, the primitive that carries it out."""

from __future__ import annotations

from .plan import Value

SEPARATOR = "@"


def split_value(value: Value) -> tuple[Value, str]:
    """What is chosen, and the name of the primitive; no name where the value leaves it to the knob.

    >>> split_value("w4a8@lsq"), split_value("0.5@taylor"), split_value(0.5)
    (('w4a8', 'lsq'), (0.5, 'taylor'), (0.5, ''))
    """
    if not isinstance(value, str) or SEPARATOR not in value:
        return value, ""
    chosen, _, primitive = value.rpartition(SEPARATOR)
    try:
        return float(chosen), primitive
    except ValueError:
        return chosen, primitive


def carried_out_by(value: Value, primitive: str) -> Value:
    """The same choice, carried out by this primitive.

    >>> carried_out_by("w4a8", "lsq")
    'w4a8@lsq'
    """
    return f"{split_value(value)[0]}{SEPARATOR}{primitive}"
