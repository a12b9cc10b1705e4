"""Networks in float16 or bfloat16 in their float32 form, in which they are traced, rounded and judged."""

from __future__ import annotations

import inspect
import logging
import re
from typing import Any

from autocomp.search_spaces import NetworkGraph

from .mindir import copy_network
from .platform import load_mindspore
from .surgery import replace_cells

log = logging.getLogger("autocomp")

HALVES = ("float16", "bfloat16")
HALF_TYPES = (10, 16)  # as MindIR and ONNX number them
FLAGS = ("fp16", "bf16")  # of Cell.to_float
WRITTEN = re.compile(r"\w*Opt\w*_\d{6,}")  # modules of the classes that level O1 writes
STRATEGY = "amp_strategy"  # of amp level "auto"


def float32_form(net: Any) -> Any:
    """The network itself, or a copy in float32 where it has parameters, cells or an amp level of a smaller type.

    Parameters become float32, and so do the inputs of every cell; what ``mindspore.amp`` has put around cells is taken
    off again, so that layers have the names they had before. Casts in the network's own code stay.
    """
    said = half_precision(net)
    if not said:
        return net
    log.info("the network is worked on in float32: it has %s", said)
    strategies = [vars(cell)[STRATEGY] for _, cell in net.cells_and_names() if STRATEGY in vars(cell)]
    twin = _without_amp(copy_network(net, kept=strategies))
    float32 = load_mindspore().float32
    for parameter in twin.get_parameters():
        if _is_half(parameter):
            parameter.set_dtype(float32)
    twin.to_float(float32)
    return twin.set_train(net.training)


def half_precision(net: Any) -> str:
    """What of a network computes in float16 or bfloat16, in words; "" for nothing."""
    cells = [cell for _, cell in net.cells_and_names()]
    level = next((cell._amp_level for cell in cells if getattr(cell, "_amp_level", None)), "")
    halves = sum(map(_is_half, net.get_parameters()))
    flagged = sum(any(getattr(cell, flag, False) for flag in FLAGS) for cell in cells)
    found = [f"amp level {level}"] if level else []
    found += [f"{halves} parameters in float16 or bfloat16"] if halves else []
    found += [f"{flagged} cells that compute in float16 or bfloat16"] if flagged and not level else []
    return " and ".join(found)


def half_note(net: Any) -> tuple[str, ...]:
    """A note for the reader of a front."""
    said = half_precision(net)
    form = "it was searched, and is exported, in its float32 form, which takes and gives float32"
    return (f"the network has {said}: {form}",) if said else ()


def rounds_to_half(graph: NetworkGraph) -> bool:
    """Whether the network's own code casts to float16 or bfloat16: two right results may differ by a step of it."""
    return any(node.attributes.type in HALF_TYPES for node in graph.nodes)


def _is_half(parameter: Any) -> bool:
    return str(parameter.dtype).lower() in HALVES


def _without_amp(net: Any) -> Any:
    """The network as it was before ``auto_mixed_precision``; ``net`` is a copy and is changed.

    O2 and O3 wrap cells, O1 writes a subclass of each, "auto" wraps the construct of the network.
    """
    load_mindspore()
    from mindspore.train import amp

    around = (amp._OutputTo16, amp._OutputTo32)
    while isinstance(net, around):
        net = net._backbone
    wrapped = {path: cell._backbone for path, cell in net.cells_and_names() if isinstance(cell, around)}
    replace_cells(net, wrapped)
    for _, cell in list(net.cells_and_names()):
        if WRITTEN.fullmatch(type(cell).__module__):
            cell.__class__ = _as_imported(type(cell).__bases__[0])
        if vars(cell).pop(STRATEGY, None) is not None:
            vars(cell).pop("construct", None)
        vars(cell).pop("_amp_level", None)
    return net


def _as_imported(cell: type) -> Any:
    """MindSpore's own class of this name and file: what writes the classes of O1 imports the files a second time."""
    known = getattr(load_mindspore().nn, cell.__name__, None)
    same = known is not None and inspect.getfile(known) == inspect.getfile(cell)
    return known if same else cell
