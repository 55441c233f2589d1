"""A search's disk is tried now and then, and nothing stays of that."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from search.disk_watch import DiskWatch
from search.folder import SearchFolder
from trainables.patience import Patience

T = TypeVar("T")


class CountingPatience(Patience):
    """Counts what it is asked to do."""

    def __init__(self) -> None:
        super().__init__()
        self.n_asked = 0

    def __call__(self, action: Callable[[], T]) -> T:
        self.n_asked += 1
        return super().__call__(action)


def test_disk_is_tried_every_few_seconds_and_nothing_is_left_on_it(tmp_path: Path) -> None:
    patience, times = CountingPatience(), iter([0.0, 4.0, 10.0, 10.5, 15.0, 21.0, 21.0])
    watch = DiskWatch(SearchFolder(tmp_path, patience), every_s=10.0, clock=lambda: next(times))

    found = []
    for _ in range(4):
        watch.look()
        found.append(patience.n_asked)

    assert found == [0, 1, 1, 2]
    assert list(tmp_path.iterdir()) == []
