"""The final job on a small search: bags, members, the comparison, and what a second one does to the first."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from search.bags import _note_epoch, bag_order
from search.candidates import Candidate, trial_candidates
from search.cluster import Resources
from search.console import SearchConsole
from search.final import best_trial, build_ensemble, select_members
from search.folder import SearchFolder, SearchManifest, TrialRecord
from search.plan import EnsemblePlan
from search.tracking import Tracker
from spaces.config import TrialConfig
from spaces.errors import EnsembleError, SearchError
from trainables.data.table import FaceTable
from trainables.scores import Scores

Small = tuple[SearchFolder, dict[str, Any]]


def bag_settings(table: FaceTable, folder: Path, *, ratio: float, number: int) -> dict[str, Any]:
    config = TrialConfig().with_settings({"data.subsample_ratio": ratio}).to_flat()
    record = TrialRecord("t0001", 1, values={}, config=config)
    resources = Resources(cpus=1, gpus=0, max_concurrent=1)
    order = bag_order(
        record, number=number, folder=SearchFolder(folder), table=table, resources=resources, deadline_s=None, seed=0
    )
    return order.settings


def test_epoch_that_a_bag_runs_again_is_recorded_once(tmp_path: Path) -> None:
    tracker = Tracker("http://127.0.0.1:9", "bags", tmp_path, on_trouble=lambda _: None)
    search = tracker.start_search(name="launch")
    tracker.start_run(f"{search}/b000", parent_key=search, name="b000")
    screen = SearchConsole(default={}, noun="bag", n_trials=1, time_budget_s=None, console=Console(quiet=True))
    screen.trial_started(TrialRecord("b000", 0, values={}, config={}))

    for epoch in (1, 2, 2, 3):  # it lost its worker between the second epoch and its checkpoint
        _note_epoch("b000", {"epoch": epoch, "valid/macro_f1": 0.1 * epoch, "end": ""}, screen=screen, tracker=tracker)

    tracker.close(timeout_s=0)
    lines = map(json.loads, (tmp_path / "operations.jsonl").read_text().splitlines())
    assert [line["step"] for line in lines if line["op"] == "metrics"] == [1, 2, 3]


@pytest.mark.ray
def test_summary_is_what_the_design_says(small_ensemble: Small) -> None:
    folder, summary = small_ensemble
    manifest = folder.read_manifest()

    ends = {end: summary[end] for end in ("completed", "stopped", "diverged", "failed", "preempted")}

    assert (summary["search"], summary["n_trials"], summary["artifact"]) == ("mini", 5, None)
    assert ends == {"completed": 2, "stopped": 1, "diverged": 1, "failed": 1, "preempted": 0}
    assert summary["stopping"] == {"stopped": 1, "spared": 0, "wrong": 0}
    assert summary["tracking_uri"] == manifest.tracking_uri
    assert summary["experiment_id"] == manifest.experiment_id
    assert summary["parent_run_id"] == manifest.parent_run_id
    assert summary["wall_s"] > manifest.wall_s - 0.1
    assert json.loads((folder.path / "summary.json").read_text())["scores"] == summary["scores"]


@pytest.mark.ray
def test_summary_compares_four_ways(small_ensemble: Small) -> None:
    scores = small_ensemble[1]["scores"]

    assert list(scores) == ["default", "best_trial", "uniform", "ensemble"]
    for row in scores.values():
        assert 0 <= row["estimate_interval"][0] <= row["estimate_interval"][1] <= 1
        assert all(0 <= row[name] <= 1 for name in ("valid", "estimate", "test"))


@pytest.mark.ray
def test_ensemble_is_no_worse_than_the_best_trial_where_it_was_chosen(small_ensemble: Small) -> None:
    scores = small_ensemble[1]["scores"]

    assert scores["ensemble"]["valid"] >= scores["best_trial"]["valid"] - 1e-9


@pytest.mark.ray
def test_members_are_few_and_their_weights_a_whole(small_ensemble: Small) -> None:
    folder, summary = small_ensemble

    weights = [member["weight"] for member in summary["members"]]

    assert 1 <= len(weights) <= 3
    assert sum(weights) == pytest.approx(1)
    assert weights == sorted(weights, reverse=True)
    assert {"t0002", "t0003"}.isdisjoint(folder.read_ensemble()["candidates"])


@pytest.mark.ray
def test_networks_of_members_can_move_with_the_folder(small_ensemble: Small) -> None:
    folder, _ = small_ensemble

    paths = [network["path"] for member in folder.read_ensemble()["members"] for network in member["networks"]]

    own = [path for path in paths if "constant" not in path]
    assert own and not any(Path(path).is_absolute() for path in own)
    assert all((folder.path / path).is_file() for path in paths)


@pytest.mark.ray
def test_mlflow_has_runs_of_bags_and_ensemble(small_ensemble: Small) -> None:
    from mlflow import MlflowClient

    folder, summary = small_ensemble
    runs = MlflowClient(summary["tracking_uri"]).search_runs([summary["experiment_id"]])
    by_kind = {run.data.tags["affectune.kind"]: run for run in runs}

    bag, ensemble = by_kind["bag"], by_kind["ensemble"]
    assert bag.data.tags["mlflow.parentRunId"] == ensemble.data.tags["mlflow.parentRunId"] == summary["parent_run_id"]
    assert bag.data.tags["affectune.config_of"] in {"t0000", "t0001", "t0004"}
    assert {"train/loss", "valid/macro_f1", "best/macro_f1"} <= set(bag.data.metrics)
    assert ensemble.data.metrics["ensemble/test_macro_f1"] == pytest.approx(summary["scores"]["ensemble"]["test"])
    assert ensemble.info.status == bag.info.status == "FINISHED"
    assert folder.read_ensemble()["run_key"] == "search/ensemble"


@pytest.mark.ray
def test_stored_scores_are_those_of_the_networks_that_vote(small_ensemble: Small, face_table: FaceTable) -> None:
    folder, _ = small_ensemble

    for candidate in trial_candidates(folder, folder.read_records()):
        again = candidate.probs_on(face_table.split("valid"))

        np.testing.assert_allclose(again, candidate.scores.probs, atol=1e-4)


def test_bag_of_a_config_on_all_faces_sees_a_part(face_table: FaceTable, tmp_path: Path) -> None:
    assert bag_settings(face_table, tmp_path, ratio=1.0, number=0)["data.subsample_ratio"] == 0.8
    assert bag_settings(face_table, tmp_path, ratio=0.2, number=0)["data.subsample_ratio"] == 0.2


def test_bags_of_one_config_have_different_seeds(face_table: FaceTable, tmp_path: Path) -> None:
    seeds = [bag_settings(face_table, tmp_path, ratio=1.0, number=i)["train.seed"] for i in range(4)]

    assert len(set(seeds)) == 4


def test_members_are_refused_when_there_is_no_candidate() -> None:
    with pytest.raises(EnsembleError, match="got none"):
        select_members([], max_members=3, seed=0)


def candidate(key: str, *, n_right: int) -> Candidate:
    """One whose stored scores are right on so many of four faces."""
    logits = np.array([[0, 1] if row < n_right else [1, 0] for row in range(4)], np.float32)
    labels = np.ones(4, np.int8)
    scores = Scores(("a", "b", "c", "d"), (None,) * 4, labels=labels, logits=logits, classes=("fear", "joy"))
    return Candidate(key, Path(key), config={}, scores=scores, is_complete=True)


def test_best_trial_is_the_one_with_the_best_stored_scores() -> None:
    candidates = [candidate("t0000", n_right=2), candidate("t0003", n_right=3), candidate("t0004", n_right=3)]

    assert best_trial([*candidates, candidate("b000", n_right=4)]) == "t0003"
    assert best_trial([candidate("b000", n_right=4)]) == ""


def searched(folder: Path, table: FaceTable, *, content_hash: str) -> SearchFolder:
    manifest = SearchManifest(
        name="s", data=str(table.path), content_hash=content_hash, classes=tuple(table.info.classes), seed=0,
        n_trials=1, time_budget_s=None, tracking_uri=f"sqlite:///{folder}/mlflow.db",
    )  # fmt: skip
    found = SearchFolder(folder / "s")
    found.write_manifest(manifest)
    return found


def test_ensemble_is_refused_when_no_trial_was_scored(face_table: FaceTable, tmp_path: Path) -> None:
    folder = searched(tmp_path, face_table, content_hash=face_table.info.content_hash)

    with pytest.raises(SearchError, match="search must have a scored trial, got 0"):
        build_ensemble(folder, EnsemblePlan(n_bags=0))


def test_ensemble_is_refused_when_the_faces_have_changed(face_table: FaceTable, tmp_path: Path) -> None:
    folder = searched(tmp_path, face_table, content_hash="0123456789abcdef")

    with pytest.raises(SearchError, match="got " + face_table.info.content_hash[:12]):
        build_ensemble(folder, EnsemblePlan(n_bags=0))
