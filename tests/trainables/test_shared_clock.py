"""A deadline keeps its moment on a machine whose clock differs."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from trainables.run import TrialOrder
from trainables.shared_clock import clock_lead_s, in_own_time


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """This machine's clock runs ahead of the one that stamps files by so many seconds."""
    real = time.time

    def set_ahead(seconds: float) -> None:
        monkeypatch.setattr("trainables.shared_clock.time.time", lambda: real() + seconds)

    return set_ahead


@pytest.mark.parametrize("ahead_s", [300.0, -300.0, 86400.0])
def test_clock_that_differs_is_known_by_the_stamp_of_the_storage(
    tmp_path: Path, set_clock: Callable[[float], None], ahead_s: float
) -> None:
    set_clock(ahead_s)

    assert clock_lead_s(tmp_path) == pytest.approx(ahead_s, abs=1.0)
    assert clock_lead_s(tmp_path / "trials" / "t0000") == pytest.approx(ahead_s, abs=1.0)
    assert list(tmp_path.iterdir()) == []


def test_clock_of_a_machine_with_its_own_disk_leads_by_nothing(tmp_path: Path) -> None:
    assert clock_lead_s(tmp_path) == 0.0


def test_clock_leads_by_nothing_where_there_is_no_folder_to_tell(tmp_path: Path) -> None:
    assert clock_lead_s(tmp_path / "a" / "b" / "c" / "d") == 0.0


def test_slow_storage_is_no_lead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([1000.0, 1030.0])
    monkeypatch.setattr("trainables.shared_clock.time.time", lambda: next(moments))
    stamp = os.stat_result((0o40755, 0, 0, 0, 0, 0, 0, 1020, 1020, 1020))
    monkeypatch.setattr("trainables.shared_clock.os.utime", lambda path: None)
    monkeypatch.setattr("pathlib.Path.stat", lambda *_, **__: stamp)

    assert clock_lead_s(tmp_path) == 0.0


def test_order_keeps_its_moment_on_a_machine_whose_clock_is_ahead(
    tmp_path: Path, set_clock: Callable[[float], None]
) -> None:
    left_s = 60.0
    set_clock(300.0)
    order = TrialOrder("t0000", {}, "faces", str(tmp_path), deadline_s=1000.0 + left_s, clock_lead_s=-20.0)

    own = order.in_own_time()

    there_s = 1000.0 + 20.0 + 300.0  # what this clock shows when the sender's shows 1000
    assert own.deadline_s == pytest.approx(there_s + left_s, abs=1.0)
    assert own.search_ends_s is None
    assert own.in_own_time().deadline_s == pytest.approx(own.deadline_s, abs=1.0)


def test_no_deadline_stays_none() -> None:
    assert in_own_time(None, lead_s=300.0, sender_lead_s=0.0) is None
