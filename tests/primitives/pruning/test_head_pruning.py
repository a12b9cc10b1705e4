"""Attention heads behind gates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from autocomp.errors import NoEffectError
from autocomp.primitives import HeadPruning
from autocomp.primitives.pruning.attention import Attention, open_attention
from autocomp.primitives.pruning.head_pruning import HIGH, LOW, TEMPERATURE
from autocomp.primitives.tracing.platform import execution_mode, forward, load_mindspore
from tests.networks import Encoder, randomised
from tests.primitives.adversarial import Transformer
from tests.primitives.contract import X, train
from tests.primitives.heads import FusedHeads, Heads

ms = load_mindspore()

from mindspore import Tensor, nn  # noqa: E402
from mindspore.train import Callback  # noqa: E402


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


class Look(Callback):
    """Of every step: the strength of the penalty, and whether gates are on."""

    def __init__(self, net_p: Any) -> None:
        super().__init__()
        self.gates = net_p.head_gating
        self.seen: list[tuple[float, float]] = []

    def on_train_step_end(self, run_context: Any) -> None:
        self.seen.append((float(self.gates.strength.asnumpy()), float(self.gates.on.asnumpy())))


def test_heads_of_a_library_encoder_are_really_removed() -> None:
    algorithm = HeadPruning(keep_ratio=0.5)
    net_p = algorithm.apply(randomised(Encoder()), inputs=X[:1])
    algorithm.keep(net_p, np.array([True, False, False, False, True, True, False, True]))
    smaller = algorithm.convert(net_p)
    for layer, heads in zip(smaller.encoder.layers, (1, 3), strict=True):
        attention = layer.self_attn
        assert attention.queries.weight.shape == attention.keys.weight.shape == (4 * heads, 16)
        assert attention.values.weight.shape == (4 * heads, 16) and attention.project.weight.shape == (16, 4 * heads)


def test_heads_that_nothing_reads_are_those_that_go() -> None:
    """Hand-written attention. The labels are the network's own answers; only gates train, for half of the steps."""
    net = randomised(FusedHeads())
    weight = net.project.weight.asnumpy().copy()
    weight[:, 8:24] = 0  # heads 1 and 2 of 4
    net.project.weight.set_data(Tensor(weight))
    labels = forward(net, (X,), graph=False)[0].argmax(1).astype(np.int32)
    assert len(np.unique(labels)) > 1
    algorithm = HeadPruning(keep_ratio=0.5, penalty=0.2)
    net_p = algorithm.apply(net, inputs=X[:1])
    look, before = Look(net_p), net_p.head_gating.log_alpha.asnumpy().copy()
    for parameter in net_p.get_parameters():
        parameter.requires_grad = parameter is net_p.head_gating.log_alpha
    train(net_p, [*algorithm.callbacks(), look], epochs=6, graph=False, labels=labels)
    assert algorithm.cut(net_p).kept.tolist() == [True, False, False, True]
    assert (net_p.head_gating.log_alpha.asnumpy() != before).all()
    strengths, on = zip(*look.seen, strict=True)
    assert on == (1,) * 6 + (0,) * 6
    np.testing.assert_allclose(strengths[:6], 0.2 * np.minimum(np.arange(6) / 3, 1), rtol=1e-6)


def test_gates_and_the_gradient_of_the_penalty_by_hand() -> None:
    """Without a loss, log alpha moves by the penalty alone."""
    algorithm = HeadPruning(keep_ratio=0.5, gain=4.0)
    net_p = algorithm.apply(randomised(Heads()), inputs=X[:1])
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
    with pytest.raises(ValueError, match="has no gates on heads"):
        HeadPruning(keep_ratio=0.5).importance(nn.Dense(2, 2))
    for arguments, message in (
        ({"penalty": -1}, "penalty must be 0 or more"),
        ({"gated": 1}, r"gated must be in \(0, 1\)"),
        ({"gain": 0}, "gain must be above 0"),
    ):
        with pytest.raises(ValueError, match=message):
            HeadPruning(keep_ratio=0.5, **arguments)  # type: ignore[arg-type]
