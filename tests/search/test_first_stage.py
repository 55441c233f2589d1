"""The stage before a search: whose heads it goes on with, how it ends, and what heads are asked afterwards."""

import sqlite3
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from search import first_stage
from search.first import HandedOver, heads_space, read_handed, write_handed
from search.first_stage import _order, _twins, is_unmeasured, measure_first, run_first
from search.folder import SPACE_FILE, SearchFolder, SearchManifest, TrialRecord
from search.follow import SearchOutcome
from search.launch import run_search
from search.plan import SearchPlan
from search.resources import Resources
from search.resume import resume_search
from search.sampler import StudySampler
from search.state import new_record
from search.tracking import Tracker
from search.tracking_server import default_tracking_uri
from spaces.config import TrialConfig
from spaces.errors import SearchError
from spaces.loading import parse_space
from trainables.heads.pack_run import score_pack
from trainables.outputs import write_text

if TYPE_CHECKING:
    from trainables.data.table import FaceTable

FULL = parse_space("""
name: full
fixed: {model.image_px: 32, model.backbone: test_efficientnet, train.epochs: 1, train.batch_size: 32}
parameters:
  loss.label_smoothing: {uniform: [0.0, 0.6], default: 0.1}
  optimiser.lr: {log_uniform: [1.0e-4, 1.0e-2], default: 1.0e-3}
""")
PLAN = SearchPlan(n_trials=2, max_concurrent=1, first="heads:4:2")
RESOURCES = Resources(cpus=1, gpus=0, max_concurrent=1)


def begun(folder: SearchFolder, table: "FaceTable", **changes: Any) -> SearchManifest:
    """The manifest of a search, written; its space is the full one, or that of its heads."""
    manifest = SearchManifest(
        name=folder.name, data=str(table.path), content_hash=table.info.content_hash, classes=(), seed=0, n_trials=2,
        time_budget_s=None, tracking_uri=default_tracking_uri(folder.path.parent),
    )  # fmt: skip
    manifest = replace(manifest, **changes)
    space = heads_space(FULL) if folder.name.endswith("-heads") else FULL
    write_text(folder.path / SPACE_FILE, space.to_yaml())
    folder.write_manifest(manifest)
    return manifest


def scored_head(sampler: StudySampler, number: int, score: float) -> TrialRecord:
    sampler.ask(f"t{number:04d}")
    record = new_record(sampler, f"t{number:04d}")
    record.add_epoch({"epoch": 1, "best/macro_f1": score, "best/epoch": 0})
    record.end = "completed"
    return record


def full_record(number: int, **settings: Any) -> TrialRecord:
    config = TrialConfig.from_flat({name.replace("__", "."): value for name, value in settings.items()}).to_flat()
    record = TrialRecord(f"t{number:04d}", number, {}, config)
    record.add_epoch({"epoch": 1, "best/macro_f1": 0.5, "best/epoch": 1})
    record.end = "completed"
    return record


@pytest.mark.parametrize(
    ("changes", "space", "what"),
    [({"seed": 1}, None, "seed"), ({"content_hash": "x"}, None, "face table"), ({}, FULL, "space")],
    ids=["seed", "table", "space"],
)
def test_heads_of_another_search_are_refused(
    face_table: "FaceTable", tmp_path: Path, changes: dict[str, Any], space: Any, what: str
) -> None:
    folder = SearchFolder(tmp_path / "quick")
    begun(folder, face_table)
    begun(folder.heads, face_table, **changes)
    if space is not None:
        write_text(folder.heads.path / SPACE_FILE, space.to_yaml())

    with pytest.raises(SearchError, match=f"'quick-heads' must be of the heads of 'quick', got another {what}: "):
        run_first(folder, FULL, face_table, plan=PLAN, resources=RESOURCES)

    assert read_handed(folder) is None


@pytest.mark.parametrize(("end", "time_budget_s"), [("failed", 40.0), ("diverged", 40.0), ("stopped", None)], ids=str)
def test_stage_without_a_score_is_an_error_unless_it_had_no_time(
    face_table: "FaceTable", tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, time_budget_s: float | None
) -> None:
    folder = SearchFolder(tmp_path / "quick")
    begun(folder, face_table)

    def follow(state: Any, own: SearchFolder, *_: Any, **__: Any) -> None:
        own.write_record(TrialRecord("t0000", 0, {}, {}, end=end))  # type: ignore[arg-type]
        own.update_manifest(status="ended")
        raise SearchError("no trial could be scored")

    monkeypatch.setattr(first_stage, "follow", follow)

    with pytest.raises(SearchError, match="no trial could be scored"):
        run_first(folder, FULL, face_table, plan=replace(PLAN, time_budget_s=time_budget_s), resources=RESOURCES)


@pytest.mark.ray
@pytest.mark.slow
def test_full_search_goes_on_where_heads_had_no_time(
    ray_local: None,
    face_table: "FaceTable",
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(first_stage, "TIME_SHARE", 0.01)
    plan = replace(PLAN, n_trials=1, time_budget_s=120.0)

    outcome = run_search(FULL, data=face_table.path, storage=tmp_path, name="quick", plan=plan)

    assert [record.end for record in outcome.records] == ["completed"]
    assert (handed := read_handed(outcome.folder)) is not None and handed.points == ()
    assert "heads had too little time: nothing is handed over" in capsys.readouterr().out


@pytest.mark.slow
def test_books_of_heads_that_were_all_trained_are_closed_on_the_server_of_now(
    face_table: "FaceTable", tmp_path: Path
) -> None:
    folder = SearchFolder(tmp_path / "quick")
    begun(folder, face_table)
    begun(folder.heads, face_table, tracking_uri=f"sqlite:///{tmp_path}/gone.db", status="running")
    sampler = StudySampler(heads_space(FULL))
    for number in range(4):
        folder.heads.write_record(scored_head(sampler, number, 0.1 * number))
    tracker = Tracker(f"sqlite:///{tmp_path}/gone.db", "quick-heads", folder.heads.tracking_dir)
    tracker.start_search(name="quick-heads")
    tracker.close(timeout_s=0.0)

    stopped, _ = run_first(folder, FULL, face_table, plan=PLAN, resources=RESOURCES)

    assert stopped is None and folder.heads.read_manifest().status == "ended"
    assert (handed := read_handed(folder)) is not None and [p["trial"] for p in handed.points] == ["t0003", "t0002"]
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        runs = {name.split()[0]: status for name, status in database.execute("select name, status from runs")}
    assert {f"t{number:04d}" for number in range(4)} | {"quick-heads", "pack-0001"} == runs.keys()
    assert "RUNNING" not in runs.values()


def test_trials_that_no_head_can_be_asked_about_are_said_and_not_asked_again(
    face_table: "FaceTable", tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = SearchFolder(tmp_path / "quick")
    begun(folder, face_table)
    write_handed(folder, HandedOver(search="quick-heads"))
    records = [full_record(0, optimiser__sam_rho=0.05), full_record(1, model__encoder="dan")]
    before = is_unmeasured(folder, records)

    measure_first(SearchOutcome(folder, records, interrupted=False), face_table, resources=RESOURCES)

    assert "not measured, no full trial can be trained as a head alone" in capsys.readouterr().out
    assert before and not is_unmeasured(folder, records)
    assert is_unmeasured(folder, [*records, full_record(2)])


def test_heads_that_were_scored_before_time_was_up_are_told(
    face_table: "FaceTable", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_stage, "HEAD_ONLY", {"train.epochs": 0, "train.head_batch_norm": "eval"})
    small = {"model__backbone": "test_efficientnet", "model__image_px": 32}
    quick = full_record(0, **small, train__head_epochs=1)
    endless = full_record(1, **small, train__head_epochs=1000, train__batch_size=2)
    twins = _twins([quick, endless], SearchFolder(tmp_path))

    scores = score_pack(_order(twins, face_table, RESOURCES, deadline_s=time.time() + 4.0).to_dict())

    assert scores.keys() == {"t0000"}


@pytest.mark.ray
@pytest.mark.slow
def test_heads_are_asked_by_resume_where_that_was_cut_short_and_only_once(
    ray_local: None,
    face_table: "FaceTable",
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def cut(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(first_stage, "_ask_heads", cut)
        run_search(FULL, data=face_table.path, storage=tmp_path, name="quick", plan=PLAN)
    folder = SearchFolder(tmp_path / "quick")

    note = resume_search(tmp_path, "quick").note
    measured = read_handed(folder)
    resume_search(tmp_path, "quick")

    assert "has all its 2 trials" in note and measured is not None
    assert measured.n_asked == measured.fidelity["test_efficientnet"]["n_trials"] == 2
    assert capsys.readouterr().out.count("whether heads told the truth") == 1
    _undo_to_a_search_that_had_its_time(folder, measured)
    assert "had time for 2 trials" in resume_search(tmp_path, "quick").note
    assert read_handed(folder) == measured


def _undo_to_a_search_that_had_its_time(folder: SearchFolder, handed: HandedOver) -> None:
    """As a kill while heads are asked leaves a search that time alone bounds."""
    write_handed(folder, replace(handed, fidelity={}, n_asked=0))
    folder.update_manifest(n_trials=None, time_budget_s=60.0, wall_s=40.0)
