"""Attention heads behind gates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from autocomp.errors import NoEffectError
from autocomp.primitives import HeadPruning
from autocomp.primitives.attention import Attention, open_attention
from autocomp.primitives.head_pruning import HIGH, LOW, TEMPERATURE
from autocomp.primitives.platform import execution_mode, forward, load_mindspore
from autocomp.primitives.trace import trace
from tests.networks import randomised

from .adversarial import FusedHeads, Heads, Transformer

ms = load_mindspore()

import mindspore.dataset as ds  # noqa: E402
from mindspore import Tensor, nn, ops  # noqa: E402
from mindspore.train import Callback  # noqa: E402

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((64, 3, 16, 16)).astype(np.float32), RNG.integers(0, 5, 64).astype(np.int32)
WIDTH, TOKENS = 16, 16


class Encoder(nn.Cell):
    """Two layers of ``nn.TransformerEncoder`` over the patches of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, 4, 4, has_bias=True)
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 32, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Dense(WIDTH, 5)

    def construct(self, x: Tensor) -> Tensor:
        x = ops.transpose(ops.flatten(self.patches(x), start_dim=2), (0, 2, 1))
        return self.head(ops.mean(self.encoder(x), 1))


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("sizes", [{}, {"kdim": 6, "vdim": 10}])
def test_attention_in_layers_computes_what_the_library_does(batch_first: bool, sizes: dict[str, int]) -> None:
    """Alone, with masks of both kinds, with weights returned, with keys and values of another width."""
    library = nn.MultiheadAttention(8, 2, batch_first=batch_first, **sizes)
    ours = Attention(library)
    rng = np.random.default_rng(1)
    for parameter in (library.in_proj_bias, library.out_proj.bias):
        parameter.set_data(Tensor(rng.standard_normal(parameter.shape).astype(np.float32)))
    ours = Attention(library)
    q, k, v = (
        rng.standard_normal((3, count, width)).astype(np.float32)
        for count, width in ((5, 8), (7, sizes.get("kdim", 8)), (7, sizes.get("vdim", 8)))
    )
    order = (0, 1, 2) if batch_first else (1, 0, 2)
    inputs = [Tensor(array.transpose(order).copy()) for array in (q, k, v)]
    float_mask = Tensor(np.where(rng.random((5, 7)) < 0.3, -1e4, 0).astype(np.float32))
    missing = np.zeros((3, 7), bool)
    missing[:, 4:] = True
    for options in ({}, {"attn_mask": float_mask}, {"key_padding_mask": Tensor(missing)}):
        expected, found = library(*inputs, **options), ours(*inputs, **options)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a.asnumpy(), b.asnumpy(), atol=1e-5)
    assert len(ours(*inputs, need_weights=False)) == 1


def test_a_library_encoder_is_opened() -> None:
    net = Encoder().set_train(False)
    twin = open_attention(net)
    np.testing.assert_allclose(forward(twin, (X,), graph=False)[0], forward(net, (X,), graph=False)[0], atol=1e-5)
    assert [path for path, cell in twin.cells_and_names() if isinstance(cell, Attention)] == [
        "encoder.layers.0.self_attn",
        "encoder.layers.1.self_attn",
    ]
    plain = Heads()
    assert open_attention(plain) is plain


def train(net: Any, callbacks: list[Any], epochs: int, graph: bool = True, labels: np.ndarray = Y) -> None:
    dataset = ds.NumpySlicesDataset((X, labels), ["image", "label"], shuffle=False).batch(32)
    loss = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    with execution_mode(graph):
        model = ms.Model(net, loss, nn.Momentum(net.trainable_params(), 0.02, 0.9))
        model.train(epochs, dataset, callbacks, dataset_sink_mode=False)


class Look(Callback):
    def __init__(self, net_p: Any) -> None:
        super().__init__()
        self.gates = net_p.head_gating
        self.seen: list[tuple[float, float]] = []

    def on_train_step_end(self, run_context: Any) -> None:
        self.seen.append((float(self.gates.strength.asnumpy()), float(self.gates.on.asnumpy())))


@dataclass
class Pruned:
    algorithm: HeadPruning
    net: Any
    net_p: Any
    before: np.ndarray
    look: Look


@pytest.fixture(scope="module")
def pruned() -> Pruned:
    net = Encoder().set_train(False)
    algorithm = HeadPruning(keep_ratio=0.5)
    net_p = algorithm.apply(net, inputs=X[:1])
    look, before = Look(net_p), net_p.head_gating.log_alpha.asnumpy().copy()
    train(net_p, [*algorithm.callbacks(), look], epochs=4)
    return Pruned(algorithm, net, net_p, before, look)


def test_heads_of_a_library_encoder_are_really_removed(pruned: Pruned) -> None:
    cut, smaller = pruned.algorithm.cut(pruned.net_p), pruned.algorithm.convert(pruned.net_p)
    assert cut.kept.sum() == 4 and len(cut.kept) == 8
    np.testing.assert_allclose(
        forward(smaller, (X,), graph=False)[0], forward(pruned.net_p, (X,))[0], rtol=1e-4, atol=1e-5
    )
    assert trace(smaller, (X[:1],)).macs == cut.macs < trace(open_attention(pruned.net), (X[:1],)).macs
    elements = sum(p.size for p in smaller.get_parameters())
    assert elements == cut.parameters < sum(p.size for p in pruned.net.get_parameters())
    for i in range(2):
        heads = int(cut.kept[4 * i : 4 * i + 4].sum())
        attention = smaller.encoder.layers[i].self_attn
        assert attention.queries.weight.shape == (4 * heads, WIDTH) and heads >= 1
        assert attention.project.weight.shape == (WIDTH, 4 * heads)


def test_gates_train_then_the_choice_is_final(pruned: Pruned) -> None:
    strengths, on = zip(*pruned.look.seen, strict=True)
    assert on == (1, 1, 1, 1, 0, 0, 0, 0)
    np.testing.assert_allclose(strengths[:4], [0, 0.25, 0.5, 0.5])
    assert (pruned.net_p.head_gating.log_alpha.asnumpy() != pruned.before).all()


def test_heads_that_nothing_reads_are_those_that_go() -> None:
    """Hand-written attention, in PyNative mode. The labels are the network's own answers; only gates train."""
    net = randomised(FusedHeads())
    weight = net.project.weight.asnumpy().copy()
    weight[:, 8:24] = 0  # heads 1 and 2 of 4
    net.project.weight.set_data(Tensor(weight))
    labels = forward(net, (X,), graph=False)[0].argmax(1).astype(np.int32)
    assert len(np.unique(labels)) > 1
    algorithm = HeadPruning(keep_ratio=0.5, penalty=0.2)
    net_p = algorithm.apply(net, inputs=(1, 3, 16, 16))
    for parameter in net_p.get_parameters():
        parameter.requires_grad = parameter is net_p.head_gating.log_alpha
    train(net_p, algorithm.callbacks(), epochs=6, graph=False, labels=labels)
    assert algorithm.cut(net_p).kept.tolist() == [True, False, False, True]
    smaller = algorithm.convert(net_p)
    np.testing.assert_allclose(
        forward(smaller, (X,), graph=False)[0], forward(net_p, (X,), graph=False)[0], rtol=1e-4, atol=1e-5
    )


def test_gates_and_the_gradient_of_the_penalty_by_hand() -> None:
    """Without a loss, log alpha moves by the penalty alone."""
    algorithm = HeadPruning(keep_ratio=0.5, gain=4.0)
    net_p = algorithm.apply(randomised(Heads()), inputs=(1, 3, 16, 16))
    gates, gate = net_p.head_gating, net_p.project.weight_quantizer
    log_alpha = np.array([-3.0, -0.5, 0.5, 3.0])
    gates.log_alpha.set_data(Tensor((log_alpha / 4).astype(np.float32)))
    stretched = 1 / (1 + np.exp(-log_alpha)) * (HIGH - LOW) + LOW
    np.testing.assert_allclose(gates.evaluated(), np.clip(stretched, 0, 1), rtol=1e-5)
    np.testing.assert_allclose(gate.gate().asnumpy().reshape(4, 8)[:, 0], np.clip(stretched, 0, 1), rtol=1e-5)
    gates.strength.set_data(Tensor(np.float32(0.6)))

    def nothing(x: Tensor) -> Tensor:
        return 0 * gate(x).sum()

    ones = Tensor(np.ones((1, 32), np.float32))
    with execution_mode(graph=False):
        gradient = ms.grad(nothing, None, ms.ParameterTuple([gates.log_alpha]))(ones)[0].asnumpy()

    def chance_to_be_open(log_alpha: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-(log_alpha - TEMPERATURE * np.log(-LOW / HIGH))))

    slope = (chance_to_be_open(log_alpha + 1e-4) - chance_to_be_open(log_alpha - 1e-4)) / 2e-4
    np.testing.assert_allclose(gradient, 4 * 0.6 * slope / 4, rtol=1e-3)


def test_what_cannot_be_done_is_refused() -> None:
    with pytest.raises(NoEffectError, match="head-pruning found no heads to remove: its heads can only be cut where"):
        HeadPruning(keep_ratio=0.5).apply(randomised(Transformer()), inputs=(1, 3, 16, 16))
    with pytest.raises(NoEffectError, match="found no heads to remove: it has no attention"):
        HeadPruning(keep_ratio=0.5).apply(nn.SequentialCell(nn.Dense(4, 8), nn.ReLU(), nn.Dense(8, 2)), inputs=(1, 4))
    with pytest.raises(ValueError, match="has no gates on heads"):
        HeadPruning(keep_ratio=0.5).importance(nn.Dense(2, 2))
    for arguments, message in (
        ({"penalty": -1}, "penalty must be 0 or more"),
        ({"gated": 1}, r"gated must be in \(0, 1\)"),
        ({"gain": 0}, "gain must be above 0"),
    ):
        with pytest.raises(ValueError, match=message):
            HeadPruning(keep_ratio=0.5, **arguments)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be a mindspore"):
        HeadPruning(keep_ratio=0.5).apply("net")
