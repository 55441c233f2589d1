"""What the commands on face tables print: progress on stderr, the table on stdout."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainables.data.table import FaceTable


def answer(table: "FaceTable", *, as_json: bool) -> None:
    """Print a table, for people or as one JSON document."""
    from rich.console import Console

    from search.data_page import print_table, to_document

    if as_json:
        print(json.dumps(to_document(table), indent=2))
    else:
        print_table(table, Console(highlight=False))


@contextmanager
def progress(title: str, *, then: str, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar with its rate on a terminal's stderr; elsewhere a line at the end; nothing at all when quiet.

    Args:
        title: what is done to the images.
        then: what is done once all images are.
    """
    if quiet:
        yield lambda done, total: None
        return
    import time

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False)
    begin = time.monotonic()
    ended = ""
    rate = TextColumn("{task.fields[rate]:,.0f}/s")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=None, rate=0.0)

        def report(done: int, total: int) -> None:
            nonlocal ended
            rate = done / max(time.monotonic() - begin, 1e-9)
            bar.update(task, completed=done, total=total, rate=rate)
            if done == total:
                ended = f"{title}: {total:,} images, {rate:,.0f}/s"
                bar.update(task, description=then)

        yield report
    console.print(ended)
