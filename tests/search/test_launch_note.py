"""The description of a launch's run is kept true, and not more often than anybody looks."""

from pathlib import Path

import pytest

from search.folder import TrialRecord
from search.launch_note import EVERY_S, LaunchNote
from search.leaderboard import NOTE_TAG
from search.run_views import runs_link
from search.tracking import Tracker
from search.tracking_journal import Journal

RECORDS = [TrialRecord("t0000", 0, {}, {}, end="completed", best_macro_f1=0.5)]


def test_a_running_search_is_described_now_and_then_and_its_end_at_once(tmp_path: Path) -> None:
    times = iter([0.0, 0.0, 1.0, EVERY_S, EVERY_S, EVERY_S + 1])
    tracker = Tracker("http://127.0.0.1:9", "faces", tmp_path)
    note = LaunchNote(tracker, tracker.start_search(name="faces"), default={}, n_trials=2, clock=lambda: next(times))

    for _ in range(3):
        note.keep_up(RECORDS)
    note.tell(RECORDS, "ended")
    tracker.close(timeout_s=0.0)

    told = [text for text in notes(tmp_path)]
    assert [text.split(":")[0] for text in told] == ["**running**", "**running**", "**ended**"]


@pytest.mark.slow
def test_description_links_to_the_trials_once_the_server_was_reached(tmp_path: Path) -> None:
    tracker = Tracker(f"sqlite:///{tmp_path}/mlflow.db", "faces", tmp_path / "tracking")
    key = tracker.start_search(name="faces")
    note = LaunchNote(tracker, key, default={}, n_trials=2)
    note.tell(RECORDS, "running")
    tracker.flush(60.0)

    note.tell(RECORDS, "ended")
    tracker.close()

    first, last = notes(tmp_path / "tracking")
    assert "](" not in first
    assert runs_link("", tracker.experiment_id or "", search_id=tracker.search_id) in last
    assert "compareRunsMode=CHART" in last


def notes(folder: Path) -> list[str]:
    """What a journal says that the run was described as."""
    journal = Journal(folder, experiment="faces", uri="nowhere")
    operations, _, _ = journal.read(start=0, max_lines=100)
    journal.close()
    return [operation["tags"][NOTE_TAG] for operation in operations if NOTE_TAG in operation.get("tags", {})]
