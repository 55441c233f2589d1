"""A whole small search: its records, its folder, its runs in MLflow, its words; and how it ends before its time."""

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from search.folder import SearchFolder, TrialRecord
from search.follow import SearchOutcome, _why_nothing
from search.interrupts import _as_interrupt, gentle_signals
from search.launch import run_search
from search.plan import SearchPlan
from search.resources import Resources
from search.resume import resume_search
from spaces.config import TrialConfig
from spaces.errors import DataError, DeviceError, SearchError, TrackingError, UsageError
from spaces.loading import parse_space
from trainables.data.table import FaceTable
from trainables.scores import load_scores

MIXED = parse_space("""
name: mixed
parameters:
  optimiser.lr: {log_uniform: [1.0e-4, 1.0e-2], default: 1.0e-3}
  loss.label_smoothing: {uniform: [0.0, 0.6], default: 0.1}
fixed: {model.backbone: test_efficientnet, model.weights: none}
""")
SPACE = parse_space("name: one\ndescription: one\nparameters: {optimiser.lr: {log_uniform: [1.0e-4, 1.0e-2]}}\n")
Small = tuple[SearchOutcome, str]


@pytest.fixture(scope="module")
def runs(small_search: Small) -> dict[str, Any]:
    """MLflow's runs of the small search by the first word of their names."""
    from mlflow import MlflowClient

    manifest = small_search[0].folder.read_manifest()
    client = MlflowClient(manifest.tracking_uri)
    found = client.search_runs([str(manifest.experiment_id)])
    return {str(run.info.run_name).split()[0]: run for run in found}


def record(end: str, error: str = "") -> TrialRecord:
    return TrialRecord("t0000", 0, values={}, config={}, end=end, error=error)  # type: ignore[arg-type]


@pytest.mark.ray
def test_search_records_every_end(small_search: Small) -> None:
    outcome, _ = small_search

    ends = [record.end for record in outcome.folder.read_records()]

    assert ends == ["completed", "stopped", "diverged", "failed", "completed"]
    assert not outcome.interrupted


@pytest.mark.ray
def test_search_says_in_a_record_what_went_wrong(small_search: Small) -> None:
    failed, diverged = (small_search[0].records[i] for i in (3, 2))

    assert "gone.safetensors" in failed.error and "\n" not in failed.error
    assert failed.best_macro_f1 is None
    assert diverged.best_macro_f1 is None


@pytest.mark.ray
def test_search_stops_a_weak_trial_after_its_first_epoch(small_search: Small) -> None:
    default, weak = small_search[0].records[:2]

    assert weak.epochs == 1
    assert default.epochs == 2
    assert (weak.best_macro_f1 or 0.0) < (default.best_macro_f1 or 0.0)


@pytest.mark.ray
def test_search_keeps_scores_of_the_best_epoch(small_search: Small) -> None:
    outcome, _ = small_search
    best = max(outcome.records, key=lambda record: record.best_macro_f1 or 0.0)

    scores = load_scores(outcome.folder.trial_dir(best.trial_id) / "scores" / "valid.arrow")

    from trainables.metrics import macro_f1

    assert macro_f1(scores.labels, scores.logits.argmax(axis=1), 6) == pytest.approx(best.best_macro_f1)


@pytest.mark.ray
def test_record_holds_what_the_trial_reported_and_nothing_of_tune(small_search: Small) -> None:
    history = small_search[0].records[0].history

    assert [epoch["epoch"] for epoch in history] == [1, 2]
    assert {"train/loss", "valid/loss", "valid/macro_f1", "valid/f1/anger", "time/epoch_s"} <= set(history[0])
    assert not {"pid", "timestamp", "training_iteration", "time_total_s"} & set(history[0])


@pytest.mark.ray
def test_manifest_says_that_the_search_ended(small_search: Small, face_table: FaceTable) -> None:
    manifest = small_search[0].folder.read_manifest()

    assert (manifest.status, manifest.data) == ("ended", str(face_table.path))
    assert manifest.experiment_id and manifest.parent_run_id
    assert manifest.wall_s > 0


@pytest.mark.ray
def test_mlflow_has_a_child_run_per_trial(small_search: Small, runs: dict[str, Any]) -> None:
    parent_id = small_search[0].folder.read_manifest().parent_run_id

    parents = {name: runs[name].data.tags.get("mlflow.parentRunId") for name in runs if name.startswith("t")}

    assert parents == dict.fromkeys(["t0000", "t0001", "t0002", "t0003", "t0004"], parent_id)
    assert runs["mini"].info.run_id == parent_id


@pytest.mark.ray
def test_mlflow_says_of_a_trial_what_the_record_says(runs: dict[str, Any]) -> None:
    said = [(runs[f"t000{i}"].info.status, runs[f"t000{i}"].data.tags["affectune.end"]) for i in range(5)]

    assert said == [
        ("FINISHED", "completed"),
        ("FINISHED", "stopped"),
        ("FAILED", "diverged"),
        ("FAILED", "failed"),
        ("FINISHED", "completed"),
    ]
    assert "gone.safetensors" in runs["t0003"].data.tags["affectune.note"]


@pytest.mark.ray
def test_mlflow_params_are_the_complete_config(runs: dict[str, Any]) -> None:
    assert set(runs["t0001"].data.params) == set(TrialConfig().to_flat())
    assert runs["t0004"].data.params["blend.partner"] == "head"


@pytest.mark.ray
def test_mlflow_metrics_are_those_of_the_design(small_search: Small, runs: dict[str, Any]) -> None:
    metrics = runs["t0000"].data.metrics
    per_class = {f"valid/f1/{name}" for name in small_search[0].folder.read_manifest().classes}

    assert metrics["best/macro_f1"] == pytest.approx(small_search[0].records[0].best_macro_f1)
    assert set(metrics) == per_class | {
        "train/loss", "valid/loss", "valid/macro_f1", "time/epoch_s", "best/macro_f1", "samples_seen"
    }  # fmt: skip


@pytest.mark.ray
def test_screen_names_every_end(small_search: Small) -> None:
    _, screen = small_search

    assert "5 of 5 trials (2 completed, 1 stopped, 1 diverged, 1 failed)" in screen
    assert "Traceback" not in screen


@pytest.mark.ray
def test_search_leaves_json_that_other_programs_read(small_search: Small) -> None:
    files = [*small_search[0].folder.path.glob("*.json"), *small_search[0].folder.path.glob("trials/*/*.json")]

    for file in files:
        json.loads(file.read_text(), parse_constant=pytest.fail)


SPARING = """\
name: sparing
description: the default, and a constant answer
fixed: {{model.backbone: test_efficientnet, model.image_px: 32, train.epochs: 2, optimiser.lr: 1.0e-2}}
parameters:
  kind:
    choice:
      plain: {{blend.partner: none, blend.weight: 0.5}}
      constant: {{blend.partner: {constant}, blend.weight: 1.0}}
    default: plain
points: [{{kind: constant}}]
"""


@pytest.mark.ray
def test_search_says_how_often_stopping_was_wrong_when_it_spared_trials(
    small_search: Small, face_table: FaceTable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow import MlflowClient

    constant = small_search[0].folder.path.parent / "constant.safetensors"
    space = parse_space(SPARING.format(constant=constant))
    plan = SearchPlan(n_trials=2, max_concurrent=1, min_rung_trials=1, reprieve_share=1.0)

    outcome = run_search(space, data=face_table.path, storage=tmp_path, name="sparing", plan=plan)

    default, weak = outcome.folder.read_records()
    manifest = outcome.folder.read_manifest()
    runs = MlflowClient(manifest.tracking_uri).search_runs([str(manifest.experiment_id)])
    told = next(run.data.metrics for run in runs if run.info.run_id == manifest.parent_run_id)
    tags = {str(run.info.run_name).split()[0]: run.data.tags.get("affectune.spared") for run in runs}
    assert (default.end, default.spared, weak.end, weak.epochs) == ("completed", None, "completed", 2)
    assert weak.spared == weak.history[0]["samples_seen"] > 0
    assert "1 trial was let finish instead of stopped; 0 of 1 ended among the best 1/3" in capsys.readouterr().out
    assert tags == {"sparing": None, "t0000": None, "t0001": str(weak.spared)}
    assert [told[f"stopping/{name}"] for name in ("stopped", "spared", "wrong")] == [0, 1, 0]


def interrupt_as_soon_as_tune_listens() -> None:
    """While Ray makes the first worker, which takes seconds."""
    while not callable(signal.getsignal(signal.SIGUSR1)):
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGUSR1)


@pytest.mark.ray
def test_search_that_is_interrupted_before_a_trial_began_is_interrupted_and_no_error(
    ray_local: None, face_table: FaceTable, tmp_path: Path
) -> None:
    threading.Thread(target=interrupt_as_soon_as_tune_listens, daemon=True).start()

    outcome = run_search(SPACE, data=face_table.path, storage=tmp_path, name="cut", plan=SearchPlan(n_trials=1))

    assert (outcome.interrupted, outcome.folder.read_manifest().status) == (True, "interrupted")


@pytest.mark.ray
def test_search_is_refused_when_its_name_is_taken(small_search: Small, face_table: FaceTable) -> None:
    folder = small_search[0].folder

    with pytest.raises(SearchError, match="search 'mini' is there already"):
        run_search(SPACE, data=face_table.path, storage=folder.path.parent, name="mini")


@pytest.mark.ray
def test_search_leaves_nothing_when_there_is_no_gpu(ray_local: None, face_table: FaceTable, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="gpus-per-trial must be at most what the cluster has"):
        run_search(SPACE, data=face_table.path, storage=tmp_path, name="x", plan=SearchPlan(gpus_per_trial=64))

    assert not (tmp_path / "x").exists()


def test_search_leaves_nothing_when_the_tracking_server_is_away(face_table: FaceTable, tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="connection refused"):
        run_search(SPACE, data=face_table.path, storage=tmp_path / "s", name="x", tracking_uri="http://127.0.0.1:9")

    assert not (tmp_path / "s").exists()


def test_search_is_refused_when_its_name_is_a_path(face_table: FaceTable, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="got 'a/b'"):
        run_search(SPACE, data=face_table.path, storage=tmp_path, name="a/b")


def test_search_is_refused_when_there_are_heads_of_its_name(face_table: FaceTable, tmp_path: Path) -> None:
    (tmp_path / "quick-heads").mkdir()
    (tmp_path / "quick-heads" / "search.json").touch()

    with pytest.raises(
        SearchError, match=r"search 'quick-heads', which --first would begin, is there already: .*heads"
    ):
        run_search(MIXED, data=face_table.path, storage=tmp_path, name="quick", plan=SearchPlan(first="heads:8"))

    assert not (tmp_path / "quick").exists()


def test_search_is_refused_when_its_heads_would_have_too_long_a_name(face_table: FaceTable, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="name must have at most 58 characters with --first, got 59: 'xxx"):
        run_search(MIXED, data=face_table.path, storage=tmp_path, name="x" * 59, plan=SearchPlan(first="heads:8"))

    assert list(tmp_path.iterdir()) == []


def test_search_is_refused_when_there_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="face table must be"):
        run_search(SPACE, data=tmp_path / "none", storage=tmp_path, name="x")


@pytest.mark.parametrize("data", ["ftp://faces/toy", "s3://me:hush@faces/toy"])
def test_search_leaves_nothing_when_its_uri_makes_no_sense(data: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="face table must"):
        run_search(SPACE, data=data, storage=tmp_path / "s", name="x")

    assert not (tmp_path / "s").exists()


@pytest.mark.ray
def test_search_on_a_uri_is_resumed_by_it(
    small_search: Small, face_table: FaceTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFFECTUNE_TABLES", str(tmp_path / "copies"))
    space = SPACE.fix({"model.backbone": "test_efficientnet", "model.weights": "none", "train.epochs": 1})
    uri, tracking = f"file://{face_table.path}", small_search[0].folder.read_manifest().tracking_uri

    run_search(space, data=uri, storage=tmp_path, name="far", tracking_uri=tracking, plan=SearchPlan(n_trials=1))
    outcome = resume_search(tmp_path, "far")

    assert [record.end for record in outcome.folder.read_records()] == ["completed"]
    assert outcome.folder.read_manifest().data == uri
    assert [copy.name for copy in (tmp_path / "copies").iterdir()] == [face_table.info.content_hash]


def test_sentence_groups_the_errors_when_every_trial_failed(tmp_path: Path) -> None:
    records = [record("failed", "disk is full"), record("failed", "disk is full"), record("failed", "other")]

    assert _why_nothing(records, SearchFolder(tmp_path)).startswith(
        "no trial could be scored, 3 failed, 2 of them with: disk is full"
    )


def test_sentence_counts_when_every_trial_diverged(tmp_path: Path) -> None:
    assert "2 diverged" in _why_nothing([record("diverged"), record("diverged")], SearchFolder(tmp_path))


def test_sentence_asks_for_time_when_no_trial_began(tmp_path: Path) -> None:
    assert _why_nothing([], SearchFolder(tmp_path)).endswith("give it more time")


def test_signals_are_as_before_when_the_search_is_over() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = [signal.getsignal(number) for number in numbers]

    with gentle_signals():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, lambda *_: None)

    assert [signal.getsignal(number) for number in numbers] == before


def test_polite_kill_is_passed_to_tune_when_it_listens() -> None:
    heard = []

    with gentle_signals():
        signal.signal(signal.SIGUSR1, lambda *_: heard.append("stop"))
        os.kill(os.getpid(), signal.SIGTERM)

    assert heard == ["stop"]


def test_polite_kill_interrupts_when_tune_does_not_listen_yet() -> None:
    with gentle_signals(), pytest.raises(KeyboardInterrupt):
        _as_interrupt(signal.SIGTERM, None)


def test_threads_of_a_trial_are_its_whole_cores() -> None:
    assert Resources(cpus=0.5, gpus=0, max_concurrent=4).n_threads == 1
    assert Resources(cpus=3, gpus=0, max_concurrent=1).n_threads == 3
