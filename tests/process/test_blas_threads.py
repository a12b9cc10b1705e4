"""Matrix products run in one thread beside forward passes and in samplers, and in as many as before afterwards."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import scipy.linalg
from threadpoolctl import ThreadpoolController, threadpool_limits

from autocomp.evaluators import Measurement
from autocomp.process.blas_threads import one_blas_thread
from autocomp.samplers import Outcome, Proposals
from autocomp.search_spaces import Plan
from autocomp.study.executors import executor
from tests.toy import ToyEvaluator, toy

SPACE = toy(4)[0]
PLANS = [SPACE.decode((i % 5, i % 4, 0, 1, 0, 0, 0, 0)) for i in range(4)]


@pytest.fixture(autouse=True)
def several() -> Iterator[None]:
    """As on a machine of several processors, whatever this one has."""
    assert scipy.linalg.cholesky(np.eye(2)).any()  # SciPy's BLAS is loaded
    with threadpool_limits(3, "blas"):
        yield


def blas_threads() -> set[int]:
    return {pool["num_threads"] for pool in ThreadpoolController().info() if pool["user_api"] == "blas"}


def test_nested_and_beside_another_thread_that_wants_it() -> None:
    def other() -> None:
        with one_blas_thread():
            inside.append(blas_threads())

    several, inside = blas_threads(), list[set[int]]()
    with one_blas_thread():
        with one_blas_thread():
            thread = threading.Thread(target=other)
            thread.start()
            thread.join()
        assert several != {1} and blas_threads() == {1}
    assert inside == [{1}] and blas_threads() == several


def test_an_error_puts_the_number_back() -> None:
    several = blas_threads()
    with pytest.raises(ValueError, match="inside"), one_blas_thread():
        raise ValueError("inside")
    assert blas_threads() == several


class Watching(ToyEvaluator):
    def evaluate(self, plan: Plan) -> Measurement:
        seen.append(blas_threads())
        return super().evaluate(plan)


seen: list[set[int]] = []


@pytest.mark.parametrize(("at_once", "single"), [(1, False), (2, True)])
def test_plans_at_once_round_in_one_thread_each(at_once: int, single: bool) -> None:
    evaluator, several = Watching(SPACE), blas_threads()
    evaluator.at_once = at_once  # type: ignore[attr-defined]
    seen.clear()
    with executor(evaluator) as running:
        assert len(list(running.map(PLANS))) == len(PLANS)
        next(abandoned := running.map(PLANS))
        abandoned.close()
    assert all(found == ({1} if single else several) for found in seen)
    assert blas_threads() == several


class Asked:
    def ask(self, count: int) -> list[np.ndarray]:
        seen.append(blas_threads())
        return list(SPACE.random(np.random.default_rng(0), count))

    def tell(self, outcomes: Sequence[Outcome]) -> None: ...


def test_samplers_think_in_one_thread() -> None:
    several = blas_threads()
    seen.clear()
    assert Proposals(SPACE, Asked(), lambda vectors: [None] * len(vectors)).batch(4)
    assert seen == [{1}] and blas_threads() == several
