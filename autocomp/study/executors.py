"""Executors evaluate plans: in this process, or by Ray workers on this machine or on a cluster."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from types import TracebackType
from typing import Protocol

from autocomp.errors import EvaluationError
from autocomp.evaluators import Evaluator
from autocomp.problem.arguments import check_workers
from autocomp.search_spaces import Plan

from .answers import Found, Question, Result
from .cluster.ray_workers import RayWorkers
from .in_process import InProcess


class Executor(Protocol):
    """Evaluates plans, or asks its evaluator another question about them, between entering and leaving it.

    >>> with executor(evaluator, workers=2) as running:
    ...     dict(running.map([plan, other]))
    {1: Measurement(...), 0: EvaluationError('...')}
    """

    evaluation_limit: float | None
    """Seconds for one plan, after which it has failed; None: no limit."""

    @property
    def width(self) -> int:
        """How many workers are wanted, once it is entered."""
        ...

    def __enter__(self) -> Executor: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def map(
        self, plans: Sequence[Plan], more: Callable[[], bool] | None = None
    ) -> Generator[tuple[int, Result], None, None]:
        """The index of a plan and its result, as soon as it is finished; an error is a value, which names the plan.

        Plans that are appended while it runs are evaluated, too. more: appends some, and says whether it did; it is
        called until it does not, before the first result, while the workers begin with what is there.
        """
        ...

    def ask(
        self, question: Question[Found], plans: Sequence[Plan], more: Callable[[], bool] | None = None
    ) -> Generator[tuple[int, Found | EvaluationError], None, None]:
        """Like ``map``, with the answer to the question; where the question raises, the error is a value."""
        ...

    def show(self, values: Mapping[str, float]) -> None:
        """Shows numbers of the search where the executor has a place for them, as a cluster's metrics."""
        ...


def executor(
    evaluator: Evaluator, workers: int | str | None = None, resources: Mapping[str, float] | None = None
) -> Executor:
    """None: this process. A number: so many Ray workers here. ``"auto"``, ``"ray://host:port"``: a Ray cluster.

    resources: what each worker takes besides a processor, by Ray's names.
    """
    check_workers(workers)
    if workers is None:
        return InProcess(evaluator)
    return RayWorkers(evaluator, workers, resources, f"autocomp-{evaluator.key[:8]}")
