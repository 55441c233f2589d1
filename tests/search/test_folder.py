"""The folder of a search: what is written is read back; what is missing, taken or broken is said in a sentence."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from search.folder import SearchFolder, SearchManifest, TrialRecord
from search.storage import create_folder, open_folder
from spaces.errors import SearchError

MANIFEST = SearchManifest(
    name="first", data="/faces", content_hash="abc", classes=("anger", "fear"), seed=3, n_trials=5, time_budget_s=None,
    tracking_uri="sqlite:////mlflow.db",
)  # fmt: skip


def report(epoch: int, *, best: float = 0.4, end: str = "") -> dict[str, object]:
    return {"epoch": epoch, "best/macro_f1": best, "best/epoch": epoch, "time/epoch_s": 2.0, "end": end}


def make_search(storage: Path, name: str) -> SearchFolder:
    folder = create_folder(storage, name)
    folder.write_manifest(MANIFEST)
    return folder


def test_manifest_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    make_search(tmp_path, "first")

    assert open_folder(tmp_path, "first").read_manifest() == MANIFEST


def test_manifest_keeps_what_is_not_changed(tmp_path: Path) -> None:
    folder = make_search(tmp_path, "first")

    folder.update_manifest(status="ended")

    assert folder.read_manifest().status == "ended"
    assert folder.read_manifest().seed == 3


def test_manifest_is_named_when_it_is_broken(tmp_path: Path) -> None:
    folder = make_search(tmp_path, "first")
    (folder.path / "search.json").write_text("{")

    with pytest.raises(SearchError, match=r"search\.json must be JSON"):
        folder.read_manifest()


def test_time_of_a_launch_that_was_killed_with_its_heads_counts(tmp_path: Path) -> None:
    folder = SearchFolder(tmp_path / "first")
    folder.heads.write_record(TrialRecord("t0000", 0, values={}, config={}))
    last_s = (folder.heads.trial_dir("t0000") / "trial.json").stat().st_mtime

    folder.write_manifest(replace(MANIFEST, launched_s=last_s - 50.0, plan={"first": "heads:8"}))
    with_heads_s = folder.spent_s()
    folder.update_manifest(plan={"first": ""})

    assert with_heads_s == pytest.approx(50.0)
    assert folder.spent_s() == 0.0  # a search of that name that is none of its own


def test_records_come_back_in_their_order(tmp_path: Path) -> None:
    folder = SearchFolder(tmp_path)
    for number in (2, 0, 1):
        folder.write_record(TrialRecord(f"t{number:04d}", number, values={}, config={"loss.class_weights": None}))

    assert [record.number for record in folder.read_records()] == [0, 1, 2]


def test_record_is_named_when_it_is_broken(tmp_path: Path) -> None:
    folder = SearchFolder(tmp_path)
    folder.write_record(TrialRecord("t0000", 0, values={}, config={}))
    (folder.trial_dir("t0000") / "trial.json").write_text('{"trial_id": ')

    with pytest.raises(SearchError, match=r"trial\.json must be JSON.*t0000"):
        folder.read_records()


def test_record_replaces_an_epoch_that_was_run_again() -> None:
    record = TrialRecord("t0000", 0, values={}, config={})

    for epoch in (1, 2, 3, 2):
        record.add_epoch(report(epoch))

    assert [old["epoch"] for old in record.history] == [1, 2]
    assert (record.epochs, record.wall_s) == (2, 4.0)


def test_record_has_no_score_when_the_trial_diverged_at_once() -> None:
    record = TrialRecord("t0000", 0, values={}, config={})

    record.add_epoch(report(1, best=0.0, end="diverged"))

    assert record.best_macro_f1 is None


def test_record_keeps_numbers_alone() -> None:
    record = TrialRecord("t0000", 0, values={}, config={})

    record.add_epoch({**report(1), "note": "word", "flag": True})

    assert set(record.history[0]) == {"epoch", "best/macro_f1", "best/epoch", "time/epoch_s"}


def test_ensemble_is_asked_for_when_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(SearchError, match="run `affectune ensemble first` first"):
        make_search(tmp_path, "first").read_ensemble()


def test_summary_is_empty_when_there_is_none(tmp_path: Path) -> None:
    folder = make_search(tmp_path, "first")
    assert folder.read_summary() == {}

    path = folder.write_summary({"search": "first"})

    assert json.loads(path.read_text()) == folder.read_summary() == {"search": "first"}


def test_record_is_refused_in_the_folder_of_another_trial(tmp_path: Path) -> None:
    folder = SearchFolder(tmp_path)
    folder.write_record(TrialRecord("t0001", 1, values={}, config={}))
    (tmp_path / "trials" / "t0001").rename(tmp_path / "trials" / "t0002")

    with pytest.raises(SearchError, match=r"must be of the trial in whose folder it stands, got 't0001' with number 1"):
        folder.read_records()


@pytest.mark.parametrize(
    ("change", "got"),
    [
        ({"end": "tired"}, "got end 'tired'"),
        ({"history": [{"epoch": 1, "best/macro_f1": "good"}]}, "epochs of trial.json must be numbers"),
        ({"colour": "blue"}, "got 'colour' too: .*; update affectune"),
    ],
    ids=["end", "history", "newer version"],
)
def test_record_of_another_make_is_refused(change: dict[str, Any], got: str, tmp_path: Path) -> None:
    folder = SearchFolder(tmp_path)
    folder.write_record(TrialRecord("t0000", 0, values={}, config={}))
    file = folder.trial_dir("t0000") / "trial.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))

    with pytest.raises(SearchError, match=got):
        folder.read_records()


def test_summary_and_ensemble_that_are_torn_are_named(tmp_path: Path) -> None:
    folder = make_search(tmp_path, "first")
    folder.write_ensemble({})
    for name in ("summary.json", "ensemble/ensemble.json"):
        (folder.path / name).write_text("{")

    with pytest.raises(SearchError, match=r"^summary\.json must be JSON, got something else: "):
        folder.read_summary()
    with pytest.raises(SearchError, match=r"^ensemble\.json must be JSON, got something else: "):
        folder.read_ensemble()
