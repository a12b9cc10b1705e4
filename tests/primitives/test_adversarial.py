"""Networks on which compression tools stumble: what is cut, what is left whole and why, and that all forms agree."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autocomp.errors import ExportError
from autocomp.hardware_models import device
from autocomp.primitives import LSQ, RTN, SCOP, ChannelPruner
from autocomp.primitives.cells.conversion import convert
from autocomp.primitives.cells.elastic import ElasticNetwork
from autocomp.primitives.choices import Choices
from autocomp.primitives.export.files import EXACT, export_mindir, norm_error, run_mindir, run_onnx
from autocomp.primitives.export.onnx_network import onnx_network
from autocomp.primitives.export.onnx_writer import Style
from autocomp.primitives.numerics.plan_compressor import PlanCompressor, parameters_of
from autocomp.primitives.registry import search_space
from autocomp.primitives.tracing.platform import forward
from autocomp.primitives.tracing.tracer import trace
from autocomp.primitives.verification.trial_cut import verify_channel_groups
from autocomp.search_spaces import Format, Plan, SearchSpace
from tests.networks import randomised

from . import adversarial as nets
from . import heads

PLANS = 3
OUTPUT = "it is an output of the network"
STREAM = {"patches": "LayerNorm", "project": "LayerNorm", "head": OUTPUT}
WRITTEN = "its heads can only be cut where the code computes their number: "


@dataclass
class Expected:
    """groups: layers cut together -> units, after the trial; whole: layer -> a part of the reason.

    onnx: None, or a part of the sentence that says why there is no ONNX form.
    """

    groups: dict[tuple[str, ...], int]
    whole: dict[str, str] = field(default_factory=lambda: {"head": OUTPUT})
    onnx: str | None = None


def name_of(algorithm: Any) -> str:
    return str(algorithm.name)


EXPECTED: dict[type[nets.nn.Cell], Expected] = {
    nets.DenselyConnected: Expected({("stem",): 8, ("layers.0",): 8, ("layers.1",): 8, ("layers.2",): 8}),
    nets.Shuffled: Expected({("stem.0", "third.0"): 8, ("first.0", "second"): 6}),
    nets.WrittenShuffle: Expected({("second.0",): 16}, {"head": OUTPUT, "first.0": "invalid for input of size"}),
    nets.SplitHalves: Expected({("stem.0",): 8, ("branch.0",): 8}),
    nets.Inception: Expected(
        {("stem.0",): 12, ("one.0",): 8, ("three.0.0",): 6, ("three.1.0",): 12, ("pooled.1.0",): 8}
    ),
    nets.SharedCell: Expected({("stem.0", "block"): 8}),
    nets.ReadsItsLayers: Expected({("stem",): 12, ("up",): 8, ("wide",): 12}),
    nets.TwoInputsTwoOutputs: Expected(
        {("left.0", "right"): 16, ("joint.0",): 12}, {"classes": OUTPUT, "boxes": OUTPUT}
    ),
    nets.UNet: Expected(
        {("down1.0",): 8, ("down2.0",): 12, ("down3.0",): 16, ("up",): 12, ("middle.0",): 8, ("last.0",): 8},
        {"mask": OUTPUT},
    ),
    nets.Upsampler: Expected(
        {("stem.0",): 12, ("plain",): 4, ("grouped", "depthwise"): 6, ("wide",): 6}, {"image": OUTPUT}
    ),
    nets.Detector: Expected({("stem.0", "deeper.0"): 16, ("head.0",): 8}, {"boxes": OUTPUT}),
    nets.Gathered: Expected({}, {"head": OUTPUT, "stem.0": "Gather", "last.0": "Add"}),
    nets.SqueezeExcite: Expected({("stem.0", "expand"): 16, ("reduce",): 8}),
    nets.Transformer: Expected(
        {("wide",): 32},
        {"patches": "joins", "qkv": WRITTEN, "project": "joins", "narrow": "joins", "head": OUTPUT},
    ),
    heads.Heads: Expected({("queries", "keys", "values"): 4}, STREAM),
    heads.FusedHeads: Expected({("queries",): 4}, STREAM),
    heads.WrittenHeads: Expected({("values",): 8}, STREAM | dict.fromkeys(("queries", "keys"), WRITTEN)),
    heads.WrittenWidth: Expected({}, STREAM | dict.fromkeys(("queries", "keys", "values"), WRITTEN)),
    nets.LibraryAttention: Expected({("wide",): 32}, {"patches": "MatMul", "narrow": "joins", "head": OUTPUT}),
    nets.LSTMHead: Expected({("stem.0",): 8}, {"squeeze.0": "reaches LSTM", "head": OUTPUT}),
    nets.GRUHead: Expected({("stem.0",): 8}, {"squeeze.0": "sums over it", "head": OUTPUT}),
    nets.Mixer: Expected(
        {("tokens.0",): 24, ("channels.0",): 32},
        {"patches": "another axis", "tokens.2": "joins", "channels.2": "joins", "head": OUTPUT},
    ),
    nets.TrainsOtherwise: Expected({("blocks.a",): 8, ("blocks.b",): 8}),
    nets.GatedEnd: Expected({("first.0",): 8, ("second.0",): 8}, {"last": "joins it with channels that stay"}),
    nets.OutsideParameters: Expected(
        {("third.0",): 12},
        {"first.0": "joins it with channels that stay", "second.0": "reaches Conv2D", "head": OUTPUT},
    ),
    nets.Volumes: Expected(
        {("first.0",): 8}, {"second": "GroupNorm normalises over it", "line": "reaches Conv3D", "head": OUTPUT}
    ),
    nets.Branching: Expected({("first.0",): 8, ("third.0",): 8}, {"second.0": "SumExt", "head": OUTPUT}, onnx="ONNX"),
}


def inputs_of(network: type[nets.nn.Cell]) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2, 3, 16, 16)).astype(np.float32)
    return (x, rng.standard_normal((2, 10)).astype(np.float32)) if network is nets.TwoInputsTwoOutputs else (x,)


BESIDE_LAYERS = {  # multiply-accumulates
    nets.LSTMHead: 8 * 4 * 12 * (32 + 12),  # steps * gates * hidden * (input + hidden)
    nets.OutsideParameters: 6 * 6 * 12 * 8 * 3 * 3,
    nets.Volumes: 6 * 8 * 1 * 2 * 1 * 3 * 3 * 3,  # of three dimensions
}


@pytest.mark.parametrize("network", EXPECTED, ids=lambda network: network.__name__)
def test_adversarial(network: type[nets.nn.Cell], tmp_path: Path) -> None:
    expected, inputs = EXPECTED[network], inputs_of(network)
    net = randomised(network())
    parameters = parameters_of(net)
    graph = verify_channel_groups(net, trace(net, inputs), parameters, inputs)
    assert {group.layers: group.units for group in graph.channel_groups} == expected.groups
    assert dict.fromkeys(graph.whole) == dict.fromkeys(expected.whole)
    assert [layer for layer, reason in expected.whole.items() if reason not in graph.whole[layer]] == []

    space = search_space(graph, parameters, Choices([Format.parse("w8"), Format.parse("w4")], 1))
    compressor, elastic = PlanCompressor(space, parameters), ElasticNetwork(net, graph)
    elastic.set(compressor(Plan()))
    agree(forward(elastic.cell, inputs, graph=False), forward(net, inputs, graph=False))
    cuts = [knob.group is not None for knob in space.knobs]
    for drawn in space.random(np.random.default_rng(2), PLANS):
        vector = np.where(cuts, np.maximum(drawn, 1), drawn)
        compressed = compressor(space.decode(vector))
        assert compressed.kept.all() == (not expected.groups)
        assert all(state.weight.size for state in compressed.layers.values())
        if not any(node.kind == "matmul" for node in graph.nodes):
            layers = compressed.layers
            runs = [(node, layers[str(node.layer)]) for node in graph.nodes if node.layer in layers]
            macs = sum(node.positions * state.weight.size for node, state in runs) + BESIDE_LAYERS.get(network, 0)
            assert device("ascend").costs(space.workload(vector[None])).macs == macs
        elastic.set(compressed)
        converted = convert(net, graph, parameters, compressed)
        outputs = forward(converted, inputs, graph=False)
        agree(forward(elastic.cell, inputs, graph=False), outputs)
        path = tmp_path / "net.onnx"
        if expected.onnx is None:
            for style in (Style(), Style(integer_weights=True)):
                path.write_bytes(onnx_network(graph, parameters, compressed, style).SerializeToString())
                agree(run_onnx(path, inputs), outputs)
        else:
            with pytest.raises(ExportError, match=expected.onnx):
                onnx_network(graph, parameters, compressed)
    export_mindir(converted, inputs, tmp_path / "net.mindir")
    agree(run_mindir(tmp_path / "net.mindir", inputs), outputs)
    assert all(np.array_equal(value, parameters[name]) for name, value in parameters_of(net).items())


def agree(found: tuple[np.ndarray, ...], expected: tuple[np.ndarray, ...]) -> None:
    assert len(found) == len(expected)
    assert max(norm_error(a, b) for a, b in zip(found, expected, strict=True)) <= EXACT


@pytest.mark.parametrize(
    "algorithm", [RTN(8, 8), LSQ(4, 8), ChannelPruner("magnitude", keep_ratio=0.5), SCOP(keep_ratio=0.5)], ids=name_of
)
def test_layers_may_be_read_whatever_stands_in_their_place(algorithm: Any) -> None:
    net, (x,) = randomised(nets.ReadsItsLayers()), inputs_of(nets.ReadsItsLayers)
    if isinstance(algorithm, (RTN, LSQ)):
        changed = algorithm.apply(net, calibrate=x)
    else:
        changed = algorithm.apply(net, inputs=x)
        algorithm.prune(changed, [(x, np.zeros(2, np.int32))], nets.nn.CrossEntropyLoss())
    assert forward(changed, (x,))[0].shape == forward(algorithm.convert(changed), (x,))[0].shape == (2, 5)


class PicksImages(nets.nn.Cell):
    def construct(self, x: nets.Tensor) -> nets.Tensor:
        return nets.ops.gather(x, nets.Tensor(np.zeros(2, np.int32)), 0)


def test_gathers_without_an_onnx_form() -> None:
    graph = trace(PicksImages(), (np.ones((1, 3, 4), np.float32),))
    with pytest.raises(ExportError, match="picks images of the batch"):
        onnx_network(graph, {}, PlanCompressor(SearchSpace(graph, ()), {}).of(np.ones(0, bool), {}))
