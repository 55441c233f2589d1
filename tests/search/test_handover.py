"""From a search's ensemble to its artifact, and a second ensemble after the first."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from search.evaluate import evaluate_table
from search.final import build_ensemble
from search.folder import SearchFolder
from search.handover import ExportOrder, export_search
from search.options import Limits
from search.plan import EnsemblePlan
from spaces.errors import EnsembleError, OutputError, SearchError
from trainables.data.table import FaceTable

pytestmark = pytest.mark.ray
Small = tuple[SearchFolder, dict[str, Any]]


@pytest.fixture(scope="module")
def model(small_ensemble: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    exported = export_search(small_ensemble[0], tmp_path_factory.mktemp("export") / "model")
    assert exported.registration is None
    return exported.path


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
    second = export_search(small_ensemble[0], tmp_path / "again").path

    assert (second / "MLmodel").is_file() and (model / "MLmodel").is_file()
    assert small_ensemble[0].read_summary()["artifact"] == str(second)


def test_export_works_from_a_search_that_was_moved(moved: SearchFolder, tmp_path: Path) -> None:
    exported = export_search(moved, tmp_path / "model")

    assert (exported.path / "MLmodel").is_file()


def test_export_names_the_member_whose_weights_are_gone(moved: SearchFolder, tmp_path: Path) -> None:
    ensemble = moved.read_ensemble()
    member = ensemble["members"][0]["member"]
    (moved.path / ensemble["voters"][member]["networks"][0]["path"]).unlink()

    with pytest.raises(SearchError, match=f"weights of member {member} are gone"):
        export_search(moved, tmp_path / "model")

    assert not (tmp_path / "model").exists()


def test_second_ensemble_takes_the_place_of_the_first(moved: SearchFolder) -> None:
    summary = build_ensemble(moved, EnsemblePlan(n_bags=0, max_members=1))

    assert [member["weight"] for member in summary["members"]] == [1.0]
    assert summary["artifact"] is None
    assert summary["n_test_reads"] == 2
    assert not [member for member in summary["members"] if member["member"].startswith("b")]
    assert moved.read_ensemble()["run_key"] == "search/ensemble-2"


def test_first_ensemble_stays_whole_when_the_second_fails(
    moved: SearchFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("search.bags.train_bags", interrupted)
    before = json.loads((moved.path / "ensemble" / "ensemble.json").read_text())
    with pytest.raises(KeyboardInterrupt):
        build_ensemble(moved, EnsemblePlan(n_bags=2))

    assert moved.read_ensemble() == before
    assert (export_search(moved, tmp_path / "model").path / "MLmodel").is_file()


def test_card_tells_what_to_expect_by_class_and_where_it_comes_from(model: Path) -> None:
    card = (model / "MODEL_CARD.md").read_text()

    for heading in ("## Members", "## By class", "## Calibration", "## Where it comes from"):
        assert heading in card
    assert "licence of the faces: not told" in card
    assert sorted(file.name for file in (model / "pictures").iterdir()) == [
        "blending.png", "calibration.png", "confusion.png", "options.png",
    ]  # fmt: skip


def test_artifact_remembers_estimate_and_data(model: Path, small_ensemble: Small, face_table: FaceTable) -> None:
    members = json.loads((model / "artifacts" / "ensemble" / "members.json").read_text())

    assert members["provenance"]["data_hash"] == face_table.info.content_hash
    assert members["provenance"]["estimate"]["score"] == small_ensemble[1]["scores"]["ensemble"]["estimate"]
    assert members["temperature"] == small_ensemble[0].read_ensemble()["temperature"]


def test_export_keeps_within_limits(small_ensemble: Small, tmp_path: Path) -> None:
    order = ExportOrder(limits=Limits(members=1))

    exported = export_search(small_ensemble[0], tmp_path / "model", order)

    assert len(exported.option.members) == 1


def test_export_says_the_cheapest_when_nothing_keeps_within_limits(small_ensemble: Small, tmp_path: Path) -> None:
    order = ExportOrder(limits=Limits(ms=1e-6))

    with pytest.raises(EnsembleError, match=r"must keep within at most 1e-06 ms an image, got none: .*; the quickest"):
        export_search(small_ensemble[0], tmp_path / "model", order)

    assert not (tmp_path / "model").exists()


def test_export_is_registered_and_the_first_is_the_champion(moved: SearchFolder, tmp_path: Path) -> None:
    exported = export_search(moved, tmp_path / "model", ExportOrder(register="faces-of-a-test"))

    assert exported.registration is not None and exported.registration.is_champion


def test_ensemble_of_an_earlier_version_is_refused(moved: SearchFolder, tmp_path: Path) -> None:
    ensemble = moved.read_ensemble()
    del ensemble["voters"]
    moved.write_ensemble(ensemble)

    with pytest.raises(SearchError, match=r"got an earlier one's: .*; run `affectune ensemble mini`"):
        export_search(moved, tmp_path / "model")
