"""Greedy selection: the picks of a plain loop, in less time and memory."""

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from search.ensemble.blending import soft_vote
from search.ensemble.faces import checked_faces
from search.ensemble.greedy import TIE, best_single, greedy, greedy_selection
from search.ensemble.macro_f1 import macro_f1_of_probs
from search.ensemble.pool import CandidatePool, GrowingVote
from spaces.errors import EnsembleError
from trainables.metrics import macro_f1

MakePool = Callable[..., Any]
Numbers = npt.NDArray[Any]


def naive_way(
    probs: Numbers, labels: Numbers, *, rounds: int, counts: Numbers | None = None
) -> tuple[list[int], list[float]]:
    """Greedy selection as one would first write it down, in double precision: picks, and macro-F1 after each."""
    if counts is not None:
        rows = np.repeat(np.arange(len(labels)), counts)
        probs, labels = probs[:, rows], labels[rows]
    probs = probs.astype(np.float64)
    total, picks, trajectory = np.zeros(probs.shape[1:]), list[int](), list[float]()
    for size in range(1, rounds + 1):
        scores = np.array([macro_f1(labels, (total + one).argmax(axis=1), probs.shape[2]) for one in probs])
        tied = np.flatnonzero(scores > scores.max() - TIE).tolist()
        tied = [pick for pick in tied if pick in picks] or tied
        truth = np.arange(len(labels)), labels
        losses = [-np.log(np.maximum((total + probs[m])[truth] / size, 1e-12)).mean() for m in tied]
        picks.append(tied[int(np.argmin(losses))])
        trajectory.append(scores[picks[-1]])
        total += probs[picks[-1]]
    return picks, trajectory


def naive_picks(probs: Numbers, labels: Numbers, *, rounds: int, counts: Numbers | None = None) -> tuple[int, ...]:
    """Picks up to the best ensemble."""
    picks, trajectory = naive_way(probs, labels, rounds=rounds, counts=counts)
    return tuple(picks[: int(np.argmax(np.array(trajectory) > max(trajectory) - TIE)) + 1])


def rounded(probs: Numbers, *, steps: int) -> Numbers:
    """Probabilities in whole steps, so that classes are often level; rows still sum to 1."""
    coarse = np.floor(probs * steps)
    coarse[..., 0] += steps - coarse.sum(axis=-1)
    return np.asarray(coarse / steps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_classes", [2, 4, 7])
@pytest.mark.parametrize("seed", range(4))
def test_greedy_selection_picks_what_the_naive_loop_picks(
    make_pool: MakePool, n_classes: int, seed: int, dtype: Any
) -> None:
    probs, labels = make_pool(candidates=9, samples=120, classes=n_classes, seed=seed)
    probs = probs.astype(dtype)

    selection = greedy_selection(probs, labels, rounds=15)

    assert selection.picks == naive_picks(probs, labels, rounds=15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("steps", [4, 10, 64])
@pytest.mark.parametrize("seed", range(3))
def test_greedy_selection_goes_the_way_of_the_naive_loop_where_classes_are_level(
    make_pool: MakePool, steps: int, seed: int, dtype: Any
) -> None:
    probs, labels = make_pool(candidates=8, samples=80, classes=5, seed=seed)
    probs = rounded(probs, steps=steps).astype(dtype)

    selection = greedy_selection(probs, labels, rounds=12)

    picks, trajectory = naive_way(probs, labels, rounds=12)
    assert selection.trajectory == pytest.approx(trajectory, abs=1e-12)
    assert list(selection.picks) == picks[: len(selection.picks)]


@pytest.mark.parametrize("n_classes", [3, 5, 9])
def test_greedy_selection_picks_the_same_where_samples_are_parted_and_taken_in_turn(
    make_pool: MakePool, n_classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.ensemble.pool._CELLS", 64)
    monkeypatch.setattr("search.ensemble.pool._WORTH_PARTING", 0)
    monkeypatch.setattr("search.ensemble.pool._OF_ONE_THREAD", 300)
    probs, labels = make_pool(candidates=9, samples=120, classes=n_classes)

    selection = greedy_selection(probs, labels, rounds=15)

    assert selection.picks == naive_picks(probs, labels, rounds=15)


@pytest.mark.parametrize("n_added", [0, 1, 3])
def test_growing_vote_scores_each_candidate_as_if_it_were_added(make_pool: MakePool, n_added: int) -> None:
    probs, labels = make_pool(candidates=12, samples=200, classes=6)
    counts = np.arange(200) % 3
    vote = GrowingVote(CandidatePool(probs), labels, counts)
    for _ in range(n_added):
        vote.add(7)

    scores = vote.scores()

    assert scores == pytest.approx(macro_f1_of_probs(n_added * probs[7] + probs, labels, counts=counts), abs=1e-12)


@pytest.mark.parametrize("times", [1, 1 << 20], ids=["few", "beyond single precision"])
def test_greedy_selection_counts_exactly(make_pool: MakePool, times: int) -> None:
    probs, labels = make_pool(candidates=5, samples=60)
    counts = 1 + np.arange(60) % 3

    selection = greedy_selection(probs, labels, counts=times * counts, rounds=10)

    assert selection.picks == naive_picks(probs, labels, rounds=10, counts=counts)


def test_greedy_on_a_shared_pool_chooses_as_on_a_pool_of_its_own(make_pool: MakePool) -> None:
    probs, labels = make_pool(candidates=15, samples=90)
    counts = np.arange(90) % 4
    shared = checked_faces(probs, labels).pooled()

    selection = greedy([shared.counted(counts)], rounds=10)

    assert shared.counted(counts).pool is shared.pool
    own = greedy_selection(probs, labels, rounds=10, counts=counts)
    assert (selection.picks, selection.trajectory) == (own.picks, own.trajectory)


def test_greedy_on_two_kinds_of_faces_lifts_the_worse_one(make_pool: MakePool) -> None:
    kinds = [checked_faces(*make_pool(candidates=6, samples=80, seed=seed)) for seed in (1, 2)]

    mean, worst = greedy(kinds, rounds=10), greedy(kinds, rounds=10, objective="worst")

    lowest = [min(kind.macro_f1_of_vote(found.weights) for kind in kinds) for found in (mean, worst)]
    assert worst.score == pytest.approx(lowest[1])
    assert lowest[1] >= lowest[0] - TIE


def test_greedy_needs_little_more_memory_than_one_copy_of_the_pool(make_pool: MakePool) -> None:
    probs, labels = make_pool(candidates=100, samples=4000, classes=6)
    probs = probs.astype(np.float32)
    tracemalloc.start()

    greedy_selection(probs, labels, rounds=3)

    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1.6 * probs.nbytes


def test_greedy_selection_leaves_the_probabilities_as_they_were(make_pool: MakePool) -> None:
    probs, labels = make_pool()
    before = probs.copy()

    greedy_selection(probs, labels)

    assert np.array_equal(probs, before)


def test_greedy_selection_weighs_by_how_often_a_candidate_was_picked(make_pool: MakePool) -> None:
    probs, labels = make_pool()

    selection = greedy_selection(probs, labels)

    assert selection.weights == pytest.approx(np.bincount(selection.picks, minlength=6) / len(selection.picks))


def test_greedy_selection_stops_at_the_first_best_of_its_way(make_pool: MakePool) -> None:
    probs, labels = make_pool()

    selection = greedy_selection(probs, labels)

    best = max(selection.trajectory)
    assert selection.trajectory[len(selection.picks) - 1] == best
    assert all(score < best for score in selection.trajectory[: len(selection.picks) - 1])


@pytest.mark.parametrize("seed", range(6))
def test_greedy_selection_is_never_worse_than_the_best_single(make_pool: MakePool, seed: int) -> None:
    probs, labels = make_pool(candidates=5, samples=50, seed=seed)

    selection = greedy_selection(probs, labels)

    singles = macro_f1_of_probs(probs, labels)
    vote = soft_vote(probs, selection.weights)
    assert selection.best_single == pytest.approx(singles.max())
    assert selection.score >= singles.max() - TIE
    assert macro_f1(labels, vote.argmax(axis=1), 4) == pytest.approx(selection.score)


def test_greedy_selection_works_where_a_class_is_missing(make_pool: MakePool) -> None:
    probs, labels = make_pool()
    without_last = labels != 3

    selection = greedy_selection(probs[:, without_last], labels[without_last])

    assert selection.weights.sum() == pytest.approx(1)
    assert 0 < selection.score <= 0.75


def test_greedy_selection_settles_a_tie_by_log_loss() -> None:
    unsure, sure = np.array([[0.6, 0.4], [0.4, 0.6]]), np.array([[0.9, 0.1], [0.1, 0.9]])

    selection = greedy_selection(np.stack([unsure, sure]), [0, 1])

    assert selection.weights.tolist() == [0.0, 1.0]


def test_greedy_selection_of_equal_candidates_takes_the_first(make_pool: MakePool) -> None:
    probs, labels = make_pool(candidates=1)

    selection = greedy_selection(np.repeat(probs, 7, axis=0), labels)

    assert selection.weights.tolist() == [1.0] + [0.0] * 6


def test_best_single_takes_the_best_alone(make_pool: MakePool) -> None:
    probs, labels = make_pool()

    selection = best_single(probs, labels)

    assert selection.picks == (int(macro_f1_of_probs(probs, labels).argmax()),)
    assert selection.score == selection.best_single


def test_greedy_selection_refuses_no_rounds(make_pool: MakePool) -> None:
    probs, labels = make_pool()

    with pytest.raises(EnsembleError, match="rounds must be 1 or more, got 0"):
        greedy_selection(probs, labels, rounds=0)


def test_greedy_selection_refuses_counts_of_another_length(make_pool: MakePool) -> None:
    probs, labels = make_pool()

    with pytest.raises(EnsembleError, match=r"counts must be one a sample \(150\), 0 or more, got shape \[3\]"):
        greedy_selection(probs, labels, counts=np.ones(3, dtype=np.int64))


def test_greedy_selection_refuses_logits(make_pool: MakePool) -> None:
    probs, labels = make_pool(candidates=2)

    with pytest.raises(EnsembleError, match=r"probs must not be negative, got -\S+: candidate 0, sample 0"):
        greedy_selection(np.log(probs), labels)
