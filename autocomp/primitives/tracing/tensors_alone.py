"""Networks whose outputs MindSpore's export refuses: tuples, lists and dicts of None alone."""

from __future__ import annotations

from typing import Any

from .platform import load_mindspore

load_mindspore()

from mindspore import nn  # noqa: E402

INSIDE = "_network_inside"


class TensorsAlone(nn.Cell):
    """A network that returns the tensors and numbers of another in one tuple, in their order, without None.

    Names of parameters stay; the scopes of its operators have one part more, which :func:`scope_inside` takes off.
    """

    def __init__(self, net: Any) -> None:
        super().__init__(auto_prefix=False)
        self._network_inside = net

    def construct(self, *inputs: Any) -> Any:
        return tensors_of(self._network_inside(*inputs))


def tensors_of(value: Any) -> Any:
    if value is None:
        return ()
    if isinstance(value, dict):
        return tensors_of(tuple(value.values()))
    if isinstance(value, (tuple, list)):
        found = ()
        for part in value:
            found = found + tensors_of(part)
        return found
    return (value,)


def scope_inside(scope: str) -> str:
    """The scope that an operator has in the network itself."""
    parts = scope.split("/")
    return "/".join([parts[0], *parts[2:]]) if len(parts) > 1 and parts[1].startswith(INSIDE) else scope
