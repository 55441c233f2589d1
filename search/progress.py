"""A bar on stderr for work that takes longer than a moment; nothing where there is no terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

Told = Callable[[str], Callable[[float], None]]
"""From a step in words to what its share done is told to."""


@contextmanager
def progress_bars() -> Iterator[Told]:
    """Bars that stand below each other while the block runs, and vanish with it.

    Yields:
        From a step in words to what its share done is told to.
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(
        *columns,
        console=console,
        transient=True,
        disable=not console.is_terminal,
        redirect_stdout=sys.stdout.isatty(),  # what a program reads must not be drawn above the bars
    ) as bars:

        def begin(step: str) -> Callable[[float], None]:
            task = bars.add_task(step, total=None)  # it only says that it lives until it is told a share
            return lambda share: bars.update(task, total=1.0, completed=share)

        yield begin


@contextmanager
def waiting(step: str) -> Iterator[None]:
    """A bar that lives while the block runs, of which nobody can say how far it is.

    Args:
        step: in words.
    """
    with progress_bars() as begin:
        begin(step)
        yield
