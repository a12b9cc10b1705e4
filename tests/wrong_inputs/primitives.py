"""Of what can be used alone: algorithms by their constructors and their methods, functions by their arguments."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from autocomp import primitives
from autocomp.primitives import (
    AWQ,
    GPTQ,
    LSQ,
    PACT,
    RTN,
    SCOP,
    SLB,
    AdaRound,
    ChannelPruner,
    Distilled,
    Ghost,
    Grouped,
    HeadPruning,
    IntegerCache,
    LowRank,
    OutlierSuppression,
    Resolution,
    Rotation,
    Separable,
    SimQAT,
    SmallerKernel,
    SmoothQuant,
    SparseGPT,
    Sparsity,
    UniPruning,
    Wanda,
)
from tests.networks import Residual

from .cases import Case, of_rule, saying

X = np.zeros((2, 3, 12, 12), np.float32)
NAN, INF = math.nan, math.inf
SWITCHED: tuple[Any, ...] = (1, "yes", None, 0.0)
NETS: tuple[Any, ...] = (None, "net", 5, Residual, X)
SAMPLES: tuple[Any, ...] = ("images", 5, [X], (), np.float32(3), X[:0], np.full((1, 3), NAN), np.array(["a"]), (X, "y"))
GROUPS: tuple[Any, ...] = (0, -1, 1.5, True, "32")
SHARES: tuple[Any, ...] = (-0.1, 1.5, True, NAN, "0.5")
BITS: tuple[Any, ...] = (2.5, True, "8", NAN, INF, -1, 0, 9, 16)


def network() -> Any:
    return Residual()


def quantizer(made: Any, **more: tuple[Any, ...]) -> list[Case]:
    bits = {"weight_bits": BITS, "activation_bits": BITS, "first_last_bits": BITS, "calibration": (None, 5, "best")}
    if made is SLB:
        bits["weight_bits"] = (2.5, True, "8", NAN, INF, -1, 0, 5, 16)
    algorithm = made()
    return [
        *of_rule(made, {}, {**bits, **more}),
        *of_rule(algorithm.apply, {"net": network()}, {"net": NETS, "calibrate": SAMPLES, "plan": (5, "w8", [1])}),
        *saying(algorithm.convert, ({"net_q": network()}, "come from .*apply|needs .*apply")),
    ]


PRUNED: dict[str, tuple[Any, ...]] = {
    "keep_ratio": (True, "0.5", NAN, INF, [0.5]),
    "per_layer": SWITCHED,
    "per_cost": SWITCHED,
    "reconstruct": SWITCHED,
    "channel_divisor": (0, -4, 1.5, True, "8", None),
    "min_keep_ratio": (True, "0.1", NAN, None),
    "exclude": (5, None, [5]),
}


def pruner(made: Any, without: tuple[str, ...] = (), **more: tuple[Any, ...]) -> list[Case]:
    wrong = {name: values for name, values in PRUNED.items() if name not in without}
    shares: list[tuple[dict[str, Any], str]] = [
        ({}, "^exactly one of keep_ratio, flops and parameters must be given, but got none of them"),
        ({"keep_ratio": 0.5, "flops": 0.5}, "exactly one of .* but got keep_ratio, flops"),
        ({"keep_ratio": 1.5}, r"^keep_ratio must be in \(0, 1\), but got keep_ratio=1.5"),
        ({"flops": 0}, r"^flops must be in \(0, 1\), but got flops=0"),
        ({"parameters": -1}, r"^parameters must be in \(0, 1\), but got parameters=-1"),
    ]
    return [
        *of_rule(made, {"keep_ratio": 0.5}, {**wrong, **more}),
        *saying(made, *shares),
        *of_rule(made(keep_ratio=0.5).apply, {}, {"net": NETS}),
        *saying(made(keep_ratio=0.5).convert, ({"net_p": network()}, "come from .*apply|needs .*apply")),
    ]


def replacing(made: Any, given: dict[str, Any], **more: tuple[Any, ...]) -> list[Case]:
    wrong = {"layers": ("conv", 5, [5]), "reconstruct": SWITCHED, **more}
    return [
        *of_rule(made, given, wrong),
        *of_rule(made(**given).apply, {"net": network()}, {"net": NETS, "calibrate": SAMPLES}),
    ]


def one_shot(made: Any) -> list[Case]:
    return [
        *of_rule(made, {}, {"first_last_layers": SWITCHED}),
        *of_rule(made().apply, {"net": network()}, {"net": NETS, "calibrate": SAMPLES}),
        *saying(made().apply, ({"net": network()}, "needs samples of layers' inputs")),
    ]


def distilled(**given: Any) -> Any:
    return Distilled(**{"student": network(), "teacher": network(), **given})


def cases() -> dict[str, list[Case]]:
    odd: tuple[Any, ...] = (
        *("1,3", 5, (), (1, True), (1, -3), [[]], np.full((1, 3), NAN), np.array(["a"]), X[:0], {"x": X}),
    )
    traced = [({"net": network(), "inputs": value}, "^inputs must (be|have)") for value in odd]
    return {
        "LSQ": quantizer(LSQ, per_channel=SWITCHED),
        "PACT": quantizer(PACT),
        "AdaRound": quantizer(AdaRound),
        "RTN": quantizer(
            RTN, per_channel=SWITCHED, symmetric=SWITCHED, symmetric_weights=SWITCHED, clip=(None, 5, "min"),
            group_size=GROUPS,
        ),
        "GPTQ": quantizer(GPTQ, group_size=GROUPS, activation_order=SWITCHED, symmetric_weights=SWITCHED),
        "AWQ": [
            *quantizer(AWQ, group_size=GROUPS, symmetric_weights=SWITCHED, ratio=SHARES),
            *of_rule(AWQ().equivalent, {"calibrate": X}, {"net": NETS}),
        ],
        "SmoothQuant": [
            *quantizer(SmoothQuant, alpha=SHARES, dynamic=SWITCHED),
            *of_rule(SmoothQuant().equivalent, {"net": network()}, {"net": NETS, "calibrate": SAMPLES}),
        ],
        "OutlierSuppression": [
            *quantizer(OutlierSuppression, threshold=SHARES),
            *of_rule(OutlierSuppression().equivalent, {"net": network()}, {"net": NETS, "calibrate": SAMPLES}),
        ],
        "Rotation": [
            *quantizer(
                Rotation, group_size=GROUPS, rounding=(None, 5, "best"), symmetric_weights=SWITCHED, dynamic=SWITCHED,
                heads=SWITCHED, online=SWITCHED, seed=(-1, 1.5, True, None, 2**32),
            ),
            *of_rule(Rotation().equivalent, {}, {"net": NETS}),
        ],
        "SimQAT": [
            *quantizer(
                SimQAT, per_channel=SWITCHED, symmetric=SWITCHED, observer=(None, 5, "mean"),
                momentum=(True, "0.1", NAN, None), delay=(1.5, True, None), freeze_observers=(1.5, True, "9"),
            ),
            *saying(
                SimQAT, ({"momentum": 0}, r"^momentum must be in \(0, 1\], but got momentum=0"),
                ({"delay": -1}, "^delay must be a number of steps, 0 or more, but got delay=-1"),
            ),
        ],
        "SLB": [
            *quantizer(
                SLB, warm_up=(-1, True, NAN), settled=(1.5, "1", None), sharpest=(True, NAN, INF, None),
                state_batchnorm=SWITCHED, calibration_batches=(-1, 1.5, True, None),
            ),
            *saying(
                SLB, ({"warm_up": 0.9, "settled": 0.1}, "but got warm_up=0.9, settled=0.1"),
                ({"sharpest": 0.5}, "^sharpest must be 1 or more, but got sharpest=0.5"),
            ),
        ],
        "ChannelPruner": [
            *pruner(
                ChannelPruner, importance=(None, 5, True), batches=(0, 1.5, True, None), samples=(0, "9", NAN),
                rounds=(0, -1, 2.5, None),
            ),
            *saying(
                lambda **given: ChannelPruner(keep_ratio=0.5, **given),
                ({"importance": "magic"}, "^importance must be one of .*taylor.*, but got importance='magic'"),
            ),
        ],
        "SCOP": pruner(
            SCOP, steps=(0, 1.5, True, None), travel=(0, -1, True, NAN, INF, None), knockoffs=(5, "noise"),
            seed=(-1, 1.5, True, None, 2**32),
        ),
        "UniPruning": [
            *pruner(UniPruning, ("per_layer",), every=(0, -1, True, NAN, INF, None), soft=(True, NAN, "0.5", None)),
            *saying(
                lambda **given: UniPruning(keep_ratio=0.5, **given),
                ({"soft": 1}, r"^soft must be in \[0, 1\), but got soft=1"),
            ),
        ],
        "HeadPruning": [
            *pruner(
                HeadPruning, ("per_cost", "reconstruct", "channel_divisor", "min_keep_ratio", "exclude"),
                penalty=(True, NAN, INF, None), gated=(True, NAN, "0.5"), gain=(0, -1, True, NAN, INF), seed=(-1, 1.5),
            ),
            *saying(
                lambda **given: HeadPruning(keep_ratio=0.5, **given),
                ({"penalty": -1}, "^penalty must be 0 or more, but got penalty=-1"),
                ({"gated": 1}, r"^gated must be in \(0, 1\), but got gated=1"),
            ),
        ],
        "Sparsity": [
            *of_rule(Sparsity, {}, {"pattern": (None, 5, "4:8"), "ramp": (True, NAN, INF, None),
                                    "first_last_layers": SWITCHED}),
            *of_rule(Sparsity, {"pattern": "unstructured"}, {"share": (True, NAN, INF, "0.5")}),
            *of_rule(Sparsity().apply, {}, {"net": NETS}),
            *of_rule(Sparsity().mask, {"net_s": network()}, {"share": (True, NAN, -1, 1.5, "0.5")}),
            *saying(
                Sparsity, ({"pattern": "unstructured"}, "share=None"), ({"share": 0.5}, "'2:4', share=0.5"),
                ({"pattern": "unstructured", "share": 1.5}, r"^share must be in \(0, 1\), but got share=1.5"),
                ({"ramp": 1.0}, r"^ramp must be in \[0, 1\), but got ramp=1.0"),
            ),
        ],
        **{made.__name__: one_shot(made) for made in (Wanda, SparseGPT)},
        "IntegerCache": [
            *of_rule(
                IntegerCache, {"net": network()},
                {"net": NETS, "bits": (0, -1, 2, 16, 8.0, True, "8", None, [8, 5], (4, True), [8.0], "88", {8: 8})},
            ),
            *saying(
                IntegerCache(network(), [8, None]).empty,
                ({"cache": [X]}, "^bits must be one for each of the 1 parts of the cache, but got 2"),
                ({"cache": [X] * 3}, "^bits must be one for each of the 3 parts of the cache, but got 2"),
            ),
            *saying(IntegerCache(network(), 4).empty, ({"cache": [X[..., :7]]}, "^a cache of 4 bits needs an even")),
        ],
        "LowRank": [
            *replacing(
                LowRank, {"macs": 0.5}, macs=(True, NAN, INF, "0.5"), channel_divisor=(0, 1.5, True, None),
                ranks=(5, [4], {"conv": 4}, {5: (4,)}, {"conv": (2.5,)}),
            ),
            *saying(
                LowRank, ({}, "^exactly one of energy, macs and ranks must be given"),
                ({"energy": 1.5}, r"^energy must be in \(0, 1\), but got energy=1.5"),
            ),
        ],
        "Resolution": [
            *of_rule(Resolution, {}, {"ratio": (0, 1, -0.5, 1.5, True, NAN, INF, "0.5", None)}),
            *of_rule(Resolution().apply, {"net": network()}, {"net": NETS, "reestimate": SAMPLES[:-3]}),
        ],
        "Ghost": [
            *replacing(Ghost, {}, ratio=(2.5, True, None, "2"), kernel=(2.5, True, None), macs=(True, NAN, "0.5")),
            *saying(Ghost, ({"ratio": 1}, "ratio.* got .*1"), ({"kernel": 2}, "kernel.* got .*2"),
                    ({"macs": 1.5}, "macs.* got macs=1.5")),
        ],
        "SmallerKernel": [
            *replacing(SmallerKernel, {}, kernel=(2.5, True, None, "3"), macs=(True, NAN, "0.5")),
            *saying(SmallerKernel, ({"kernel": 2}, "kernel must be odd .* got kernel=2"),
                    ({"macs": 1.5}, "macs.* got macs=1.5")),
        ],
        "Grouped": [
            *replacing(Grouped, {}, groups=(2.5, True, None, "2"), macs=(True, NAN, "0.5")),
            *saying(Grouped, ({"groups": 1}, "groups must be 2 or more, but got groups=1")),
        ],
        "Separable": [
            *replacing(Separable, {}, multiplier=(2.5, True, None, "2"), macs=(True, NAN, "0.5")),
            *saying(Separable, ({"multiplier": 0}, "multiplier must be 1 or more, but got multiplier=0")),
        ],
        "Distilled": [
            *of_rule(distilled, {}, {
                "student": (None, 5, "net"), "teacher": (None, 5, "net"), "loss": (5, "loss"),
                "temperature": (0, -1, True, NAN, INF, None), "share": (True, NAN, "0.5"), "blocks": ("conv", 5, [5]),
                "example": ("image", 5), "block_weight": (True, NAN, None), "compares": (None, "logits"),
            }),
            *saying(distilled, ({"share": 0}, r"^share must be in \(0, 1\], but got share=0"),
                    ({"blocks": ["stem"]}, "blocks need example")),
        ],
        "trace": [*saying(primitives.trace, *traced), *of_net(primitives.trace, {"inputs": X})],
        "channel_groups": [*saying(primitives.channel_groups, *traced), *of_rule(primitives.channel_groups, {},
                                                                                 {"net": NETS})],
        "fold_batchnorm": [*saying(primitives.fold_batchnorm, *traced), *of_rule(primitives.fold_batchnorm, {},
                                                                                 {"net": NETS})],
        "open_attention": of_rule(primitives.open_attention, {}, {"net": (*NETS, True, 0.5, b"net", [], {}, ())}),
        "prune_channels": of_rule(primitives.prune_channels, {"net": network(), "removed": {}}, {
            "net": NETS, "removed": (None, 5, "stem", [("stem", [0])], {5: [0]}, {"stem": 0}, {"stem": [0.5]},
                                     {"stem": [True]}, {"stem": "0"}, {"stem": None}),
        }),
        "reestimate_batchnorm": [
            *of_rule(primitives.reestimate_batchnorm, {"net": network(), "images": X}, {
                "net": NETS, "images": SAMPLES, "batch": (1.5, True, None, "64", NAN),
            }),
            *saying(primitives.reestimate_batchnorm,
                    ({"net": network(), "images": X, "batch": 1}, "but got batch=1 of 2 samples"),
                    ({"net": network(), "images": X[:1]}, "but got batch=64 of 1 samples")),
        ],
        "register": [
            *of_rule(primitives.register, {"primitive": RTN()}, {
                "primitive": (None, 5, "rtn", RTN, network(), [RTN()], {}, LSQ()), "automatic": SWITCHED,
            }),
            *saying(primitives.register, ({"primitive": RTN()}, "a primitive called 'rtn' is already registered")),
        ],
    }  # fmt: skip


def of_net(call: Any, given: dict[str, Any]) -> list[Case]:
    return saying(call, *[({**given, "net": net}, "^net must be a mindspore.nn.Cell, but got") for net in NETS])
