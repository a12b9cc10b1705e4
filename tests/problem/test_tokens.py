"""Tokens: what networks with embeddings take, and one sentence for each thing that is wrong with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import autocomp
from tests.networks import LENGTH, WORDS, Tensor, Tokens, nn, ops, randomised, tokens


@pytest.fixture(scope="module")
def net() -> Any:
    return randomised(Tokens())


def changed(place: tuple[int, int], value: int) -> np.ndarray:
    found = tokens(16)
    found[place] = value
    return found


WRONG = {
    "beyond": (changed((5, 3), WORDS), r"tokens must be 0 to 49.*words has 50 rows.*evaluate has 50 at \[5, 3\]"),
    "negative": (changed((7, 1), -2), r"tokens must be 0 to 49.*evaluate has -2 at \[7, 1\]"),
    "first beyond": (changed((0, 0), 99), r"tokens must be 0 to 49.*but got 99$"),
    "floats": (tokens(16).astype(np.float32), r"tokens must be integers.*words.*float32: give int32 or int64$"),
    "longer": (np.resize(tokens(16), (16, 12)), r"the network takes samples of 9 tokens, but got 12"),
    "shorter": (tokens(16)[:, :5], r"the network takes samples of 9 tokens, but got 5"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_tokens_are_named_in_one_sentence(net: Any, name: str) -> None:
    x, said = WRONG[name]
    with pytest.raises(ValueError, match=said) as error:
        autocomp.search(net, "size<90%", "cpu", x, trials=2, progress=False)
    assert "\n" not in str(error.value) and "Select CPU operator" not in str(error.value)


def test_tokens_of_every_role_are_checked(net: Any) -> None:
    y = np.zeros(16, int)
    wrong = autocomp.Data(calibrate=tokens(4), evaluate=(tokens(16), y), train=(changed((2, 2), 60), y))
    with pytest.raises(ValueError, match=r"input 0 of train has 60 at \[2, 2\]"):
        autocomp.search(net, "size<90%", "cpu", wrong, trials=2, progress=False)


class Masked(nn.Cell):
    """Tokens and a mask: the mean over those that count."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.hidden, self.head = nn.Embedding(WORDS, 16), nn.Dense(16, 32), nn.Dense(32, 4)

    def construct(self, tokens: Tensor, mask: Tensor) -> Tensor:
        x = ops.relu(self.hidden(self.words(tokens))) * mask.expand_dims(-1)
        return self.head(x.sum(1) / mask.sum(1, keepdims=True))


def masks(count: int) -> np.ndarray:
    lengths = np.random.default_rng(3).integers(2, LENGTH + 1, (count, 1))
    return (np.arange(LENGTH) < lengths).astype(np.float32)


def test_tokens_and_a_mask_are_searched_by_a_metric() -> None:
    x, y = (tokens(32), masks(32)), np.random.default_rng(1).normal(size=32)

    def agreement(outputs: Any, labels: Any) -> float:
        return float(abs(np.corrcoef(outputs[:, 0], np.asarray(labels))[0, 1]))

    data = autocomp.Data(evaluate=(x, y), metric=agreement)
    front = autocomp.search(randomised(Masked()), "size<60%", "cpu", data, trials=3, progress=False)
    assert front.feasible and "format/words" in front.pick().plan
    with pytest.raises(ValueError, match="must have as many tokens each, but got 7 or 9"):
        autocomp.search(Masked(), "size<60%", "cpu", ((x[0], x[1][:, :7]), None))
