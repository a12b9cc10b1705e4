"""Perplexity of a language model as the metric of a search, with logits of a part of the samples held at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import autocomp
from autocomp.evaluators import accuracy
from autocomp.evaluators.token_losses import PERPLEXITY, perplexity, token_losses
from autocomp.primitives.tracing.platform import forward
from autocomp.problem.data import Data
from tests.primitives.quantization.small_llama import WORDS, small_llama, tokens

TOKENS = tokens(24)
LOGITS = np.random.default_rng(0).standard_normal((24, 12, WORDS)).astype(np.float32) * 3


def by_hand(logits: np.ndarray, read: np.ndarray) -> float:
    shares = np.exp(logits.astype(np.float64))
    shares /= shares.sum(-1, keepdims=True)
    chances = [shares[i, j, read[i, j + 1]] for i in range(len(read)) for j in range(read.shape[1] - 1)]
    return float(np.exp(-np.mean(np.log(chances))))


def test_the_exponential_of_the_mean_loss_of_each_next_token() -> None:
    (losses,) = token_losses((LOGITS,), (TOKENS,))
    assert losses.shape == (24, 11)
    assert perplexity(losses) == pytest.approx(by_hand(LOGITS, TOKENS), rel=1e-5)
    assert perplexity(token_losses((0 * LOGITS,), (TOKENS,))[0]) == pytest.approx(WORDS, rel=1e-5)


def test_large_logits_give_numbers() -> None:
    (losses,) = token_losses((LOGITS * 1e4,), (TOKENS,))
    assert np.isfinite(losses).all() and 1e30 < perplexity(losses) < 1e35


@pytest.mark.parametrize(
    ("outputs", "inputs"),
    [
        ((LOGITS[:, 0],), (TOKENS,)),
        ((LOGITS[:, 1:],), (TOKENS,)),
        ((LOGITS[1:],), (TOKENS,)),
        ((LOGITS,), (TOKENS.astype(np.float32),)),
        ((LOGITS, LOGITS), (TOKENS,)),
        ((LOGITS[:, :1],), (TOKENS[:, :1],)),
    ],
)
def test_what_is_no_language_model_is_refused(outputs: Any, inputs: Any) -> None:
    with pytest.raises(ValueError, match=r"^metric='perplexity' (needs tokens|predicts the next).*, but got"):
        token_losses(outputs, inputs)


def test_data_take_it_without_labels() -> None:
    assert Data(evaluate=TOKENS, metric="perplexity").measure is PERPLEXITY and PERPLEXITY.lower
    with pytest.raises(ValueError, match="predicts the tokens that it reads, but evaluate has labels: leave one out"):
        _ = Data(evaluate=(TOKENS, TOKENS[:, 0]), metric="perplexity").evaluation
    with pytest.raises(ValueError, match="'perplexity' is lower where plans are better: leave lower_is_better out"):
        Data(evaluate=TOKENS, metric="perplexity", lower_is_better=True)


def test_a_search_by_perplexity(monkeypatch: pytest.MonkeyPatch) -> None:
    net = small_llama()
    held: list[int] = []

    def counting(outputs: Any, inputs: Any) -> Any:
        held.append(len(outputs[0]))
        return token_losses(outputs, inputs)

    monkeypatch.setattr(PERPLEXITY, "reduce", counting)
    monkeypatch.setattr(accuracy, "HELD", 5 * 12 * WORDS)
    front = autocomp.search(
        net, "size<90%", "ascend", Data(evaluate=TOKENS, metric="perplexity"), trials=3, progress=False
    )
    assert max(held) <= 5
    first = front.evaluated[0]
    expected = by_hand(forward(net, (TOKENS,), graph=False)[0], TOKENS)
    assert first.observed is not None and first.scale * (1 - first.observed) == pytest.approx(expected, rel=1e-3)
    assert {point.metric for point in front} == {"perplexity"}
    best = front.pick("perplexity<+100%")
    assert best.scale * (1 - best.accuracy) <= 2 * expected * 1.001
