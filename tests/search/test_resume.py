"""A search that was interrupted goes on, in one process with one local Ray."""

import os
import signal
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from search import launch_books
from search.console import SearchConsole
from search.folder import SPACE_FILE, SearchFolder, SearchManifest
from search.launch import run_search
from search.plan import SearchPlan
from search.resume import More, is_time_up, resume_search, time_left
from search.sampler import StudySampler
from search.state import new_record
from search.storage import create_folder, open_folder
from search.tracking import Tracker
from search.tracking_server import default_tracking_uri
from spaces.errors import SearchError, SpaceError, TrackingError, UsageError
from spaces.loading import parse_space
from spaces.space import SearchSpace
from trainables.outputs import write_text

if TYPE_CHECKING:
    from trainables.data.table import FaceTable

SPACE = parse_space("""
name: small
description: two dimensions of a tiny network
parameters:
  optimiser.lr: {log_uniform: [1.0e-4, 1.0e-2], default: 1.0e-3}
  loss.label_smoothing: {uniform: [0.0, 0.6], default: 0.1}
fixed: {model.backbone: test_efficientnet, model.weights: none, model.image_px: 32, train.epochs: 2}
""")
WIDER = parse_space("""
name: wider
fixed: {model.backbone: test_efficientnet, model.weights: none, model.image_px: 32, train.epochs: 2}
parameters:
  optimiser.lr: {log_uniform: [1.0e-4, 1.0e-1], default: 1.0e-3}
  loss.label_smoothing: {uniform: [0.0, 0.6], default: 0.1}
  train.batch_size: {integer: [16, 128], default: 16}
""")
HEADS = parse_space("""
name: heads
fixed: {model.backbone: test_efficientnet, model.image_px: 32, train.epochs: 0, train.head_epochs: 1}
parameters:
  loss.label_smoothing: {uniform: [0.0, 0.6], default: 0.1}
""")
ONE_AT_A_TIME = SearchPlan(n_trials=3, cpus_per_trial=2)


class ImpatientConsole(SearchConsole):
    """Presses Ctrl-C when the second trial has run an epoch."""

    def epoch(self, trial_id: str, report: Any) -> None:
        super().epoch(trial_id, report)
        if trial_id == "t0001" and report["epoch"] == 1:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.ray
@pytest.mark.slow
def test_interrupted_search_goes_on_to_the_trials_asked_for_in_a_wider_space(
    face_table: "FaceTable",
    ray_local: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(launch_books, "SearchConsole", ImpatientConsole)
        cut = run_search(SPACE, data=face_table.path, storage=tmp_path, name="cut", plan=ONE_AT_A_TIME)
    before = open_folder(tmp_path, "cut").read_records()

    with pytest.raises(SpaceError, match=r"got one without 2 of them, t0000 has train.epochs 2 where it must be 3: "):
        resume_search(tmp_path, "cut", More(n_more=1), space=SPACE.fix({"train.epochs": 3}))
    whole = resume_search(tmp_path, "cut", More(n_more=1), space=WIDER)

    assert cut.interrupted and [record.end for record in before] == ["completed", "preempted"]
    records = open_folder(tmp_path, "cut").read_records()
    assert not whole.interrupted and [record.trial_id for record in records] == ["t0000", "t0001", "t0002", "t0003"]
    assert {record.end for record in records} <= {"completed", "stopped"}
    assert replace(records[0], values=before[0].values) == before[0]
    assert [record.values["train.batch_size"] for record in records[:2]] == [64, 64]  # which was not in the space
    assert capsys.readouterr().out.count("the space is another now, and holds all 2 trials so far: ") == 1
    assert records[1].n_preempted == 1 and records[1].config == before[1].config
    assert len({str(record.config) for record in records}) == 4
    manifest = open_folder(tmp_path, "cut").read_manifest()
    assert (manifest.status, manifest.n_trials, manifest.n_launches) == ("ended", 4, 2)
    assert open_folder(tmp_path, "cut").read_space() == WIDER
    assert "has all its 4 trials" in resume_search(tmp_path, "cut").note


def test_unknown_search_is_not_resumed(tmp_path: Path) -> None:
    with pytest.raises(SearchError, match=r"search must be in the storage, got 'cut'"):
        resume_search(tmp_path, "cut")


def with_one_trial(storage: Path, space: SearchSpace, table: "FaceTable", *, status: str) -> SearchFolder:
    """A search that was asked for one trial and has it."""
    folder = create_folder(storage, "cut")
    sampler = StudySampler(space)
    sampler.ask("t0000")
    record = new_record(sampler, "t0000")
    record.end, record.best_macro_f1 = "completed", 0.5
    folder.write_record(record)
    write_text(folder.path / SPACE_FILE, space.to_yaml())
    folder.write_manifest(
        SearchManifest(
            name="cut", data=str(table.path), content_hash=table.info.content_hash, classes=(), seed=0,
            n_trials=1, time_budget_s=None, tracking_uri=default_tracking_uri(storage), status=status, wall_s=7.0,
        )
    )  # fmt: skip
    return folder


@pytest.mark.parametrize(("first", "least_s"), [("", 12.0), ("heads:8", 32.0)], ids=["plain", "with heads"])
def test_time_is_up_where_closing_leaves_none_for_a_trial(first: str, least_s: float) -> None:
    manifest = SearchManifest(
        name="cut", data="", content_hash="", classes=(), seed=0, n_trials=None, time_budget_s=100.0, tracking_uri="",
        plan={"first": first},
    )  # fmt: skip

    assert time_left(manifest, More(), spent_s=99.0 - least_s) == least_s + 1.0
    assert is_time_up(manifest, More(), spent_s=100.0 - least_s)
    assert not is_time_up(manifest, More(time_budget_s=5.0), spent_s=100.0 - least_s)
    with pytest.raises(UsageError, match=f"must have time left, got {least_s:.0f} s of its 100"):
        time_left(manifest, More(), spent_s=100.0 - least_s)


@pytest.mark.slow
def test_best_heads_get_their_runs_by_resume_where_the_driver_was_killed_before(
    face_table: "FaceTable", tmp_path: Path
) -> None:
    folder = with_one_trial(tmp_path, HEADS, face_table, status="running")
    tracker = Tracker(default_tracking_uri(tmp_path), "cut", folder.tracking_dir)
    tracker.start_search(name="cut")
    tracker.close(timeout_s=0.0)

    resume_search(tmp_path, "cut")

    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        runs = database.execute("select name from runs where status <> 'RUNNING'").fetchall()
    assert sorted(name for (name,) in runs) == ["cut", "pack-0001", "t0000 default"]


@pytest.mark.slow
def test_what_mlflow_missed_of_a_search_that_had_ended_is_sent_by_resume(
    face_table: "FaceTable", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, uri = with_one_trial(tmp_path, SPACE, face_table, status="ended"), default_tracking_uri(tmp_path)
    with monkeypatch.context() as killed:
        killed.setattr(Tracker, "_work", lambda _: None)
        tracker = Tracker(uri, "cut", folder.tracking_dir)
        tracker.end_run(tracker.start_search(name="cut"), "completed")
        tracker.close(timeout_s=0.0)

    outcome = resume_search(tmp_path, "cut")

    manifest = folder.read_manifest()
    assert "has all its 1 trials" in outcome.note
    assert (manifest.status, manifest.wall_s) == ("ended", 7.0)
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        assert database.execute("select run_uuid, status from runs").fetchall() == [
            (manifest.parent_run_id, "FINISHED")
        ]


def test_search_goes_on_though_its_tracking_server_is_away_but_not_with_another_that_is(
    face_table: "FaceTable", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*words: object) -> None:
        raise SearchError("no cluster")

    folder = with_one_trial(tmp_path, SPACE, face_table, status="interrupted")
    folder.update_manifest(tracking_uri="http://127.0.0.1:9", classes=tuple(face_table.info.classes))
    monkeypatch.setattr("search.resume.start_nodes", refuse)

    with pytest.raises(SearchError, match="no cluster"):  # so far it came
        resume_search(tmp_path, "cut", More(n_more=1))
    with pytest.raises(TrackingError, match="must answer, got connection refused"):
        resume_search(tmp_path, "cut", More(n_more=1), tracking_uri="http://127.0.0.1:10")
