"""Failures are grouped by their cause."""

from search.folder import TrialRecord
from search.report.troubles import group_troubles, time_by_end


def trial(number: int, end: str, error: str = "", **values: object) -> TrialRecord:
    return TrialRecord(f"t{number:04d}", number, dict(values), {}, end=end, error=error, wall_s=10.0)  # type: ignore[arg-type]


def test_errors_that_differ_in_numbers_alone_are_one_cause() -> None:
    records = [trial(i, "failed", f"out of memory: tried {i} MiB\nmore", sam=True) for i in range(3)]
    records += [trial(3, "failed", "file is gone"), *(trial(i, "completed", sam=False) for i in range(4, 9))]

    first, second = group_troubles(records)

    assert (first.cause, first.trials) == ("out of memory: tried 0 MiB", ("t0000", "t0001", "t0002"))
    assert first.shared == (("sam", "True"),) and first.seconds == 30.0
    assert second.trials == ("t0003",) and second.shared == ()


def test_every_end_has_its_time_and_an_open_trial_counts_as_preempted() -> None:
    records = [trial(0, "completed"), trial(1, "stopped"), trial(2, "stopped")]
    records.append(TrialRecord("t0003", 3, {}, {}, wall_s=5.0))

    found = [(time.end, time.n_trials, time.seconds) for time in time_by_end(records)]

    assert found == [("completed", 1, 10.0), ("stopped", 2, 20.0), ("preempted", 1, 5.0)]
