"""The books of a launch are closed however it ended, each where another can't be."""

import json
import time
from datetime import datetime
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from search import launch_books
from search.folder import SearchFolder, SearchManifest
from search.launch_books import LaunchBooks
from search.plan import SearchPlan
from search.resources import Resources
from search.sampler import StudySampler
from search.state import SearchState, new_record
from search.storage import create_folder
from search.tracking_journal import read_times
from spaces.errors import OutputError
from spaces.loading import load_space
from trainables.data.table import FaceTable

NOBODY = "http://127.0.0.1:9"
"""A tracking server that does not answer: the journal tells what it would have heard."""


@pytest.fixture
def folder(tmp_path: Path, face_table: FaceTable) -> SearchFolder:
    """Of a search that has begun."""
    made = create_folder(tmp_path / "runs", "kept")
    made.write_manifest(
        SearchManifest(
            name="kept", data=str(face_table.path), content_hash=face_table.info.content_hash,
            classes=tuple(face_table.info.classes), seed=0, n_trials=2, time_budget_s=None,
            tracking_uri=NOBODY, launched_s=time.time() - 60.0,
        )
    )  # fmt: skip
    return made


@pytest.fixture
def books(folder: SearchFolder, face_table: FaceTable) -> LaunchBooks:
    """Open, with one trial in training."""
    sampler = StudySampler(load_space("core"), seed=0)
    opened = LaunchBooks(
        SearchState(sampler), folder, face_table, plan=SearchPlan(n_trials=2), resources=Resources(1.0, 0.0, 1)
    )
    opened.open_pages()
    sampler.ask("t0000")
    opened.recorder.trial_started(new_record(sampler, "t0000"))
    return opened


def ends_in_mlflow(folder: SearchFolder) -> dict[str, str]:
    lines = (folder.tracking_dir / "operations.jsonl").read_text().splitlines()
    return {line["key"]: line["tags"]["affectune.end"] for line in map(json.loads, lines) if line["op"] == "end"}


def test_what_is_open_is_closed_as_interrupted(books: LaunchBooks, folder: SearchFolder) -> None:
    books.close(interrupted=True)

    (asked,) = optuna.load_study(
        study_name="kept", storage=JournalStorage(JournalFileBackend(str(folder.path / "optuna.log")))
    ).trials
    began_s, _ = read_times(folder.tracking_dir)["t0000"]
    assert asked.datetime_start == datetime.fromtimestamp(began_s)
    assert folder.read_record("t0000").end == "preempted"
    assert ends_in_mlflow(folder) == {"t0000": "preempted", "search": "interrupted"}
    manifest = folder.read_manifest()
    assert manifest.status == "interrupted" and manifest.wall_s >= 60.0


def test_books_are_closed_where_the_study_cant_be_written(
    books: LaunchBooks, folder: SearchFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OutputError("no room for the study")

    monkeypatch.setattr(launch_books, "write_study", refuse)
    monkeypatch.setattr(folder, "patience", lambda work: work())

    with pytest.raises(OutputError, match="no room for the study"):
        books.close(interrupted=True)

    assert ends_in_mlflow(folder) == {"t0000": "preempted", "search": "interrupted"}
    assert folder.read_manifest().status == "interrupted"
