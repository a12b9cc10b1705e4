"""Evaluates plans in this process, one after the other or several at a time in threads."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from types import TracebackType

from autocomp.errors import EvaluationError
from autocomp.evaluators import Evaluator
from autocomp.process.blas_threads import one_blas_thread
from autocomp.search_spaces import Plan

from .answers import Found, Question, Result, answer, evaluate


class InProcess:
    """Evaluates in this process, one plan after the other; where the evaluator has a number ``at_once``, so many plans
    at a time in threads."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self._at_once: int = getattr(evaluator, "at_once", 1)

    def __enter__(self) -> InProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def map(self, plans: Sequence[Plan]) -> Generator[tuple[int, Result], None, None]:
        return self.ask(evaluate, plans)

    def ask(
        self, question: Question[Found], plans: Sequence[Plan]
    ) -> Generator[tuple[int, Found | EvaluationError], None, None]:
        if self._at_once == 1:
            for i, plan in enumerate(plans):
                yield i, answer(question, self._evaluator, plan)
            return
        pool = ThreadPoolExecutor(self._at_once, "autocomp-plan")
        with one_blas_thread():
            try:
                asked = {pool.submit(answer, question, self._evaluator, plan): i for i, plan in enumerate(plans)}
                for future in as_completed(asked):
                    yield asked[future], future.result()
            finally:  # at a time limit or Ctrl-C: cancel the rest, and do not wait for running plans
                pool.shutdown(wait=False, cancel_futures=True)
