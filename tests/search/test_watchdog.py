"""Workers that have stopped moving are found by their pulses, whatever their clocks say."""

import os
from pathlib import Path

import pytest

from search.watchdog import PAUSE_S, Watchdog
from trainables.pulse import PULSE_FILE


class Clock:
    """Goes on when it is told to."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watchdog(clock: Clock) -> Watchdog:
    return Watchdog(silent_s=100.0, look_s=5.0, clock=clock)


def touch(folder: Path, stamp_s: float) -> None:
    folder.mkdir(exist_ok=True)
    (folder / PULSE_FILE).touch()
    os.utime(folder / PULSE_FILE, (stamp_s, stamp_s))


def look_until(watchdog: Watchdog, clock: Clock, folders: dict[str, Path], until_s: float) -> list[str]:
    found = []
    while clock.now_s < until_s:
        clock.now_s += 5.0
        found += watchdog.hung(folders)
    return found


def test_work_that_moves_is_left_alone(watchdog: Watchdog, clock: Clock, tmp_path: Path) -> None:
    for stamp_s in range(1, 50):
        touch(tmp_path, stamp_s)
        assert look_until(watchdog, clock, {"t": tmp_path}, clock.now_s + 90.0) == []


def test_work_that_stands_still_is_found_once(watchdog: Watchdog, clock: Clock, tmp_path: Path) -> None:
    touch(tmp_path, 1)

    assert look_until(watchdog, clock, {"t": tmp_path}, 105.0) == []
    assert look_until(watchdog, clock, {"t": tmp_path}, 115.0) == ["t"]
    assert look_until(watchdog, clock, {"t": tmp_path}, 200.0) == []


def test_stamp_of_a_clock_that_is_behind_counts_as_a_move(watchdog: Watchdog, clock: Clock, tmp_path: Path) -> None:
    touch(tmp_path, 5000)
    look_until(watchdog, clock, {"t": tmp_path}, 90.0)
    touch(tmp_path, 100)

    assert look_until(watchdog, clock, {"t": tmp_path}, 180.0) == []


def test_work_that_never_gave_a_sign_is_found_too(watchdog: Watchdog, clock: Clock, tmp_path: Path) -> None:
    assert look_until(watchdog, clock, {"t": tmp_path / "none"}, 120.0) == ["t"]


def test_work_that_was_away_for_a_while_begins_anew(watchdog: Watchdog, clock: Clock, tmp_path: Path) -> None:
    touch(tmp_path, 1)
    look_until(watchdog, clock, {"t": tmp_path}, 90.0)
    look_until(watchdog, clock, {}, 95.0)

    assert look_until(watchdog, clock, {"t": tmp_path}, 180.0) == []


def test_nobody_is_blamed_for_a_pause_of_the_watchdog(watchdog: Watchdog, clock: Clock, tmp_path: Path) -> None:
    touch(tmp_path, 1)
    look_until(watchdog, clock, {"t": tmp_path}, 90.0)
    clock.now_s += PAUSE_S + 50.0

    assert watchdog.hung({"t": tmp_path}) == []


def test_looks_are_some_seconds_apart(watchdog: Watchdog, clock: Clock) -> None:
    first = watchdog.is_due
    watchdog.hung({})
    second = watchdog.is_due
    clock.now_s = 5.0

    assert (first, second, watchdog.is_due) == (True, False, True)
