"""From a search's ensemble to its artifact, and a second ensemble after the first."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from search.evaluate import evaluate_table
from search.final import build_ensemble
from search.folder import SearchFolder
from search.handover import export_search
from search.plan import EnsemblePlan
from spaces.errors import OutputError, SearchError
from trainables.data.table import FaceTable

pytestmark = pytest.mark.ray
Small = tuple[SearchFolder, dict[str, Any]]


@pytest.fixture(scope="module")
def model(small_ensemble: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, version = export_search(small_ensemble[0], tmp_path_factory.mktemp("export") / "model")
    assert version is None
    return path


@pytest.fixture
def moved(small_ensemble: Small, tmp_path: Path) -> SearchFolder:
    """A copy of the search in another place."""
    shutil.copytree(small_ensemble[0].path, tmp_path / "storage" / "mini", ignore=shutil.ignore_patterns("lock"))
    return SearchFolder(tmp_path / "storage" / "mini")


def test_artifact_scores_as_the_summary_says(model: Path, small_ensemble: Small, face_table: FaceTable) -> None:
    evaluation = evaluate_table(model, face_table)

    assert evaluation.macro_f1 == pytest.approx(small_ensemble[1]["scores"]["ensemble"]["test"], abs=1e-6)


def test_artifact_is_named_in_the_summary(model: Path, small_ensemble: Small) -> None:
    assert small_ensemble[0].read_summary()["artifact"] == str(model)


def test_card_says_what_was_chosen_from(model: Path) -> None:
    card = (model / "MODEL_CARD.md").read_text()

    assert "mini" in card and "diverged" in card


def test_export_is_refused_when_the_folder_holds_something(model: Path, small_ensemble: Small) -> None:
    with pytest.raises(OutputError, match="must be new or empty"):
        export_search(small_ensemble[0], model)


def test_export_works_again_into_another_folder(model: Path, small_ensemble: Small, tmp_path: Path) -> None:
    second, _ = export_search(small_ensemble[0], tmp_path / "again")

    assert (second / "MLmodel").is_file() and (model / "MLmodel").is_file()
    assert small_ensemble[0].read_summary()["artifact"] == str(second)


def test_export_works_from_a_search_that_was_moved(moved: SearchFolder, tmp_path: Path) -> None:
    path, _ = export_search(moved, tmp_path / "model")

    assert (path / "MLmodel").is_file()


def test_export_names_the_member_whose_weights_are_gone(moved: SearchFolder, tmp_path: Path) -> None:
    member = moved.read_ensemble()["members"][0]
    (moved.path / member["networks"][0]["path"]).unlink()

    with pytest.raises(SearchError, match=f"weights of member {member['member']} are gone"):
        export_search(moved, tmp_path / "model")

    assert not (tmp_path / "model").exists()


def test_second_ensemble_takes_the_place_of_the_first(moved: SearchFolder) -> None:
    summary = build_ensemble(moved, EnsemblePlan(n_bags=0, max_members=1))

    assert [member["weight"] for member in summary["members"]] == [1.0]
    assert summary["artifact"] is None
    assert summary["n_test_reads"] == 2
    assert not list(moved.ensemble_dir.glob("b*"))
    assert moved.read_ensemble()["run_key"] == "search/ensemble-2"


def test_first_ensemble_stays_whole_when_the_second_fails(
    moved: SearchFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("search.final.train_bags", interrupted)
    before = json.loads((moved.path / "ensemble" / "ensemble.json").read_text())
    with pytest.raises(KeyboardInterrupt):
        build_ensemble(moved, EnsemblePlan(n_bags=2))

    assert moved.read_ensemble() == before
    assert (export_search(moved, tmp_path / "model")[0] / "MLmodel").is_file()
