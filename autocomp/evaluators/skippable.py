"""Which blocks of a network plans may skip: those whose cells read and return what the traced graph says."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from autocomp.primitives.numerics.plan_compressor import PlanCompressor, parameters_of
from autocomp.primitives.replacement.residual_blocks import candidate_blocks, widened
from autocomp.primitives.tracing.mindir import copy_network
from autocomp.primitives.tracing.platform import execution_mode, to_tensors
from autocomp.primitives.tracing.surgery import cell_at
from autocomp.search_spaces import NetworkGraph, Plan, ResidualBlock, SearchSpace

from .engines import Arrays, OnnxEngine

log = logging.getLogger("autocomp")

SAME = 1e-3  # relative, of a tensor in two engines
Seen = tuple[np.ndarray, np.ndarray]  # a cell's first argument and what it returned


def skippable_blocks(net: Any, graph: NetworkGraph, inputs: Arrays) -> tuple[ResidualBlock, ...]:
    """The innermost cells that can be left out, in the order in which they run: each reads its block's source as its
    first argument and returns its output. Found by one forward pass; none where the network has no ONNX form.

    inputs: a few samples.
    """
    candidates = list(candidate_blocks(graph))
    if not candidates:
        return ()
    try:
        seen = _seen(net, {block.name for block in candidates}, inputs)
        nodes = {i for block in candidates for i in (block.source, block.output)}
        parameters = parameters_of(net)
        plain = PlanCompressor(SearchSpace(graph, ()), parameters)(Plan())
        values = OnnxEngine(graph, parameters).node_outputs(plain, inputs, nodes)
    except Exception as error:  # the network's own code in PyNative mode, or operators without an ONNX form
        log.info("no block is skipped: %s", error)
        return ()
    found: list[ResidualBlock] = []
    for block in candidates:
        inside = any(block.nodes & other.nodes for other in found)
        if not inside and block.name in seen and _agrees(seen[block.name], values[block.source], values[block.output]):
            found.append(widened(graph, block))
    return tuple(sorted(found, key=lambda block: block.output))


def _agrees(seen: Seen, *expected: np.ndarray) -> bool:
    pairs = zip(seen, expected, strict=True)
    return all(a.shape == b.shape and np.abs(a - b).max() <= SAME * max(np.abs(b).max(), 1e-6) for a, b in pairs)


def _seen(net: Any, paths: Iterable[str], inputs: Arrays) -> dict[str, Seen]:
    """Of the cells that run once, and return one tensor; in PyNative mode, where hooks work."""
    twin = copy_network(net, shares=True).set_train(False)
    calls: dict[str, list[Seen | None]] = {}

    def listen(path: str) -> Callable[[Any, Any, Any], None]:
        def keep(_cell: Any, arguments: Any, output: Any) -> None:
            whole = arguments and all(hasattr(one, "asnumpy") for one in (arguments[0], output))
            calls.setdefault(path, []).append((arguments[0].asnumpy(), output.asnumpy()) if whole else None)

        return keep

    for path in paths:
        cell_at(twin, path).register_forward_hook(listen(path))
    with execution_mode(graph=False):
        twin(*to_tensors(inputs))
    once = {path: found[0] for path, found in calls.items() if len(found) == 1}
    return {path: found for path, found in once.items() if found is not None}
