"""Networks as bytes for another process: a Cell's primitives cannot be pickled, but made again from their arguments."""

from __future__ import annotations

import io
import pickle
from typing import Any

from autocomp.primitives.tracing.platform import load_mindspore


def cell_bytes(net: Any) -> bytes:
    """The network, of classes that are found where it is read, or pickled by value where Ray is told so.

    Raises:
        TypeError, pickle.PicklingError: something in it cannot be pickled, as an open file.
    """
    primitive_class = load_mindspore().ops.Primitive
    from ray import cloudpickle

    class Pickler(cloudpickle.Pickler):
        def reducer_override(self, value: Any) -> Any:
            if isinstance(value, primitive_class):
                return _made, (type(value), value.init_attrs)
            return super().reducer_override(value)

    sent = io.BytesIO()
    Pickler(sent, protocol=5).dump(net)
    return sent.getvalue()


def cell_of(sent: bytes) -> Any:
    """The network that :func:`cell_bytes` was given, with parameters of its own."""
    load_mindspore()
    return pickle.loads(sent)


def _made(kind: Any, arguments: dict[str, Any]) -> Any:
    """As MindSpore itself copies a primitive."""
    return kind(**arguments)
