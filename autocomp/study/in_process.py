"""Evaluates plans in this process, one after the other or several at a time in threads."""

from __future__ import annotations

import atexit
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from queue import Empty, SimpleQueue
from threading import Thread
from types import TracebackType
from typing import Any

from autocomp.errors import EvaluationError
from autocomp.evaluators import Evaluator
from autocomp.process.blas_threads import one_blas_thread
from autocomp.process.time_out import time_out
from autocomp.search_spaces import Plan

from .answers import Found, Question, Result, answer, evaluate, failure

POLL_S = 0.5  # seconds between two looks at plans that may take longer than the limit
EXIT_S = 2.0  # seconds that the end of the process waits for plans that nobody wants any more


class InProcess:
    """Evaluates in this process, one plan after the other; where the evaluator has a number ``at_once``, so many plans
    at a time in threads.

    evaluation_limit: seconds for one plan, after which it has failed. A thread that is late is left behind: the end of
    the process does not wait for it.
    """

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self._at_once: int = getattr(evaluator, "at_once", 1)
        self.evaluation_limit: float | None = None

    @property
    def width(self) -> int:
        return 1

    def __enter__(self) -> InProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def show(self, values: Mapping[str, float]) -> None:
        """There is nobody to show it to."""

    def map(
        self, plans: Sequence[Plan], more: Callable[[], bool] | None = None
    ) -> Generator[tuple[int, Result], None, None]:
        return self.ask(evaluate, plans, more)

    def ask(
        self, question: Question[Found], plans: Sequence[Plan], more: Callable[[], bool] | None = None
    ) -> Generator[tuple[int, Found | EvaluationError], None, None]:
        while more is not None and more():
            pass
        if self._at_once > 1:
            with one_blas_thread():
                yield from self._in_threads(question, plans)
            return
        done = 0
        while done < len(plans):
            done += 1
            yield done - 1, self._alone(question, plans[done - 1])

    def _alone(self, question: Question[Found], plan: Plan) -> Found | EvaluationError:
        limit = self.evaluation_limit
        if limit is None:
            return answer(question, self._evaluator, plan)
        try:
            with time_out(limit, lambda: EvaluationError(_late(limit))):
                return answer(question, self._evaluator, plan)
        except EvaluationError as error:  # between two tries, or at the end
            return failure(plan, str(error))

    def _in_threads(
        self, question: Question[Found], plans: Sequence[Plan]
    ) -> Generator[tuple[int, Found | EvaluationError], None, None]:
        """A thread for each plan, which begins when a thread before it has ended, or is late."""
        begun = 0
        running: dict[int, float] = {}  # when a plan began
        finished: SimpleQueue[tuple[int, Any]] = SimpleQueue()

        def work(i: int) -> None:
            finished.put((i, answer(question, self._evaluator, plans[i])))

        while begun < len(plans) or running:
            while begun < len(plans) and len(running) < self._at_once:
                running[begun] = time.monotonic()
                _start(work, begun)
                begun += 1
            try:
                i, found = finished.get(timeout=None if self.evaluation_limit is None else POLL_S)
            except Empty:
                pass
            else:
                if running.pop(i, None) is not None:
                    yield i, found
            for i in self._late(running):
                del running[i]
                yield i, failure(plans[i], _late(self.evaluation_limit))

    def _late(self, running: dict[int, float]) -> list[int]:
        limit, now = self.evaluation_limit, time.monotonic()
        return [i for i, since in running.items() if limit is not None and now - since > limit]


def _late(limit: float | None) -> str:
    return f"it took longer than the limit of {limit:g} s"


_LEFT: set[Thread] = set()  # threads that run


def _start(work: Any, i: int) -> None:
    """In a daemon: a thread of a pool would be waited for at the end of the process, however long it takes."""

    def run() -> None:
        try:
            work(i)
        finally:
            _LEFT.discard(thread)

    thread = Thread(target=run, name=f"autocomp-plan-{i}", daemon=True)
    _LEFT.add(thread)
    thread.start()


@atexit.register
def _wait_a_little() -> None:
    """Native code that still runs while the process ends may crash it; most plans take less than this."""
    end = time.monotonic() + EXIT_S
    for thread in list(_LEFT):
        thread.join(max(0.0, end - time.monotonic()))
