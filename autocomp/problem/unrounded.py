"""Names the cells whose parameters no knob rounds."""

from __future__ import annotations

from typing import Any

import numpy as np

from autocomp.primitives.tracing.nodes import owners_of
from autocomp.search_spaces import SearchSpace

FLOAT_SHARE = 0.05  # of the parameters, from which on those that no knob rounds are warned of
NAMED = 5  # cells, at most, in such a warning


def stays_float(net: Any, space: SearchSpace) -> tuple[str, ...]:
    """Cells whose parameters no knob rounds, where they are many: with the share of all parameters."""
    total, sizes = _unrounded(net, space)
    share = sum(sizes.values()) / max(total, 1)
    if share < FLOAT_SHARE:
        return ()
    largest = sorted(sizes.items(), key=lambda item: -item[1])
    named = ", ".join(f"{name} {size / total:.1%}" for name, size in largest[:NAMED])
    others = f" and {len(largest) - NAMED} others" if len(largest) > NAMED else ""
    return (f"{share:.0%} of the parameters stay in float, since no knob takes their layers: {named}{others}",)


def _unrounded(net: Any, space: SearchSpace) -> tuple[int, dict[str, int]]:
    """Parameters of the network, and of each cell that no knob rounds; normalisations are left out."""
    layers = {layer for knob in space.knobs if knob.kind == "format" for layer in knob.layers}
    norms = {node.layer for node in space.graph.nodes if node.kind in ("batchnorm", "layernorm")}
    sizes: dict[str, int] = {}
    total = 0
    for owner in owners_of(net).values():
        count = sum(int(np.prod(p.shape)) for p in [getattr(owner.cell, owner.attribute, None)] if p is not None)
        total += count
        if owner.path not in layers and owner.path not in norms:
            place = space.graph.embeddings.get(owner.path)
            tied = place is not None and space.graph.nodes[place].attributes.tied
            kind = type(owner.cell).__name__ + (", whose table is read elsewhere, too" if tied else "")
            name = f"{owner.path or 'the network itself'} ({kind})"
            sizes[name] = sizes.get(name, 0) + count
    return total, sizes
