"""A tracking server that has lost what it was sent gets all of it again, and nothing twice."""

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from search.tracking import Tracker
from search.tracking_journal import server_mark
from search.tracking_server import sqlite_path

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of one SQLite file for all tests here: making its tables takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('storage')}/mlflow.db"


def _record(tracker: Tracker) -> None:
    """A search of two trials of three epochs."""
    search = tracker.start_search(name="launch")
    for key in ("t0000", "t0001"):
        tracker.start_run(key, parent_key=search, name=key)
        for epoch in (1, 2, 3):
            tracker.log_epoch(key, {"valid/macro_f1": 0.1 * epoch}, epoch)
        tracker.end_run(key, "completed")
    tracker.end_run(search, "completed")


def _client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(uri)


def _steps(uri: str, experiment: str) -> dict[str, list[int]]:
    """Key to the steps of its scores, of all runs of an experiment; fails where a key stands twice."""
    client = _client(uri)
    runs = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    found = {
        run.data.tags["affectune.key"]: [
            point.step for point in client.get_metric_history(run.info.run_id, "valid/macro_f1")
        ]
        for run in runs
    }
    assert len(found) == len(runs)
    return found


def _pretend_sent(journal_dir: Path, uri: str, *, experiment_id: str) -> None:
    """Progress with a database of which nothing is left: its runs are gone, its number is another experiment's."""
    mark, n_bytes = server_mark(uri), (journal_dir / "operations.jsonl").stat().st_size
    (journal_dir / f"sent-{mark}.json").write_text(json.dumps({"offset": n_bytes, "experiment_id": experiment_id}))
    lines = [json.dumps({"key": key, "run_id": f"gone{key}"}) + "\n" for key in ("search", "t0000", "t0001")]
    (journal_dir / f"runs-{mark}.jsonl").write_text("".join(lines))


def _remove(uri: str, *, runs: Sequence[str], experiment_id: str | None = None) -> None:
    """Have a database lose some runs, and their experiment."""
    with closing(sqlite3.connect(sqlite_path(uri), timeout=20)) as database, database:
        for run_id in runs:
            for table in ("metrics", "latest_metrics", "params", "tags", "runs"):
                database.execute(f"delete from {table} where run_uuid = ?", (run_id,))
        database.execute("delete from experiment_tags where experiment_id = ?", (experiment_id,))
        database.execute("delete from experiments where experiment_id = ?", (experiment_id,))


def test_tracker_sends_all_again_when_the_database_was_replaced(database: str, tmp_path: Path) -> None:
    other = _client(database).create_experiment("of somebody else")
    first = Tracker("http://127.0.0.1:9", "replaced", tmp_path, on_trouble=lambda _: None)
    _record(first)
    first.close(timeout_s=0)
    _pretend_sent(tmp_path, database, experiment_id=other)
    told: list[str] = []

    second = Tracker(database, "replaced", tmp_path, on_trouble=told.append)
    second.start_search(name="second launch")

    assert second.close(timeout_s=60) == 0
    assert _steps(database, "replaced") == {"search": [], "t0000": [1, 2, 3], "t0001": [1, 2, 3], "search-2": []}
    assert _client(database).search_runs([other]) == []
    assert told == ["tracking server has lost what it had of this search; all of it is sent again"]


def test_tracker_sends_all_again_when_the_server_is_emptied_while_it_runs(database: str, tmp_path: Path) -> None:
    tracker = Tracker(database, "emptied", tmp_path, on_trouble=lambda _: None)
    search = tracker.start_search(name="launch")
    tracker.start_run("t0000", parent_key=search, name="t0000")
    tracker.log_epoch("t0000", {"valid/macro_f1": 0.1}, 1)
    assert tracker.flush(timeout_s=60) == 0
    gone = [str(tracker.run_id(key)) for key in ("search", "t0000")]
    _remove(database, runs=gone, experiment_id=tracker.experiment_id)

    tracker.log_epoch("t0000", {"valid/macro_f1": 0.2}, 2)
    tracker.flush(timeout_s=60)

    assert tracker.flush(timeout_s=60) == 0
    tracker.close()
    assert _steps(database, "emptied") == {"search": [], "t0000": [1, 2]}
    assert not (tmp_path / "rejected.jsonl").exists()


def test_nothing_is_doubled_when_a_database_of_an_earlier_day_is_put_back(database: str, tmp_path: Path) -> None:
    first = Tracker(database, "put back", tmp_path)
    _record(first)
    first.close(timeout_s=60)
    _remove(database, runs=[str(first.run_id("t0001"))])

    second = Tracker(database, "put back", tmp_path, on_trouble=lambda _: None)
    second.start_search(name="second launch")

    assert second.close(timeout_s=60) == 0
    assert second.run_id("t0000") == first.run_id("t0000")
    assert _steps(database, "put back") == {"search": [], "t0000": [1, 2, 3], "t0001": [1, 2, 3], "search-2": []}
