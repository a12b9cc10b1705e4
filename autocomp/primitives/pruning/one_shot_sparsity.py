"""2:4 sparsity in one forward pass, by what layers read: Wanda and SparseGPT."""

from __future__ import annotations

from typing import Any

import numpy as np

from autocomp.primitives.arguments import RULES, need_samples
from autocomp.primitives.cells.compression_state import state_of
from autocomp.primitives.cells.fake_quant import assign
from autocomp.primitives.cells.layer_pass import visit_layers
from autocomp.primitives.numerics.patches import MOST_WIDTH, PATCHES, PatchSums, patch_width, sample_patches
from autocomp.primitives.numerics.semi_structured import compensated, two_of_four
from autocomp.rules import checked
from autocomp.search_spaces import Node

from .sparsity import PATTERN, Sparsity

MOST_SAMPLES = 256


class Wanda(Sparsity):
    """Wanda (Sun et al., ICLR 2024, arXiv:2306.11695): of every four weights the two with the smallest |w| ||x||_2
    become zero (eq. 1), where x is the input that the weight is multiplied with; the others stay as they are.

    >>> algorithm = Wanda()
    >>> sparse = algorithm.convert(algorithm.apply(net, calibrate=tokens))

    Layers are seen one after the other in a single forward pass: each with the inputs that the sparse layers before it
    compute. The network may then be trained with its zeros, as that of :class:`Sparsity`.

    Args:
        first_last_layers: whether the first and the last layer are made sparse, too.

    Left dense: transposed convolutions, and layers without groups of four input channels.
    """

    name = "wanda"

    @checked(RULES["Sparsity"])
    def __init__(self, first_last_layers: bool = False) -> None:
        super().__init__(PATTERN, first_last_layers=first_last_layers)

    def sparse(self, node: Node, weight: np.ndarray, x: np.ndarray) -> np.ndarray:
        """The weight, (out, in / groups, ...), with two zeros in every four; x: the layer's input, (n, ...)."""
        patches = sample_patches(node, x, PATCHES, np.random.default_rng(0)).astype(np.float64)
        squares = (patches**2).mean((0, 1)).reshape(weight.shape[1], -1)  # of channels and taps, over groups
        return two_of_four(weight, np.sqrt(squares.mean(1)))

    @checked(RULES["apply"])
    def apply(self, net: Any, inputs: Any = None, calibrate: Any = None) -> Any:
        """A new Cell of the same class with zeros in its weights and a mask for each.

        Args:
            net: a MindSpore Cell; it is copied, never changed.
            inputs: as ``autocomp.search`` takes them; None: of the shape of ``calibrate``.
            calibrate: arrays (n, ...), of which at most 256 samples are used.

        Raises:
            TypeError: net is no Cell. ValueError: there are no samples. NoEffectError: it has no layer to mask.
        """
        need_samples(self.name, calibrate)
        arrays = calibrate if isinstance(calibrate, tuple) else (calibrate,)
        net_s = super().apply(net, arrays if inputs is None else inputs)
        applied = state_of(net_s)

        def visit(path: str, x: np.ndarray) -> None:
            layer, node = applied.layers[path], applied.graph.nodes[applied.graph.layers[path]]
            found = self.sparse(node, layer.weight.asnumpy(), x)
            assign(layer.weight, found)
            assign(layer.weight_quantizer.mask, found != 0)

        layers = applied.layers
        for layer in layers.values():  # each is dense until it is seen
            assign(layer.weight_quantizer.mask, np.ones(layer.weight.shape, np.float32))
        visit_layers(net_s, layers, tuple(array[:MOST_SAMPLES] for array in arrays), visit)
        return net_s


class SparseGPT(Wanda):
    """SparseGPT (Frantar and Alistarh, ICML 2023, arXiv:2301.00774): of every four weights those two become zero whose
    loss costs the layer's output least when the weights after them compensate it (section 3.3); then all weights that
    stay move to the least-squares solution. :mod:`autocomp.primitives.numerics.semi_structured` is the solver, which a
    search uses, too.

    >>> algorithm = SparseGPT()
    >>> sparse = algorithm.convert(algorithm.apply(net, calibrate=tokens))

    Layers are seen one after the other, and one Hessian is held at a time; see :class:`Wanda`.

    Args:
        first_last_layers: whether the first and the last layer are made sparse, too.

    Left dense: transposed convolutions, and layers without groups of four input channels. Layers with more than 4,608
    inputs for an output are made sparse as Wanda does.
    """

    name = "sparse-gpt"

    def sparse(self, node: Node, weight: np.ndarray, x: np.ndarray) -> np.ndarray:
        if patch_width(node) > MOST_WIDTH:
            return super().sparse(node, weight, x)
        sums = PatchSums()
        sums.add(sample_patches(node, x, PATCHES, np.random.default_rng(0)))
        return compensated(weight, sums.moments().damped(centred=False))
