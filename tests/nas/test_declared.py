"""Declared networks: what may be chosen, and the networks that choices make."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from autocomp import nas
from autocomp.primitives import prune_channels
from autocomp.primitives.tracing.platform import forward, load_mindspore

from .declared_networks import FIRST, Block, Declared

nn = load_mindspore().nn
X = np.random.default_rng(0).standard_normal((2, 1, 8, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def space() -> nas.NetworkSpace:
    return nas.NetworkSpace(Declared)


def test_the_choices_are_named_by_their_paths(space: nas.NetworkSpace) -> None:
    assert space.choices == {
        "width": (4, 6, 8), "one": ("three", "none", "deep"), "one.deep": (1, 2), "two": (1, 2), "two.0": (0, 1),
        "two.1": (0, 1),
    }  # fmt: skip
    assert space.count == 72


def test_as_many_networks_differ_as_it_counts(space: nas.NetworkSpace) -> None:
    names = list(space.choices)
    grid = np.stack(np.meshgrid(*[range(len(values)) for values in space.choices.values()]), -1).reshape(-1, len(names))
    chosen = ({name: space.choices[name][i] for name, i in zip(names, row, strict=True)} for row in grid.tolist())
    assert len({tuple(space.effective(choice).items()) for choice in chosen}) == space.count


def test_a_network_is_plain_and_has_what_was_chosen(space: nas.NetworkSpace) -> None:
    net = space.network(FIRST)
    assert not any(isinstance(cell, (nas.Choice, nas.Repeat)) for _, cell in net.cells_and_names())
    shapes = {parameter.name: tuple(parameter.shape) for parameter in net.get_parameters()}
    assert shapes["one.conv.weight"] == (6, 6, 3, 3)
    assert shapes["two.0.conv.weight"] == (6, 6, 5, 5)
    assert "two.1.conv.weight" not in shapes and len(shapes) == 3 * 5 + 2
    assert forward(net, (X,), graph=False)[0].shape == (2, 3)


def test_a_chosen_repeat_within_a_choice(space: nas.NetworkSpace) -> None:
    net = space.network({**FIRST, "one": "deep", "one.deep": 2})
    names = {parameter.name for parameter in net.get_parameters()}
    assert {"one.0.conv.weight", "one.1.conv.weight"} <= names


def test_the_same_seed_gives_the_same_weights(space: nas.NetworkSpace) -> None:
    np.random.seed(5)
    before = np.random.get_state()[1].tolist()  # type: ignore[index]
    one, same, other = (forward(space.network(FIRST, seed), (X,), graph=False)[0] for seed in (3, 3, 4))
    assert np.array_equal(one, same) and not np.allclose(one, other)
    assert np.random.get_state()[1].tolist() == before  # type: ignore[index]


def test_the_declared_network_runs_as_it_is() -> None:
    net = Declared()
    assert net.stem.conv.out_channels == 8
    assert forward(net, (X,), graph=False)[0].shape == (2, 3)


def test_a_space_can_be_sent(space: nas.NetworkSpace) -> None:
    sent = pickle.loads(pickle.dumps(space))
    assert sent.choices == space.choices


def test_widths_are_integers_and_copies_make_no_choice() -> None:
    width = nas.Width(4, 8)
    assert width == 8 and isinstance(width, int) and type(2 * width) is int
    assert type(pickle.loads(pickle.dumps(width))) is int


def test_unnamed_widths_are_numbered() -> None:
    def build() -> Any:
        return Block(1, nas.Width(2, 4) + nas.Width(1, 3))

    assert nas.NetworkSpace(build).choices == {"width0": (2, 4), "width1": (1, 3)}


def test_a_network_may_be_one_choice() -> None:
    space = nas.NetworkSpace(lambda: nas.Choice(Block(1, 2), Block(1, 2, 5)))
    assert space.choices == {"": (0, 1)}
    assert space.network({"": 1}).conv.kernel_size == (5, 5)


def test_networks_that_differ_each_time_are_refused() -> None:
    made = iter(range(9))
    space = nas.NetworkSpace(lambda: nas.Repeat(lambda i: Block(1, 1), 1, 2 + next(made)))
    with pytest.raises(ValueError, match=r"^a declared network must have the same choices each time"):
        space.network({"": 1})


def test_importing_loads_no_mindspore() -> None:
    code = "import sys, autocomp, autocomp.nas; autocomp.nas.Width(1, 2); print('mindspore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_a_network_compresses_like_any_other(space: nas.NetworkSpace) -> None:
    pruned = prune_channels(space.network(FIRST), {"stem.conv": np.arange(4)}, inputs=X)
    assert pruned.stem.conv.out_channels == 2 and forward(pruned, (X,), graph=False)[0].shape == (2, 3)
