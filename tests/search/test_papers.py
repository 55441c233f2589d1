"""Each paper's preset from its first trial to the sealed test: on few and small faces, with small networks."""

import json
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest

if TYPE_CHECKING:
    from search.folder import SearchFolder
    from search.follow import SearchOutcome
    from trainables.data.table import FaceTable

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SMALL = {"model.image_px": 40, "data.subsample_ratio": 0.3, "train.batch_size": 16, "optimiser.lr": 1e-2}
ATTENTION = {"attention.width": 32}
HEAD_FIRST = {
    "model.backbone": "test_efficientnet",
    "train.head_epochs": 1,
    "optimiser.head_only_lr": 1e-2,
}


@dataclass(frozen=True)
class Paper:
    """How a preset is made small, and the values of settings that its first trials have, the default's first."""

    fixes: Mapping[str, Any]
    n_trials: int
    tried: Mapping[str, tuple[Any, ...]]
    n_bags: int = 0


PAPERS = {
    "paper000": Paper(
        {
            **SMALL,
            **ATTENTION,
            "model.backbone": "test_resnet",
            "branches.appearance_backbone": "test_efficientnet",
            "branches.trunk_width": 32,
            "branches.trunk_width_2": 16,
            "train.epochs": 2,
        },
        n_trials=3,
        tried={"augment.mix": ("mix_augment", "none"), "loss.landmark_weight": (10.0, 100.0)},
        n_bags=1,
    ),
    "paper001": Paper(
        {**SMALL, "model.backbone": "test_resnet", "train.epochs": 1},
        n_trials=3,
        tried={"model.encoder": ("pooled", "deviation"), "data.sampler": ("upsample", "shuffle")},
    ),
    "paper002": Paper(
        {**SMALL, **HEAD_FIRST},
        n_trials=3,
        tried={"blend.partner": ("none", "head"), "train.epochs": (6, 0)},
    ),
    "paper002-mtl": Paper(
        {**SMALL, **HEAD_FIRST, "train.epochs": 1},
        n_trials=5,
        tried={"affect.heads": ("separate", "joint"), "affect.unit_inputs": ("both", "embeddings", "logits")},
    ),
    "paper003": Paper(
        {**SMALL, "model.backbone": "test_resnet", "hand.backbone": "test_efficientnet", "train.epochs": 1},
        n_trials=4,
        tried={"hand.rule": ("fixed", "none", "tune_threshold"), "hand.exceptions": ("happiness", "none")},
    ),
    "paper004": Paper(
        {**SMALL, **ATTENTION, "model.backbone": "test_resnet", "train.epochs": 1},
        n_trials=3,
        tried={"loss.partition_form": ("log_of_mean", "mean_of_log"), "attention.fusion": ("logsoftmax_sum", "sum")},
    ),
}


@dataclass(frozen=True)
class Story:
    """A preset's search, its ensemble's summary, and the folder that it was exported to."""

    paper: Paper
    outcome: "SearchOutcome"
    summary: dict[str, Any]
    model: Path


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all papers' searches are kept: MLflow needs seconds to make its records."""
    return tmp_path_factory.mktemp("papers")


@pytest.fixture(scope="module", params=list(PAPERS))
def story(request: pytest.FixtureRequest, ray_local: None, face_table: "FaceTable", storage: Path) -> Story:
    """A preset, made small, searched, combined and exported."""
    from search.final import build_ensemble
    from search.handover import export_search
    from search.launch import run_search
    from search.plan import EnsemblePlan, SearchPlan
    from spaces.loading import load_space

    name, paper = request.param, PAPERS[request.param]
    space = load_space(name).fix(paper.fixes)
    plan = SearchPlan(n_trials=paper.n_trials, max_concurrent=1, min_rung_trials=paper.n_trials)
    with redirect_stdout(StringIO()):
        outcome = run_search(space, data=face_table.path, storage=storage, name=name, plan=plan)
        summary = build_ensemble(outcome.folder, EnsemblePlan(n_bags=paper.n_bags, n_configs=1, max_concurrent=1))
    model = export_search(outcome.folder, storage / f"{name}-model").path
    return Story(paper, outcome, summary, model)


def stored_vote(folder: "SearchFolder") -> npt.NDArray[np.float64]:
    """What the members said of the valid split when they were trained, by their weights, at the temperature."""
    from search.candidates import load_candidate
    from search.ensemble import tempered

    ensemble = folder.read_ensemble()
    total: npt.NDArray[np.float64] | float = 0.0
    for member in ensemble["members"]:
        key = member["member"]
        home = folder.trial_dir(key) if key.startswith("t") else folder.ensemble_dir / key
        candidate = load_candidate(key, home, {"blend.partner": "none", "blend.weight": 0.0}, is_complete=True)
        assert candidate is not None
        total = total + member["weight"] * candidate.scores.probs
    return tempered(np.asarray(total), ensemble["temperature"])


def numbers_in(document: Any) -> Iterator[float]:
    """Every number of a JSON document, wherever it stands."""
    if isinstance(document, dict | list):
        for part in document.values() if isinstance(document, dict) else document:
            yield from numbers_in(part)
    elif isinstance(document, int | float):
        yield float(document)


def test_every_trial_of_a_preset_is_trained_to_its_end(story: Story) -> None:
    records = story.outcome.records

    assert [(record.end, record.error) for record in records] == [("completed", "")] * story.paper.n_trials
    assert all(isfinite(number) for record in records for number in numbers_in(record.history))


def test_trials_of_a_preset_begin_with_what_its_paper_compares(story: Story) -> None:
    for setting, values in story.paper.tried.items():
        found = [record.config[setting] for record in story.outcome.records]

        assert found[0] == values[0]
        assert set(found) == set(values), setting


def test_exported_ensemble_of_a_preset_votes_as_its_members_did(story: Story, face_table: "FaceTable") -> None:
    from search.evaluate import load_ensemble

    expected = stored_vote(story.outcome.folder)

    vote = load_ensemble(story.model).predict_decoded(face_table.split("valid").images)

    np.testing.assert_allclose(vote, expected, atol=1e-5)
    assert np.ptp(expected, axis=0).max() > 0.01  # of answers that are all alike, nothing would be seen


def test_exported_ensemble_of_a_preset_is_judged_as_its_summary_says(story: Story, face_table: "FaceTable") -> None:
    from search.evaluate import evaluate_table

    evaluation = evaluate_table(story.model, face_table)

    document = json.loads(json.dumps(evaluation.to_document(), allow_nan=False))
    assert document["n"] == face_table.info.rows["test"]
    assert document["macro_f1"] == pytest.approx(story.summary["scores"]["ensemble"]["test"])
    assert all(isfinite(number) for number in numbers_in(story.summary["scores"]))
