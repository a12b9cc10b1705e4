"""Channels cut and what reads them fitted to what it gave before."""

from __future__ import annotations

import numpy as np
import pytest

from autocomp.errors import NoEffectError
from autocomp.primitives import SCOP, ChannelPruner
from autocomp.primitives.cells.compression_state import state_of
from autocomp.primitives.cells.conversion import convert
from autocomp.primitives.cells.elastic import ElasticNetwork
from autocomp.primitives.export.files import norm_error
from autocomp.primitives.numerics.plan_compressor import PlanCompressor, parameters_of
from autocomp.primitives.pruning.trained_pruning import input_moments
from autocomp.primitives.tracing.platform import forward, load_mindspore
from autocomp.primitives.tracing.tracer import trace
from autocomp.primitives.verification.refit import refitted
from autocomp.search_spaces import SearchSpace
from tests.networks import NETWORKS, randomised
from tests.odd_networks import ChannelsLast
from tests.primitives.contract import X, Y
from tests.primitives.planted import planted_network

ms = load_mindspore()

from mindspore import nn  # noqa: E402


def test_what_the_kept_units_tell_of_the_pruned_ones_is_taken_in() -> None:
    """Half of the stem's channels are twice the other half, behind a ReLU: without them nothing is lost."""
    net = randomised(NETWORKS["residual"]())
    for parameter in (net.stem.weight, net.stem.bias):
        value = parameter.asnumpy().copy()
        value[8:] = 2 * value[:8]
        parameter.set_data(ms.Tensor(value))
    errors = {}
    for reconstruct in (False, True):
        algorithm = ChannelPruner("magnitude", keep_ratio=0.5, reconstruct=reconstruct)
        net_p = algorithm.apply(net, inputs=X[:1])
        group = state_of(net_p).graph.group("stem")
        kept = np.ones(len(algorithm.cut(net_p).kept), bool)
        kept[group.start + 8 : group.stop] = False
        algorithm.keep(net_p, kept, [(X, Y)])
        errors[reconstruct] = norm_error(forward(net_p, (X,), graph=False)[0], forward(net, (X,), graph=False)[0])
    assert errors[True] < 0.01 and errors[False] > 0.1


def test_dense_layers_have_their_channels_last() -> None:
    net = randomised(ChannelsLast())
    graph = trace(net, (X[:1],))
    seen, moments = ElasticNetwork(net, graph).layer_inputs((X[:8],)), input_moments(net, graph, [(X[:8],)])
    for layer in ("wide", "narrow"):
        np.testing.assert_allclose(moments[layer].mean, seen[layer][0].mean((0, 1, 2)), atol=1e-5)


def test_layers_are_fitted_to_what_they_gave_in_the_whole_network() -> None:
    """Beyond what reconstruction alone brings; on other images than those fitted on."""
    planted, errors = planted_network(), {}
    x, expected = planted.batches[3][0], forward(planted.net, (planted.batches[3][0],), graph=False)[0]
    algorithm = ChannelPruner("magnitude", keep_ratio=0.5)
    net_p = algorithm.apply(planted.net, inputs=X[:1])
    graph, parameters = state_of(net_p).graph, parameters_of(net_p)
    kept = np.ones(graph.unit_count, bool)
    for name, useless in planted.useless.items():
        group = graph.group(name)
        useful = [unit for unit in range(group.units) if unit not in useless]
        kept[[group.start + unit for unit in useful[::3]]] = False
    images = [batch[:1] for batch in planted.batches[:3]]
    moments = input_moments(planted.net, graph, images)
    compressed = PlanCompressor(SearchSpace(graph, ()), parameters, moments=moments).of(kept, {})
    for name, found in (("reconstructed", compressed), ("fitted", refitted(planted.net, graph, compressed, images))):
        smaller = convert(planted.net, graph, parameters, found, folds=False)
        errors[name] = norm_error(forward(smaller, (x,), graph=False)[0], expected)
    assert errors["fitted"] < 0.8 * errors["reconstructed"]


@pytest.mark.parametrize("algorithm", [ChannelPruner("taylor", flops=0.6), SCOP(flops=0.6)])
def test_what_cannot_be_done_is_refused(algorithm: ChannelPruner | SCOP) -> None:
    with pytest.raises(NoEffectError, match="found no channel group to cut: it is an output of the network"):
        algorithm.apply(nn.SequentialCell(nn.Conv2d(3, 4, 3)), inputs=X[:1])
    with pytest.raises(ValueError, match="has pruned nothing yet"):
        algorithm.convert(algorithm.apply(NETWORKS["concatenating"](), inputs=X[:1]))
