"""A worker's sign of life: a time stamp that moves with the work, and stacks where it stands still."""

import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from trainables.pulse import PULSE_FILE, STACK_FILE, Pulse, beat, read_pulse


def wait_until(is_so: Callable[[], bool], *, limit_s: float = 10.0) -> None:
    until_s = time.monotonic() + limit_s
    while not is_so() and time.monotonic() < until_s:
        time.sleep(0.01)
    assert is_so()


def stamp(folder: Path) -> int:
    return (folder / PULSE_FILE).stat().st_mtime_ns


def test_pulse_says_who_works(tmp_path: Path) -> None:
    with Pulse(tmp_path / "t0000"):
        said = json.loads((tmp_path / "t0000" / PULSE_FILE).read_text())

    assert said["pid"] == os.getpid()
    assert said["host"] and said["begun_s"] <= time.time()


def test_pulse_is_touched_when_the_work_moves_and_only_then(tmp_path: Path) -> None:
    with Pulse(tmp_path, touch_s=0.01):
        first = stamp(tmp_path)
        time.sleep(0.1)
        still = stamp(tmp_path)
        beat()
        wait_until(lambda: stamp(tmp_path) != first)

    assert still == first


def test_pulse_tells_where_silent_work_stands(tmp_path: Path) -> None:
    with Pulse(tmp_path, silent_s=0.1, touch_s=0.01):
        wait_until(lambda: (tmp_path / STACK_FILE).exists() and "test_pulse" in (tmp_path / STACK_FILE).read_text())


def test_pulse_of_new_work_forgets_where_the_old_one_stood(tmp_path: Path) -> None:
    (tmp_path / STACK_FILE).write_text("old")

    with Pulse(tmp_path):
        assert not (tmp_path / STACK_FILE).exists()


def test_pulse_lets_the_work_go_on_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with Pulse(tmp_path / "file" / "below", touch_s=0.01):
        beat()
        time.sleep(0.05)


def test_pulse_stops_with_its_work(tmp_path: Path) -> None:
    with Pulse(tmp_path, touch_s=0.01):
        beat()
        wait_until(lambda: read_pulse(tmp_path) != {})
    time.sleep(0.05)

    assert read_pulse(tmp_path) == {}


@pytest.mark.parametrize(
    ("host", "n_before", "follows"),
    [(socket.gethostname(), 2, True), (socket.gethostname(), 3, False), ("elsewhere", 2, False)],
    ids=["killed", "lost otherwise", "on another machine"],
)
def test_pulse_knows_whether_memory_ran_out_under_the_worker_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, n_before: int, follows: bool
) -> None:
    (tmp_path / PULSE_FILE).write_text(json.dumps({"host": host, "pid": 1, "n_oom_kills": n_before}))
    monkeypatch.setattr("trainables.pulse.n_oom_kills", lambda: 3)

    with Pulse(tmp_path) as pulse:
        assert pulse.follows_oom_kill is follows


@pytest.mark.parametrize("text", ["", "{", "[]"], ids=["empty", "torn", "list"])
def test_pulse_that_was_torn_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / PULSE_FILE).write_text(text)

    assert read_pulse(tmp_path) == {}
