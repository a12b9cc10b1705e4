"""Rotation as an algorithm: a network whose residual streams are turned, so that no channel stands out, and rounded."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from autocomp.errors import NoEffectError
from autocomp.primitives.arguments import RULES, need_samples
from autocomp.primitives.cells.compression_state import state_of
from autocomp.primitives.cells.layer_pass import ScaledLayer
from autocomp.primitives.cells.layers import ms
from autocomp.primitives.cells.turned_norm import TurnedGains, TurnedInput, TurnedNorm
from autocomp.primitives.numerics.calibrators import Calibration
from autocomp.primitives.numerics.plan_compressor import parameters_of
from autocomp.primitives.numerics.quantizers import QuantizedWeight
from autocomp.primitives.numerics.rotations.matrices import rotated_by_factors, rotation_factors
from autocomp.primitives.numerics.rotations.merged import Merged, merged_rotations
from autocomp.primitives.numerics.rotations.rotated_axes import Place, RotatedAxes, residual_streams, value_heads
from autocomp.primitives.quantization.gptq import GPTQ
from autocomp.primitives.quantization.layerwise import LayerwiseRounding
from autocomp.primitives.quantization.scaled_quantization import renamed_plan
from autocomp.primitives.tracing.mindir import copy_network
from autocomp.primitives.tracing.platform import forward
from autocomp.primitives.tracing.surgery import cell_at, rename_parameters, replace_cells
from autocomp.primitives.tracing.tracer import as_float32, trace
from autocomp.primitives.verification.standalone import inputs_for
from autocomp.rules import checked
from autocomp.search_spaces import NetworkGraph, Node, Plan

SAME = 1e-3  # relative difference of outputs, above which parameters are read in a way that was not seen


class Rotation(GPTQ):
    """Weights along a residual stream are multiplied by an orthogonal matrix, which cancels out in float and spreads
    outliers of the stream over all channels: QuaRot (Ashkboos et al., NeurIPS 2024, arXiv:2404.00456), by the
    invariance of SliceGPT (Ashkboos et al., ICLR 2024, arXiv:2401.15024). Then weights and inputs are rounded.

    >>> rotation = Rotation(weight_bits=4, activation_bits=8)
    >>> deploy = rotation.convert(rotation.apply(net, calibrate=tokens))
    >>> front = autocomp.search(Rotation().equivalent(net, tokens[:1]), "size<30%", "ascend", data)

    Gains of norms move into the layers behind them; embeddings and layers that write the stream are rotated, those that
    read it are rotated back. The channels of each head are rotated between values and output projection. These are
    merged into weights: none runs in the network. Inputs of other dense layers, such as SwiGLU's narrowing one, keep
    their outliers unless they are rotated ``online``, as in QuaRot. A head that shares its weight with the embedding
    cannot take in the last norm's gains, and stays tied: R diag(gains) R^T then stands behind that norm, as a matrix of
    (channels, channels) in float.

    Args:
        weight_bits, activation_bits: 2 to 8, or 32 for none. first_last_bits: least number of bits in the first and
            last layer; None: as all others.
        group_size: so many inputs of an output channel share a scale, or, where a layer's inputs are not a multiple of
            it, the largest divisor; None: all of them.
        rounding: of weights, "gptq" or "nearest". symmetric_weights: ranges of weights symmetric around zero; otherwise
            they have a zero point, too.
        calibration: of inputs' ranges: "mse", "minmax", "percentile" or "kl".
        dynamic: whether each row of a dense layer's input has a range of its own.
        heads: whether the channels of heads are rotated, too.
        online: whether the inputs of dense layers that no merged rotation reaches are multiplied by an orthogonal
            matrix while the network runs: for 1,536 channels three products with matrices of 64, 8 and 3.
        seed: of the random signs.

    ``rotated``, ``turned`` and ``refused`` say, after ``equivalent`` or ``apply``, what was rotated, which layers'
    inputs are rotated online, and why other streams were not.
    """

    name = "rotation"
    rotated: tuple[RotatedAxes, ...] = ()
    turned: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()

    @checked(RULES["Rotation"])
    def __init__(
        self,
        weight_bits: int = 4,
        activation_bits: int = 8,
        first_last_bits: int | None = None,
        group_size: int | None = None,
        rounding: str = "gptq",
        symmetric_weights: bool = True,
        calibration: Calibration = "mse",
        dynamic: bool = False,
        heads: bool = True,
        online: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(
            *(weight_bits, activation_bits, first_last_bits, group_size),
            symmetric_weights=symmetric_weights,
            calibration=calibration,
        )
        self.rounding, self.dynamic, self.heads = rounding, dynamic, heads
        self.online, self.seed = online, seed

    @checked(RULES["equivalent"])
    def equivalent(self, net: Any, inputs: Any = None) -> Any:
        """A new Cell of the network's own class that computes the same in float, with rotated weights.

        net: a MindSpore Cell; it is copied, never changed. inputs: as ``autocomp.search`` takes them; None tries the
        usual image sizes.

        Raises:
            TypeError: net is no Cell. NoEffectError: it has no residual stream that norms read, or none that could be
            rotated, with the reason.
        """
        net = as_float32(net)
        arrays = inputs_for(net, inputs)
        graph = trace(net, arrays)
        streams, refused = residual_streams(graph)
        if not streams:
            why = refused[0] if refused else "no LayerNorm and no RMSNorm reads it"
            raise NoEffectError(f"{self.name} found no residual stream that it can rotate: {why}")
        taken = {place for axes in streams for place in axes.places}
        self.rotated = (*streams, *(value_heads(graph, taken) if self.heads else ()))
        self.refused = tuple(refused)
        taken = {place for axes in self.rotated for place in axes.places}
        self.turned = _unreached(graph, taken) if self.online else ()
        merged = merged_rotations(parameters_of(net), self.rotated, self.seed)
        twin = _merged(net, merged, self.turned, np.random.default_rng(self.seed))
        self._check_same(net, twin, arrays)
        return twin.set_train(net.training)

    def _check_same(self, net: Any, twin: Any, arrays: tuple[np.ndarray, ...]) -> None:
        twins = zip(_outputs(net, arrays), _outputs(twin, arrays), strict=True)
        error = max(float(np.abs(mine - own).max() / max(np.abs(own).max(), 1e-30)) for own, mine in twins)
        if not error < SAME:
            raise NoEffectError(
                f"{self.name} cannot rotate this network: its outputs would change by {error:.2g} of the largest, "
                "since its code reads parameters in a way that the traced graph does not show"
            )

    @checked(RULES["apply"])
    def apply(
        self, net: Any, inputs: Any = None, calibrate: Any = None, plan: Plan | Mapping[str, Any] | None = None
    ) -> Any:
        """A new Cell with rotated weights that rounds; arguments as for :meth:`TrainedQuantization.apply`.

        ValueError without samples to calibrate on. NoEffectError as for :meth:`equivalent`.
        """
        need_samples(self.name, calibrate)
        rotated = self.equivalent(net, calibrate if inputs is None else inputs)
        return super().apply(rotated, inputs, calibrate, None if plan is None else renamed_plan(plan, rotated))

    @checked(RULES["set_plan"])
    def set_plan(self, net_q: Any, plan: Plan | Mapping[str, Any] | None = None) -> None:
        """Round the rotated network's weights again for these bits; compiles nothing."""
        super().set_plan(net_q, None if plan is None else renamed_plan(plan, state_of(net_q).original))

    def rounded(self, node: Node, weight: np.ndarray, bits: int, x: np.ndarray) -> QuantizedWeight:
        if self.rounding == "nearest":
            return LayerwiseRounding.rounded(self, node, weight, bits, x)
        return super().rounded(node, weight, bits, x)


def _unreached(graph: NetworkGraph, taken: Collection[Place]) -> tuple[str, ...]:
    """Dense layers that run once, whose input's channels are not rotated."""
    nodes = {layer: graph.nodes[i] for layer, i in graph.layers.items()}
    return tuple(
        layer
        for layer, node in nodes.items()
        if node.kind == "dense" and len(graph.calls(layer)) == 1 and (node.weight, 1) not in taken
    )


def _merged(net: Any, merged: Merged, turned: Collection[str], rng: np.random.Generator) -> Any:
    twin = copy_network(net)
    names = {id(parameter): parameter.name for parameter in twin.get_parameters()}
    for parameter in twin.get_parameters():
        if parameter.name in merged.parameters:
            parameter.set_data(ms.Tensor(merged.parameters[parameter.name]))
    new = {path: TurnedNorm(cell_at(twin, path), TurnedGains(gain)) for path, gain in merged.gains.items()}
    for path in turned:
        cell = cell_at(twin, path)
        factors = rotation_factors(cell.weight.shape[1], rng)
        cell.weight.set_data(ms.Tensor(rotated_by_factors(cell.weight.asnumpy(), factors).astype(np.float32)))
        new[path] = ScaledLayer(TurnedInput(factors), cell)
    replace_cells(twin, new)
    rename_parameters(twin, names)
    return twin


def _outputs(net: Any, arrays: tuple[np.ndarray, ...]) -> list[np.ndarray]:
    training = net.training
    net.set_train(False)
    try:
        return [one for one in forward(net, arrays, graph=False) if one.dtype.kind == "f"]
    finally:
        net.set_train(training)
