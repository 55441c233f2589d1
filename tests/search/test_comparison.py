"""The four rows of the comparison, on scores made by hand."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from search.candidates import Candidate, load_candidate, stack_probs
from search.comparison import compare
from search.final import select_members
from spaces.config import TrialConfig
from spaces.errors import EnsembleError
from trainables.metrics import macro_f1
from trainables.scores import Scores, save_scores

CLASSES = ("anger", "fear", "happiness")
LABELS = np.arange(90, dtype=np.int8) % 3
SUBJECTS = tuple(f"p{i // 3}" for i in range(90))


class NoTest:
    """A table without a sealed test split."""

    def sealed_test(self) -> None:
        return None


def candidate(key: str, *, right: float, seed: int, is_complete: bool = True, **settings: Any) -> Candidate:
    """One that is right about a share of the faces, and sure of what it says."""
    generator = np.random.default_rng(seed)
    said = np.where(generator.random(90) < right, LABELS, generator.integers(0, 3, 90))
    logits = (np.eye(3)[said] * 4 + generator.normal(0, 0.3, (90, 3))).astype(np.float32)
    ids = tuple(f"{i}" for i in range(90))
    config = TrialConfig().with_settings(settings).to_flat()
    return Candidate(key, Path(key), dict(config), Scores(ids, SUBJECTS, LABELS, logits, CLASSES), is_complete)


def valid_f1(candidate: Candidate) -> float:
    return macro_f1(LABELS, candidate.scores.logits.argmax(axis=1), 3)


def rows_of(candidates: list[Candidate], members: dict[str, float], *, best: str, table: Any = None) -> dict[str, Any]:
    table = table or NoTest()
    return compare(candidates, members, table, best_trial=best, max_members=4, seed=0).scores


@pytest.fixture(autouse=True)
def _few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.comparison.ESTIMATE_DRAWS", 8)


@pytest.fixture
def candidates() -> list[Candidate]:
    return [
        candidate("t0000", right=0.4, seed=0),
        candidate("t0001", right=0.7, seed=1),
        candidate("t0002", right=0.0, seed=2, is_complete=False),
        candidate("b000", right=0.65, seed=3),
    ]


def test_rows_of_single_trials_are_their_own_scores(candidates: list[Candidate]) -> None:
    rows = rows_of(candidates, {"t0001": 1.0}, best="t0001")

    assert rows["default"]["valid"] == pytest.approx(valid_f1(candidates[0]))
    assert rows["best_trial"]["valid"] == pytest.approx(valid_f1(candidates[1]))
    assert rows["ensemble"]["valid"] == rows["best_trial"]["valid"]
    assert rows["default"]["test"] is None


def test_uniform_row_averages_what_was_trained_to_its_end(candidates: list[Candidate]) -> None:
    rows = rows_of(candidates, {"t0001": 1.0}, best="t0001")

    whole = np.mean([c.scores.probs for c in candidates if c.is_complete], axis=0)
    assert rows["uniform"]["valid"] == pytest.approx(macro_f1(LABELS, whole.argmax(axis=1), 3))


def test_uniform_row_averages_all_when_every_trial_was_cut_short() -> None:
    cut = [candidate(f"t000{i}", right=0.5, seed=i, is_complete=False) for i in range(3)]

    rows = rows_of(cut, {"t0000": 1.0}, best="t0000")

    whole = np.mean([c.scores.probs for c in cut], axis=0)
    assert rows["uniform"]["valid"] == pytest.approx(macro_f1(LABELS, whole.argmax(axis=1), 3))


def test_default_row_is_missing_when_the_default_left_nothing(candidates: list[Candidate]) -> None:
    rows = rows_of(candidates[1:], {"t0001": 1.0}, best="t0001")

    assert list(rows) == ["best_trial", "uniform", "ensemble"]


def test_estimate_of_a_choice_is_below_the_score_it_was_chosen_by() -> None:
    alike = [candidate(f"t{i:04d}", right=0.5, seed=i) for i in range(12)]
    best = max(alike, key=valid_f1).key
    members = select_members(alike, max_members=4, seed=0)

    rows = rows_of(alike, members, best=best)

    assert rows["best_trial"]["estimate"] < rows["best_trial"]["valid"]
    assert rows["ensemble"]["estimate"] < rows["ensemble"]["valid"]
    assert rows["default"]["estimate"] == rows["default"]["valid"]


def test_weak_trials_do_not_harm_the_ensemble() -> None:
    strong = candidate("t0001", right=0.9, seed=1)
    weak = [candidate(f"t{i:04d}", right=0.0, seed=i, is_complete=False) for i in range(2, 12)]

    members = select_members([strong, *weak], max_members=4, seed=0)

    rows = rows_of([strong, *weak], members, best="t0001")
    assert rows["ensemble"]["valid"] >= rows["best_trial"]["valid"]
    assert members["t0001"] == max(members.values())


def test_test_scores_are_those_of_the_votes(candidates: list[Candidate], monkeypatch: pytest.MonkeyPatch) -> None:
    sealed = SimpleNamespace(expression=LABELS, n_rows=90)
    monkeypatch.setattr(Candidate, "probs_on", lambda self, split: self.scores.probs)

    table = SimpleNamespace(sealed_test=lambda: sealed)
    rows = rows_of(candidates, {"t0001": 0.6, "b000": 0.4}, best="t0001", table=table)

    assert [row["test"] for row in rows.values()] == pytest.approx([row["valid"] for row in rows.values()])


def test_members_are_at_most_as_many_as_are_wanted() -> None:
    many = [candidate(f"t{i:04d}", right=0.6, seed=i) for i in range(10)]

    members = select_members(many, max_members=2, seed=0)

    assert len(members) <= 2
    assert sum(members.values()) == pytest.approx(1)


def test_candidates_are_refused_when_they_saw_other_faces(candidates: list[Candidate]) -> None:
    scores = candidates[1].scores
    other = Scores(scores.sample_ids[::-1], scores.subjects, scores.labels, scores.logits, scores.classes)

    with pytest.raises(EnsembleError, match="scored on the same faces"):
        stack_probs([candidates[0], Candidate("t0009", Path("t0009"), {}, other, True)])


@pytest.mark.parametrize(
    ("settings", "weights"),
    [
        ({"blend.partner": "none", "blend.weight": 0.5}, {"weights.safetensors": 1.0}),
        (
            {"blend.partner": "head", "blend.weight": 0.3, "train.head_epochs": 1},
            {"weights.safetensors": 0.7, "head.safetensors": 0.3},
        ),
        ({"blend.partner": "/models/other.safetensors", "blend.weight": 1.0}, {"other.safetensors": 1.0}),
    ],
    ids=["alone", "head", "partner alone"],
)
def test_voters_have_their_share_of_the_blend(settings: dict[str, Any], weights: dict[str, float]) -> None:
    voters = candidate("t0000", right=0.5, seed=0, **settings).voters

    assert {voter.path.name: voter.weight for voter in voters} == pytest.approx(weights)


def test_trial_is_no_candidate_when_its_scores_or_weights_are_missing(tmp_path: Path) -> None:
    config = dict(TrialConfig().to_flat())
    assert load_candidate("t0000", tmp_path, config, is_complete=True) is None

    save_scores(tmp_path / "scores" / "valid.arrow", candidate("t0000", right=0.5, seed=0).scores)
    assert load_candidate("t0000", tmp_path, config, is_complete=True) is None

    (tmp_path / "weights.safetensors").touch()
    found = load_candidate("t0000", tmp_path, config, is_complete=True)
    assert found is not None and found.key == "t0000"
