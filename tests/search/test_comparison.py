"""What searching, averaging and selecting gained, on scores made by hand."""

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from search import comparison
from search.candidate_library import make_library
from search.candidates import Candidate
from search.comparison import (
    Choice,
    add_test_scores,
    choose_ensemble,
    on_joined_faces,
    on_other_faces,
    towards_average,
)
from search.ensemble.greedy import TIE
from search.ensemble.model_library import Library, make_kind, plain_traits
from search.ensemble.selection import LEAST_SHARE, METHODS
from search.other_faces import OtherFaces
from spaces.config import TrialConfig
from trainables.metrics import macro_f1
from trainables.scores import Scores

CLASSES = ("anger", "fear", "happiness")
N = 90
LABELS = np.arange(N, dtype=np.int8) % 3
SUBJECTS = tuple(f"p{i // 3}" for i in range(N))
QUICK = ("uniform", "best_single", "greedy")
"""Ways to choose that most of these tests look at."""


def candidate(key: str, *, right: float, seed: int, is_complete: bool = True, **settings: Any) -> Candidate:
    """One that is right about a share of the faces, guesses at the others, and is sure of what it says."""
    generator = np.random.default_rng(seed)
    said = np.where(generator.random(N) < right, LABELS, generator.integers(0, 3, N))
    logits = (np.eye(3)[said] * 4 + generator.normal(0, 0.3, (N, 3))).astype(np.float32)
    scores = Scores(tuple(str(i) for i in range(N)), SUBJECTS, LABELS, logits, CLASSES)
    return Candidate(key, Path(key), dict(TrialConfig().with_settings(settings).to_flat()), scores, is_complete)


def valid_f1(*votes: Candidate) -> float:
    return macro_f1(LABELS, np.mean([one.scores.probs for one in votes], axis=0).argmax(axis=1), 3)


def choose_in(library: Library, *, methods: Iterable[str] = QUICK, max_members: int = 4, **options: Any) -> Choice:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, "METHODS", {name: METHODS[name] for name in methods})
        return choose_ensemble(library, max_members=max_members, **{"seed": 0, **options})


def choose(candidates: list[Candidate], **options: Any) -> Choice:
    return choose_in(make_library(candidates, n_configs=2), **options)


@pytest.fixture
def candidates() -> list[Candidate]:
    return [
        candidate("t0000", right=0.4, seed=0),
        candidate("t0001", right=0.7, seed=1, **{"optimiser.lr": 0.01}),
        candidate("t0002", right=0.0, seed=2, is_complete=False, **{"optimiser.lr": 0.02}),
        candidate("b000", right=0.65, seed=3, **{"optimiser.lr": 0.01, "train.seed": 5}),
    ]


def test_rows_of_single_trials_are_their_own_scores(candidates: list[Candidate]) -> None:
    choice = choose(candidates)

    assert choice.rows["default"].tolist() == [1, 0, 0, 0]
    assert choice.rows["best_trial"].tolist() == [0, 1, 0, 0]
    assert choice.scores["default"]["valid"] == pytest.approx(valid_f1(candidates[0]))
    assert choice.scores["best_trial"]["valid"] == pytest.approx(valid_f1(candidates[1]))
    assert all(score["test"] is None for score in choice.scores.values())


def test_best_trial_is_no_bag(candidates: list[Candidate]) -> None:
    better = [*candidates[:3], candidate("b000", right=1.0, seed=3)]

    choice = choose(better)

    assert choice.rows["best_trial"].tolist() == [0, 1, 0, 0]


def test_uniform_row_averages_what_was_trained_to_its_end_and_is_not_weak(candidates: list[Candidate]) -> None:
    score = choose(candidates).scores["uniform"]

    best = max(valid_f1(one) for one in candidates)
    whole = [one for one in candidates if one.is_complete and valid_f1(one) >= LEAST_SHARE * best]
    assert 1 < len(whole) < len(candidates)
    assert score["valid"] == pytest.approx(valid_f1(*whole))


def test_uniform_row_averages_all_when_every_trial_was_cut_short() -> None:
    cut = [candidate(f"t000{i}", right=0.5, seed=i, is_complete=False) for i in range(3)]

    score = choose(cut).scores["uniform"]

    assert score["valid"] == pytest.approx(valid_f1(*cut))


def test_default_row_is_missing_when_the_default_left_nothing(candidates: list[Candidate]) -> None:
    choice = choose(candidates[1:])

    assert list(choice.rows) == list(choice.scores) == ["best_trial", "uniform", "ensemble"]
    assert list(choice.differences) == ["best_trial", "uniform"]


def test_estimate_of_no_choice_is_the_score_itself(candidates: list[Candidate]) -> None:
    scores = choose(candidates).scores

    assert scores["default"]["estimate"] == pytest.approx(scores["default"]["valid"])
    assert scores["uniform"]["optimism"] == pytest.approx(0)


def test_estimate_of_a_choice_among_equals_is_below_the_score_it_was_chosen_by() -> None:
    alike = [candidate(f"t{i:04d}", right=0.3, seed=i) for i in range(12)]

    scores = choose(alike).scores

    assert scores["best_trial"]["estimate"] < scores["best_trial"]["valid"] - 0.02
    low, high = scores["ensemble"]["estimate_interval"]
    assert low < scores["ensemble"]["estimate"] < high
    assert scores["ensemble"]["optimism"] == pytest.approx(scores["ensemble"]["valid"] - scores["ensemble"]["estimate"])


def test_method_that_is_worse_on_valid_than_the_best_single_is_not_taken() -> None:
    pair = [candidate("t0000", right=0.7, seed=10), candidate("t0001", right=0.68, seed=11)]

    choice = choose(pair, methods=("uniform", "best_single"))

    average, single = choice.methods
    assert average["valid"] < single["valid"]
    assert average["estimate"] > single["estimate"]
    assert choice.method == "best_single"


@pytest.mark.parametrize("seed", range(2))
def test_ensemble_is_never_worse_on_valid_than_the_best_single(seed: int) -> None:
    strong = candidate("t0001", right=0.85, seed=seed)
    weak = [candidate(f"t{i:04d}", right=0.0, seed=10 * seed + i, is_complete=False) for i in range(2, 8)]

    choice = choose([strong, *weak], methods=METHODS)

    assert choice.scores["ensemble"]["valid"] >= valid_f1(strong) - TIE
    assert choice.rows["ensemble"].argmax() == 0


def test_every_method_is_told_of_and_one_is_taken(candidates: list[Candidate]) -> None:
    choice = choose(candidates, methods=METHODS)

    assert [found["method"] for found in choice.methods] == list(METHODS)
    (taken,) = [found for found in choice.methods if found["chosen"]]
    assert taken["method"] == choice.method
    assert {name: taken[name] for name in ("valid", "estimate")} == {
        name: choice.scores["ensemble"][name] for name in ("valid", "estimate")
    }


def test_choice_is_the_same_when_repeated(candidates: list[Candidate]) -> None:
    first, second = (choose(candidates, seed=3) for _ in range(2))

    assert first.scores == second.scores
    assert first.rows["ensemble"].tolist() == second.rows["ensemble"].tolist()


def test_members_are_at_most_as_many_as_are_wanted() -> None:
    many = [candidate(f"t{i:04d}", right=0.6, seed=i) for i in range(8)]

    choice = choose(many, max_members=2)

    assert 1 <= np.count_nonzero(choice.rows["ensemble"]) <= 2
    assert choice.rows["ensemble"].sum() == pytest.approx(1)
    assert np.count_nonzero(choice.rows["uniform"]) == 8  # what the ensemble is held against is not limited


def test_gains_are_told_with_their_interval(candidates: list[Candidate]) -> None:
    choice = choose(candidates)

    gain = choice.differences["default"]
    expected = choice.scores["ensemble"]["estimate"] - choice.scores["default"]["estimate"]
    assert gain["difference"] == pytest.approx(expected)
    assert 0 < gain["low"] < gain["difference"] < gain["high"]
    assert list(choice.differences) == ["default", "best_trial", "uniform"]


def test_choice_is_calibrated_and_confused_on_faces_left_out(candidates: list[Candidate]) -> None:
    choice = choose(candidates)

    assert choice.confusion is not None and choice.calibration is not None and choice.judgement is not None
    assert choice.confusion.sum(axis=1) == pytest.approx([30, 30, 30])
    assert sum(one.n for one in choice.calibration.bins[0]) == N


def test_choice_tells_how_far_it_is(candidates: list[Candidate]) -> None:
    told: list[float] = []

    choose(candidates, told=told.append)

    assert told == sorted(told)
    assert told[-1] == 1.0


def test_nothing_is_estimated_where_nobody_can_be_left_out() -> None:
    probs = np.array([[[0.9, 0.1]], [[0.2, 0.8]]])
    library = Library((make_kind(probs, [0], None),), plain_traits(2))

    choice = choose_in(library)

    score = choice.scores["ensemble"]
    assert score == {"valid": 0.5, "estimate": None, "estimate_interval": None, "optimism": None, "test": None}
    assert choice.rows["ensemble"].sum() == pytest.approx(1)
    assert (choice.judgement, choice.calibration, choice.confusion, choice.methods) == (None, None, None, [])


def test_test_scores_are_those_of_the_votes(candidates: list[Candidate], monkeypatch: pytest.MonkeyPatch) -> None:
    sealed = SimpleNamespace(expression=LABELS, n_rows=N, images=None)
    asked: list[str] = []
    told: list[float] = []

    def probs_on(self: Candidate, images: None) -> npt.NDArray[np.float64]:
        asked.append(self.key)
        return self.scores.probs

    monkeypatch.setattr(Candidate, "probs_on", probs_on)
    choice = choose(candidates)
    table: Any = SimpleNamespace(sealed_test=lambda: sealed)

    n_rows = add_test_scores(choice, candidates, table, told=told.append)

    assert n_rows == N
    assert asked == ["t0000", "t0001", "b000"]  # that which votes nowhere need not look
    assert told[-1] == 1.0
    for score in choice.scores.values():
        assert score["test"] == pytest.approx(score["valid"])


def test_test_scores_stay_unknown_where_there_is_no_test(candidates: list[Candidate]) -> None:
    choice = choose(candidates)
    table: Any = SimpleNamespace(sealed_test=lambda: None)

    assert add_test_scores(choice, candidates, table) == 0
    assert choice.scores["ensemble"]["test"] is None


def test_rows_are_scored_on_other_faces_that_had_no_part_in_choosing() -> None:
    labels = np.arange(60) % 3
    generator = np.random.default_rng(0)
    said = [np.where(generator.random(60) < right, labels, (labels + 1) % 3) for right in (0.9, 0.5)]
    kind = make_kind(np.eye(3)[np.stack(said)] * 0.7 + 0.1, labels, [f"q{row // 2}" for row in range(60)])

    told = on_other_faces(kind, {"default": np.array([0.0, 1.0]), "ensemble": np.array([1.0, 0.0])})

    scores = {row: macro_f1(labels, preds, 3) for row, preds in zip(("ensemble", "default"), said, strict=True)}
    for row, score in scores.items():
        assert told["scores"][row]["score"] == pytest.approx(score)
        low, high = told["scores"][row]["interval"]
        assert low < score < high
    gain = told["differences"]["default"]
    assert gain["difference"] == pytest.approx(scores["ensemble"] - scores["default"])
    assert gain["low"] > 0


@pytest.mark.parametrize("objective", ["mean", "worst"])
def test_rows_are_cross_fitted_on_other_faces_that_choose_too(candidates: list[Candidate], objective: Any) -> None:
    generator, labels = np.random.default_rng(0), np.arange(60) % 3
    faces = OtherFaces(
        "elsewhere", "d", np.zeros((60, 1, 1, 1), np.uint8), labels, tuple(f"q{row // 2}" for row in range(60)), 0
    )
    probs = generator.dirichlet(np.ones(3), size=(4, 60))
    probs[0] = np.eye(3)[labels] * 0.7 + 0.1  # the default alone knows these

    library = make_library(candidates, n_configs=2, others=[(faces, probs)], objective=objective)
    choice = choose_in(library)
    told = on_joined_faces(choice, 1)

    assert list(told["scores"]) == ["default", "best_trial", "uniform", "ensemble"]
    assert told["scores"]["default"]["score"] == pytest.approx(1.0)
    assert choice.rows["ensemble"][0] > 0
    assert told["differences"]["default"]["difference"] <= 0
    expected = told["scores"]["ensemble"]["score"] - told["scores"]["best_trial"]["score"]
    assert told["differences"]["best_trial"]["difference"] == pytest.approx(expected)


def test_curve_towards_the_average_ends_at_the_ensemble_and_at_the_average(candidates: list[Candidate]) -> None:
    library = make_library(candidates, n_configs=2)
    choice = choose_in(library)

    curve = towards_average(library, choice)

    assert curve.score_at(0.0) == pytest.approx(choice.scores["ensemble"]["valid"])
    assert curve.score_at(1.0) == pytest.approx(choice.scores["uniform"]["valid"])
