"""A full disk, or one that does not answer, is waited for; whatever else is wrong with it is not."""

import errno
import os
import signal
import threading
from collections.abc import Callable

import pytest

from spaces.errors import OutputError
from trainables.outputs import disk_error
from trainables.patience import Patience


class Disk:
    """Takes what is written after so many refusals."""

    def __init__(self, number: int, n_refusals: int) -> None:
        self.n_asked = 0
        self._number, self._n_refusals = number, n_refusals

    def write(self) -> str:
        self.n_asked += 1
        if self.n_asked <= self._n_refusals:
            raise disk_error(self._number, "could not write /runs/trial.json")
        return "written"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.ETIMEDOUT])
def test_patience_waits_until_the_disk_takes_it_and_says_so_once(number: int) -> None:
    disk, said = Disk(number, 3), list[str]()

    result = Patience(said.append, retry_s=0.0)(disk.write)

    assert (result, disk.n_asked, len(said)) == ("written", 4, 2)
    assert said[0].endswith("could not write /runs/trial.json; it is tried again for 10 minutes")
    assert said[1] == "the disk takes what waited for it, 0 s later; the work goes on"


def test_patience_says_nothing_of_a_disk_that_is_well() -> None:
    said: list[str] = []

    assert Patience(said.append)(Disk(errno.ENOSPC, 0).write) == "written"

    assert said == []


def test_patience_does_not_wait_for_what_does_not_pass() -> None:
    disk = Disk(errno.EROFS, 1)

    with pytest.raises(OutputError, match="the file system is read-only, could not write /runs"):
        Patience(retry_s=0.0)(disk.write)

    assert disk.n_asked == 1


def test_patience_ends_with_the_sentence_of_the_disk_and_is_not_had_again() -> None:
    disk, said = Disk(errno.ENOSPC, 1000), list[str]()
    patience = Patience(said.append, limit_s=0.05, retry_s=0.02)
    with pytest.raises(OutputError, match="the disk is full, could not write /runs"):
        patience(disk.write)
    n_asked = disk.n_asked

    with pytest.raises(OutputError):
        patience(disk.write)

    assert n_asked >= 2 and disk.n_asked == n_asked + 1
    assert len(said) == 1


def test_patience_ends_where_waiting_has_no_point_any_more() -> None:
    disk = Disk(errno.ENOSPC, 1000)

    with pytest.raises(OutputError):
        Patience(retry_s=0.0, is_over=lambda: disk.n_asked >= 3)(disk.write)

    assert disk.n_asked == 3


def press_ctrl_c_after(delay_s: float) -> None:
    threading.Timer(delay_s, os.kill, (os.getpid(), signal.SIGINT)).start()


def listen_as_nobody() -> None:
    """Python's own handler raises KeyboardInterrupt."""


def listen_as_tune() -> None:
    from ray.tune.tune import _setup_signal_catching

    _setup_signal_catching()


@pytest.mark.ray
@pytest.mark.parametrize(
    ("listen", "ends_with"),
    [(listen_as_nobody, KeyboardInterrupt), (listen_as_tune, OutputError)],
    ids=["outside of Tune", "within Tune"],
)
def test_patience_ends_with_ctrl_c(listen: Callable[[], None], ends_with: type[BaseException]) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGUSR1)}
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # an earlier search may have left Tune's
        listen()
        press_ctrl_c_after(0.1)

        with pytest.raises(ends_with):
            Patience(limit_s=20.0, retry_s=0.05)(Disk(errno.ENOSPC, 1000).write)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
