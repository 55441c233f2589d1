"""Searches of heads alone, in packs; and heads before a full search."""

import json
import os
import signal
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from search import launch_books
from search.final import build_ensemble
from search.first import read_handed
from search.folder import SearchFolder, TrialRecord
from search.launch import run_search
from search.packs.console import PackConsole
from search.plan import EnsemblePlan, SearchPlan
from search.resume import More, resume_search
from search.storage import open_folder
from spaces.loading import parse_space
from trainables.scores import SCORES_FILE, load_scores
from trainables.trainer import WEIGHTS_FILE

if TYPE_CHECKING:
    from trainables.data.table import FaceTable

HEADS = parse_space("""
name: heads
fixed: {model.image_px: 32, train.epochs: 0, train.head_epochs: 4, train.batch_size: 32}
parameters:
  model.backbone: {choice: [test_efficientnet, test_resnet], default: test_efficientnet}
  loss.label_smoothing: {uniform: [0.0, 0.6], default: 0.1}
  optimiser.head_only_lr: {log_uniform: [1.0e-3, 1.0e-1], default: 1.0e-2}
  data.subsample_ratio: {choice: [0.5, 1.0], default: 1.0}
""")
FULL = parse_space("""
name: full
fixed: {model.image_px: 32, train.epochs: 1, train.batch_size: 32}
parameters:
  model.backbone: {choice: [test_efficientnet, test_resnet], default: test_efficientnet}
  loss.label_smoothing: {uniform: [0.0, 0.6], default: 0.1}
  optimiser.lr: {log_uniform: [1.0e-4, 1.0e-2], default: 1.0e-3}
""")


def runs_by_kind(storage: Path, experiment: str, *, status: str = "FINISHED") -> dict[str, int]:
    """How many runs of each kind an experiment has in MLflow, of those that stand so."""
    with sqlite3.connect(storage / "mlflow.db") as connection:
        found = connection.execute(
            "SELECT tags.value, COUNT(*) FROM tags JOIN runs USING (run_uuid) JOIN experiments USING (experiment_id) "
            "WHERE tags.key = 'affectune.kind' AND experiments.name = ? AND runs.status = ? GROUP BY 1",
            (experiment, status),
        ).fetchall()
    return dict(found)


def events_of(folder: SearchFolder, kind: str) -> list[str]:
    lines = (folder.path / "study.jsonl").read_text(encoding="utf-8").splitlines()
    return [event["trial_id"] for event in map(json.loads, lines) if event["event"] == kind]


@pytest.mark.ray
@pytest.mark.slow
def test_each_head_of_a_pack_is_a_trial_of_its_own(face_table: "FaceTable", ray_local: None, tmp_path: Path) -> None:
    plan = SearchPlan(n_trials=40, max_concurrent=1, keep_weights=3)

    outcome = run_search(HEADS, data=face_table.path, storage=tmp_path, name="h", plan=plan)

    folder, names = outcome.folder, [f"t{number:04d}" for number in range(40)]
    assert [record.trial_id for record in folder.read_records()] == names
    assert {record.end for record in outcome.records} == {"completed"}
    assert sorted(events_of(folder, "ask")) == sorted(events_of(folder, "tell")) == names
    assert all(load_scores(folder.trial_dir(name) / SCORES_FILE).logits.shape[0] == 96 for name in names)
    with_weights = {name for name in names if (folder.trial_dir(name) / WEIGHTS_FILE).exists()}
    best = sorted(outcome.records[1:], key=lambda record: (-(record.best_macro_f1 or 0), record.number))[:3]
    assert {record.trial_id for record in best} <= with_weights <= {"t0000", *(record.trial_id for record in best)}
    kinds = runs_by_kind(tmp_path, "h")
    assert kinds["pack"] == 4 and kinds["search"] == 1 and kinds["trial"] <= 11
    assert build_ensemble(folder, EnsemblePlan(n_bags=0))["scores"]["ensemble"]["valid"] > 0


@pytest.mark.ray
@pytest.mark.slow
def test_heads_search_takes_up_more_trials_where_it_ended(
    face_table: "FaceTable", ray_local: None, tmp_path: Path
) -> None:
    plan = SearchPlan(n_trials=8, max_concurrent=1)
    before = run_search(HEADS, data=face_table.path, storage=tmp_path, name="h", plan=plan).records

    after = resume_search(tmp_path, "h", More(n_more=4)).records

    assert [record.trial_id for record in after] == [f"t{number:04d}" for number in range(12)]
    assert [record.best_macro_f1 for record in after[:8]] == [record.best_macro_f1 for record in before]
    assert runs_by_kind(tmp_path, "h")["pack"] == 2


class ImpatientConsole(PackConsole):
    """Presses Ctrl-C when the second pack begins."""

    def trial_started(self, record: TrialRecord) -> None:
        super().trial_started(record)
        if record.trial_id == "t0008":
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.ray
@pytest.mark.slow
def test_pack_that_was_cut_is_closed_with_its_table_and_its_trials_end_in_another(
    face_table: "FaceTable", ray_local: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = SearchPlan(n_trials=16, max_concurrent=1)
    with monkeypatch.context() as patched:
        patched.setattr(launch_books, "PackConsole", ImpatientConsole)
        cut = run_search(HEADS, data=face_table.path, storage=tmp_path, name="h", plan=plan)
    tables = {path.name for path in cut.folder.packs_dir.iterdir()}
    running = runs_by_kind(tmp_path, "h", status="RUNNING")

    whole = resume_search(tmp_path, "h")

    assert cut.interrupted and tables == {"pack-0001.csv", "pack-0002.csv"} and running == {}
    assert [record.end for record in whole.records] == ["completed"] * 16
    assert {path.name for path in whole.folder.packs_dir.iterdir()} == {*tables, "pack-0003.csv"}
    assert runs_by_kind(tmp_path, "h", status="KILLED") == {"pack": 1, "search": 1}


@pytest.mark.ray
@pytest.mark.slow
def test_heads_hand_their_best_over_and_are_asked_whether_they_told_the_truth(
    face_table: "FaceTable", ray_local: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = SearchPlan(n_trials=5, max_concurrent=1, first="heads:16:3")

    outcome = run_search(FULL, data=face_table.path, storage=tmp_path, name="two", plan=plan)

    handed = read_handed(outcome.folder)
    assert handed is not None and handed.search == "two-heads"
    assert len(open_folder(tmp_path, "two-heads").read_records()) == 16
    records = outcome.folder.read_records()
    assert len(records) == 5 and records[0].values == FULL.default()
    for record, point in zip(records[1:4], handed.points, strict=True):
        assert {name: record.values[name] for name in point["values"]} == point["values"]
    assert sum(one["n_trials"] for one in handed.fidelity.values()) >= 1
    assert "whether heads told the truth" in capsys.readouterr().out


@pytest.mark.ray
@pytest.mark.slow
def test_search_that_was_cut_before_its_heads_handed_over_goes_on_with_them(
    face_table: "FaceTable", ray_local: None, tmp_path: Path
) -> None:
    plan = SearchPlan(n_trials=2, max_concurrent=1, first="heads:8:2")
    outcome = run_search(FULL, data=face_table.path, storage=tmp_path, name="cut", plan=plan)
    whole = [record.config for record in outcome.records]
    _undo_to_the_moment_before_handing_over(outcome.folder)

    resumed = resume_search(tmp_path, "cut")

    assert [record.config for record in resumed.records] == whole
    assert len(open_folder(tmp_path, "cut-heads").read_records()) == 8


def _undo_to_the_moment_before_handing_over(folder: SearchFolder) -> None:
    """As a kill in the stage of heads leaves the full search: its space and manifest, and no trial."""
    import shutil

    (folder.path / "first.json").unlink()
    (folder.path / "study.jsonl").unlink()
    shutil.rmtree(folder.path / "trials")
    (folder.path / "space.yaml").write_text(FULL.to_yaml(), encoding="utf-8")
    folder.update_manifest(status="running")
