"""From a value of a plan to the chain that it names, without a search space."""

from __future__ import annotations

from autocomp.search_spaces import LayerChain, NetworkGraph

from .chains import replaceable
from .convolution_knobs import convolution_chains
from .ghost_knobs import GHOST, ghost_chain, ghostable
from .low_rank_knobs import low_rank_chain

RANK = "rank"


def chain_of(graph: NetworkGraph, layer: str, value: str) -> LayerChain:
    """The chain that a value, ``"rank0.5"``, puts in the place of a layer; ValueError where it names none."""
    if layer not in replaceable(graph):
        known = ", ".join(replaceable(graph))
        raise ValueError(f"a plan changes the structure of dense layers and of convolutions with one group: {known}; "
                         f"but got {layer!r}")  # fmt: skip
    own, others = graph.nodes[graph.layers[layer]], convolution_chains(graph, layer)
    if layer in ghostable(graph):
        others[GHOST] = ghost_chain(own)
    if value in others:
        return others[value]
    share = _number(value.removeprefix(RANK)) if value.startswith(RANK) else 0.0
    if not 0 < share < 1:
        known = "".join(f", {one}" for one in others)
        raise ValueError(f"the structure of {layer} must be rank<share>, share in (0, 1){known}; but got {value!r}")
    return low_rank_chain(own, share)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
