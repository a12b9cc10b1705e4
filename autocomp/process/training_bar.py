"""A progress bar for a training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def training_bar(shown: bool | None = None, title: str = "fine-tuning") -> Iterator[Callable[[int, int, float], None]]:
    """Yields a function to call with the step, the number of steps and the loss.

    shown: None shows the bar where standard error is a terminal.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not (console.is_terminal if shown is None else shown)) as bar:
        task = bar.add_task(title, total=None, loss="compiling")

        def report(step: int, steps: int, loss: float) -> None:
            bar.update(task, completed=step, total=steps, loss=f"loss {loss:.3f}")

        yield report
