"""A progress bar for work in steps of equal size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from typing import Protocol, TypeVar

Item = TypeVar("Item", covariant=True)


class CountedSteps(Sized, Iterable[Item], Protocol[Item]):
    """Steps whose number is known."""


def counted(steps: CountedSteps[Item], title: str, shown: bool | None = None) -> Iterator[Item]:
    """The steps, with a bar on standard error. shown: None shows it where standard error is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not (console.is_terminal if shown is None else shown)
    ) as bar:
        task = bar.add_task(title, total=len(steps))
        for step in steps:
            yield step
            bar.advance(task)
