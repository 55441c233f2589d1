"""The final job on a small search: bags, members, the comparison, and what a second one does to the first."""

import json
import shutil
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from search.candidates import trial_candidates
from search.final import build_ensemble
from search.folder import SearchFolder, SearchManifest
from search.plan import EnsemblePlan
from search.report.facts import read_facts
from search.report.page import render_report
from search.tracking import Tracker
from spaces.errors import DataError, SearchError
from trainables.data.synth import write_synth_table
from trainables.data.table import FaceTable
from trainables.scores import SCORES_FILE, load_scores, save_scores

Small = tuple[SearchFolder, dict[str, Any]]


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
def test_report_begins_with_what_to_expect_of_the_ensemble(small_ensemble: Small) -> None:
    folder, summary = small_ensemble

    page = render_report(read_facts(folder))

    estimate = summary["scores"]["ensemble"]["estimate"]
    assert page.index(f"Expect a macro-F1 of {estimate:.3f}") < page.index("The best of ")
    assert all(f'id="{name}-says"' in page for name in ("estimates", "members", "ensemble-confusion"))
    assert all(member["member"] in page for member in summary["members"])


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

    paths = [network["path"] for voter in folder.read_ensemble()["voters"].values() for network in voter["networks"]]

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
    page = next(run for run in runs if run.info.run_id == summary["parent_run_id"]).data.tags["mlflow.note.content"]
    parts = ["[All trials, best first](", "**ended**", "Chosen from the 5 trials", "| trial | macro-F1 |"]
    assert sorted(page.index(part) for part in parts) == [page.index(part) for part in parts]


@pytest.mark.ray
def test_stored_scores_are_those_of_the_networks_that_vote(small_ensemble: Small, face_table: FaceTable) -> None:
    folder, _ = small_ensemble

    for candidate in trial_candidates(folder, folder.read_records()):
        again = candidate.probs_on(face_table.split("valid").images)

        np.testing.assert_allclose(again, candidate.scores.probs, atol=1e-4)


@pytest.mark.ray
def test_every_score_that_chose_has_its_optimism_beside_it(small_ensemble: Small) -> None:
    folder, summary = small_ensemble

    for row in [*summary["scores"].values(), *folder.read_ensemble()["methods"]]:
        assert row["optimism"] == pytest.approx(row["valid"] - row["estimate"])


@pytest.mark.ray
def test_ensemble_is_the_one_of_the_method_that_was_taken(small_ensemble: Small) -> None:
    folder, summary = small_ensemble

    taken = [method for method in folder.read_ensemble()["methods"] if method["chosen"]]

    assert [method["method"] for method in taken] == [summary["method"]]
    assert taken[0]["estimate"] == pytest.approx(summary["scores"]["ensemble"]["estimate"])


@pytest.mark.ray
def test_differences_are_against_rows_that_are_another_vote(small_ensemble: Small) -> None:
    differences = small_ensemble[1]["differences"]

    assert set(differences) <= {"default", "best_trial", "uniform"}
    assert all(found["low"] <= found["difference"] <= found["high"] for found in differences.values())


@pytest.mark.ray
def test_options_end_with_the_ensemble_that_was_chosen(small_ensemble: Small) -> None:
    folder, summary = small_ensemble

    chosen = [option for option in folder.read_ensemble()["options"] if option["is_chosen"]]

    assert [option["members"] for option in chosen] == [{m["member"]: m["weight"] for m in summary["members"]}]
    assert chosen[0]["ms"] > 0 and chosen[0]["megabytes"] > 0


@pytest.fixture
def moved(small_ensemble: Small, tmp_path: Path) -> SearchFolder:
    """A copy of the search in another place."""
    shutil.copytree(small_ensemble[0].path, tmp_path / "storage" / "mini", ignore=shutil.ignore_patterns("lock"))
    return SearchFolder(tmp_path / "storage" / "mini")


@pytest.mark.ray
def test_candidate_with_broken_scores_is_left_out_by_name(moved: SearchFolder) -> None:
    file = moved.trial_dir("t0001") / SCORES_FILE
    scores = load_scores(file)
    scores.logits[3, 0] = np.nan
    save_scores(file, scores)

    summary = build_ensemble(moved, EnsemblePlan(n_bags=0))

    assert any(note.startswith("t0001 left out: its scores must be finite, got 1 of 96") for note in summary["notes"])
    assert "t0001" not in moved.read_ensemble()["candidates"]


@pytest.mark.ray
def test_trial_whose_scores_are_torn_is_left_out_by_name(moved: SearchFolder) -> None:
    file = moved.trial_dir("t0001") / SCORES_FILE
    file.write_bytes(file.read_bytes()[:100])

    summary = build_ensemble(moved, EnsemblePlan(n_bags=0))

    assert "t0001 left out: its scores or settings can't be read" in summary["notes"]


@pytest.mark.ray
def test_runs_that_a_killed_job_left_open_are_closed(moved: SearchFolder) -> None:
    uri = moved.read_manifest().tracking_uri
    tracker = Tracker(uri, moved.name, moved.tracking_dir)
    for name in ("b000", "b007", "ensemble-2"):
        key = f"{tracker.launch_key}/{name}"
        tracker.start_run(key, parent_key=tracker.launch_key or "", name=name)
    tracker.close(timeout_s=0)

    build_ensemble(moved, EnsemblePlan(n_bags=0))

    after = Tracker(uri, moved.name, moved.tracking_dir)
    after.close(timeout_s=0)
    assert after.unfinished() == []
    ends = [json.loads(line) for line in (moved.tracking_dir / "operations.jsonl").read_text().splitlines()]
    last = {line["key"].rpartition("/")[2]: line["status"] for line in ends if line["op"] == "end"}
    assert (last["b000"], last["b007"], last["ensemble-2"]) == ("FINISHED", "KILLED", "KILLED")


@pytest.mark.ray
@pytest.mark.parametrize("objective", ["own", "worst"])
def test_ensemble_is_scored_on_faces_of_another_kind(
    moved: SearchFolder, tmp_path: Path, objective: Literal["own", "mean", "worst"]
) -> None:
    other = write_synth_table(tmp_path / "other", n_train=60, n_valid=24, n_test=24, image_px=48, seed=3)

    summary = build_ensemble(moved, EnsemblePlan(n_bags=0, also=str(other.path), objective=objective))

    others = summary["others"]
    assert (others["n"], others["is_joined"]) == (84, objective != "own")
    assert {"default", "best_trial", "ensemble"} <= set(others["scores"])
    assert others["differences"]["best_trial"]["low"] <= others["differences"]["best_trial"]["high"]


@pytest.mark.ray
def test_ensemble_is_refused_when_the_other_faces_are_its_own(moved: SearchFolder, face_table: FaceTable) -> None:
    with pytest.raises(DataError, match="--also must have other faces than the search, got its own table"):
        build_ensemble(moved, EnsemblePlan(n_bags=0, also=str(face_table.path)))


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
