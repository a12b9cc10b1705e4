"""Of declared networks: the cells that declare choices, spaces, the search for a network, zero-cost proxies."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import autocomp
from autocomp import nas
from tests.nas.declared_networks import FIRST, Block, Declared
from tests.networks import Residual

from .cases import Case, of_rule, saying

NAN, INF = math.nan, math.inf
X, Y = np.zeros((4, 1, 8, 8), np.float32), np.array([0, 1, 2, 0])
DATA = autocomp.Data(train=(X, Y), evaluate=(X, Y))
SAMPLES: tuple[Any, ...] = ("images", 5, [X], (), np.float32(3), X[:1], None)
NETS: tuple[Any, ...] = (None, "net", 5, Residual, X)
SEEDS: tuple[Any, ...] = (-1, 2**32, 1.5, True, "0", None, NAN)
COUNTS: tuple[Any, ...] = (0, -3, 2.5, True, "20", NAN, INF)


def declaring() -> dict[str, list[Case]]:
    block = Block(1, 1)
    others: tuple[Any, ...] = (None, 5, "cell", Block, X, True, 1.5, [block], {}, max)
    between = [({"a": block, "b": other}, "^a Choice must be between cells, but got") for other in others]

    def width(*, values: tuple[Any, ...] = (8, 16), name: Any = "width") -> Any:
        return nas.Width(*values, name=name)

    values = [((0,), "at least 1"), ((-4,), "at least 1"), *(((v,), "an integer") for v in (1.5, True, "8", None, NAN))]
    return {
        "Choice": saying(nas.Choice, *between, ({}, "^a Choice must have at least two cells, but got 0"),
                         ({"a": block}, "^a Choice must have at least two cells, but got 1")),
        "Repeat": [
            *of_rule(
                nas.Repeat, {"block": lambda i: Block(1, 1), "least": 1, "most": 2},
                {"block": (None, 5, "block", block), "least": (-1, 1.5, True, "1", None, 3),
                 "most": (0, 1.5, True, "2", NAN)},
            ),
            *saying(nas.Repeat, ({"block": lambda i: 5, "least": 1, "most": 2}, "^block must make cells")),
        ],
        "Width": [
            *saying(width, *[({"values": v}, f"^a value of Width must be {text}") for v, text in values],
                    ({"values": ()}, "^Width must have at least one value"),
                    ({"values": (8, 8)}, "^the values of Width must differ")),
            *saying(width, ({"name": 5}, "^name must be text, but got name=5"), ({"name": None}, "^name must be text")),
        ],
    }  # fmt: skip


def twice() -> Any:
    return Block(nas.Width(1, 2, name="width"), nas.Width(1, 3, name="width"))


def spaces() -> list[Case]:
    def network(*, choice: Any = FIRST, seed: Any = 0) -> Any:
        return nas.NetworkSpace(Declared).network(choice, seed)

    choices: list[tuple[Any, str]] = [
        (None, "^a choice must be a mapping"), (5, "^a choice must be a mapping"), (["width"], "^a choice must be"),
        ({}, "^a choice must have a value for each of width, one"), ({**FIRST, "more": 1}, "but got one for .more.$"),
        ({**FIRST, "width": 5}, r"^width must be one of \(4, 6, 8\), but got width=5"),
        ({**FIRST, "width": 6.0}, "^width must be one of"), ({**FIRST, "two.0": True}, r"^two.0 must be one of"),
        ({**FIRST, "one": None}, "^one must be one of"),
    ]  # fmt: skip
    return [
        *of_rule(nas.NetworkSpace, {}, {"build": (None, 5, "net", Residual(), X)}),
        *saying(nas.NetworkSpace, ({"build": Residual}, "^a declared network must have a Choice, a Repeat or a Width"),
                ({"build": lambda: 5}, "^build must make a mindspore.nn.Cell, but it made a int"),
                ({"build": twice}, "^every Width must have a name of its own, but two have name='width'")),
        *saying(network, *[({"choice": choice}, sentence) for choice, sentence in choices]),
        *of_rule(network, {}, {"seed": SEEDS}),
    ]  # fmt: skip


def searches() -> list[Case]:
    usual = {"build": Declared, "budget": "macs<60%", "device": "ascend-310p3", "data": DATA, "progress": False}

    def search_network(**given: Any) -> Any:
        return nas.search_network(**{**usual, **given})

    wrong: dict[str, tuple[Any, ...]] = {
        "build": NETS, "budget": (5, 0.5, True, ["macs<5M"]), "device": (None, 5, True), "trials": (None, *COUNTS),
        "train": (None, 0, 1.5, True, "4"), "finalists": (0, 1.5, True, "4"), "proxy": (5, "magic", True, ["naswot"]),
        "time_limit": (True, "60", 0, -1, NAN), "sampler": (None, 5, ["random"]), "batch": (0, 1.5, True, None),
        "workers": (1.5, True, [2], 0), "storage": (5, True, "", ["a"]), "seed": SEEDS, "progress": (1, "yes", 0.0),
    }  # fmt: skip
    wrong["build"] = (None, "net", 5, X)
    said: list[tuple[dict[str, Any], str]] = [
        ({"build": Residual}, "^a declared network must have a Choice"),
        ({"budget": "macs"}, "budget"),
        ({"device": "ascend-31"}, "^unknown device 'ascend-31'"),
        ({"sampler": "magic"}, "^unknown sampler 'magic'"),
        ({"data": None}, "^a search for networks needs samples with labels: give data=autocomp.Data.train="),
        ({"data": X}, "^a search for networks needs samples with labels: give data=autocomp.Data.train="),
        ({"data": autocomp.Data(train=(X, Y), evaluate=X)}, "^a search for networks needs samples with labels"),
        ({"data": autocomp.Data(train=((X, X), Y), evaluate=((X, X), Y))}, "networks with one input, but train has 2"),
        ({"data": autocomp.Data(train=(X, Y), evaluate=(X, Y), metric=max, lower_is_better=True)}, "higher is better"),
    ]
    return [*of_rule(search_network, {}, wrong), *saying(search_network, *said)]


def of_proxies() -> dict[str, list[Case]]:
    net = Block(1, 2)
    noisy = [({"net": net, "x": np.full((4, 1, 8, 8), NAN, np.float32)}, "^inputs must be finite, but input 0 has NaN"),
             ({"net": net, "x": np.array([["a"]] * 4)}, "^inputs must be arrays of numbers")]  # fmt: skip
    wrong = {"net": NETS, "x": SAMPLES}
    labels = [(Y[:3], "^y must have a class for each sample, but got 4 samples, 3 classes"),
              (Y - 1, "^the labels of y must be whole numbers from 0, but got -1")]  # fmt: skip
    return {
        "naswot": [*of_rule(nas.naswot, {"net": net, "x": X}, wrong), *saying(nas.naswot, *noisy)],
        "synflow": [*of_rule(nas.synflow, {"net": net, "x": X}, wrong), *saying(nas.synflow, *noisy)],
        "zen_score": [
            *of_rule(nas.zen_score, {"net": net, "x": X}, {**wrong, "seed": SEEDS, "repeats": COUNTS}),
            *saying(nas.zen_score, *noisy),
        ],
        "gradient_norm": [
            *of_rule(nas.gradient_norm, {"net": net, "x": X, "y": Y}, {**wrong, "y": (None, 5, "labels")}),
            *saying(nas.gradient_norm, *[({"net": net, "x": X, "y": y}, sentence) for y, sentence in labels]),
        ],
    }


def cases() -> dict[str, list[Case]]:
    return {**declaring(), "NetworkSpace": spaces(), "search_network": searches(), **of_proxies()}
