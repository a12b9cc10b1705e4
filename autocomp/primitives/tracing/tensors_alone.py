"""Cells that stand in a copied network while it is exported.

One makes a tuple of the outputs that MindSpore's export refuses: tuples, lists and dicts of None alone. Others stand
for ``nn.SiLU`` and ``nn.GELU``, which call a function that is compiled once for a network: all its operators seem to
belong to the cell that runs first.
"""

from __future__ import annotations

from typing import Any

from .platform import load_mindspore
from .surgery import replace_cells

load_mindspore()

from mindspore import nn, ops  # noqa: E402
from mindspore.ops.auto_generate import SiLU  # noqa: E402

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


class OneOperator(nn.Cell):
    """An operator of a tensor."""

    def __init__(self, operator: Any) -> None:
        super().__init__()
        self.operator = operator

    def construct(self, x: Any) -> Any:
        return self.operator(x)


def tell_apart(net: Any) -> None:
    """Gives each SiLU and each GELU of a copied network an operator of its own."""
    found = {}
    for path, cell in net.cells_and_names():
        if path and type(cell) is nn.SiLU:
            found[path] = OneOperator(SiLU())
        elif path and type(cell) is nn.GELU and cell.approximate == "tanh":
            found[path] = OneOperator(ops.GeLU())
    replace_cells(net, found)


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
