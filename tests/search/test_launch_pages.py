"""What MLflow's pages of a search's trials have."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from search.folder import SearchFolder
from search.launch_pages import WEIGHTS_TAG
from trainables.scores import SCORES_FILE

if TYPE_CHECKING:
    from search.follow import SearchOutcome

Small = tuple["SearchOutcome", str]


@pytest.fixture(scope="module")
def client(small_search: Small) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(small_search[0].folder.read_manifest().tracking_uri)


@pytest.fixture(scope="module")
def runs(small_search: Small, client: Any) -> dict[str, Any]:
    """Trial to its run."""
    manifest = small_search[0].folder.read_manifest()
    found = client.search_runs([manifest.experiment_id], "tags.`affectune.kind` = 'trial'")
    keys = {run.data.tags["affectune.key"]: run for run in found}
    return {key: run for key, run in keys.items() if "/" not in key}  # other tests play with bags of this search


def folder_of(small_search: Small) -> SearchFolder:
    return small_search[0].folder


@pytest.mark.ray
def test_every_scored_trial_has_its_pictures(small_search: Small, client: Any, runs: dict[str, Any]) -> None:
    scored = [
        r.trial_id
        for r in small_search[0].records
        if (folder_of(small_search).trial_dir(r.trial_id) / SCORES_FILE).exists()
    ]
    for trial_id in scored:
        names = {Path(file.path).name for file in client.list_artifacts(runs[trial_id].info.run_id, "pictures")}
        assert {"confusion.png", "f1_by_class.png", "most_wrong.jpg"} <= names, trial_id
    assert scored


@pytest.mark.ray
def test_every_trial_says_which_faces_it_worked_on(small_search: Small, runs: dict[str, Any]) -> None:
    manifest = folder_of(small_search).read_manifest()

    assert runs
    for run in runs.values():
        (told,) = run.inputs.dataset_inputs
        assert manifest.content_hash.startswith(told.dataset.digest)


@pytest.mark.ray
def test_trial_whose_weights_are_kept_says_where(small_search: Small, runs: dict[str, Any]) -> None:
    kept = {trial_id: run.data.tags[WEIGHTS_TAG] for trial_id, run in runs.items() if WEIGHTS_TAG in run.data.tags}

    assert "t0000" in kept
    assert all(Path(place).is_file() for place in kept.values())
