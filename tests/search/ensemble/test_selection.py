"""Greedy selection, plain and bagged."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from search.ensemble.blending import soft_vote
from search.ensemble.macro_f1 import macro_f1_of_probs
from search.ensemble.selection import TIE, bagged_selection, best_single, greedy_selection, selection_or_average
from spaces.errors import EnsembleError
from trainables.metrics import macro_f1

MakePool = Callable[..., Any]

SELECTIONS: dict[str, Callable[..., Any]] = {"greedy": greedy_selection, "bagged": bagged_selection}
each_selection = pytest.mark.parametrize("select", SELECTIONS.values(), ids=SELECTIONS.keys())


def naive_picks(probs: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], *, rounds: int) -> tuple[int, ...]:
    """Greedy selection as one would first write it down."""
    total, picks, trajectory = np.zeros(probs.shape[1:]), [], []
    for size in range(1, rounds + 1):
        scores = np.array([macro_f1(labels, (total + one).argmax(axis=1), probs.shape[2]) for one in probs])
        tied = np.flatnonzero(scores > scores.max() - TIE).tolist()
        tied = [pick for pick in tied if pick in picks] or tied
        truth = np.arange(len(labels)), labels
        losses = [-np.log(np.maximum((total + probs[m])[truth] / size, 1e-12)).mean() for m in tied]
        picks.append(tied[int(np.argmin(losses))])
        trajectory.append(scores[picks[-1]])
        total += probs[picks[-1]]
    return tuple(picks[: int(np.argmax(np.array(trajectory) > max(trajectory) - TIE)) + 1])


@pytest.mark.parametrize("n_classes", [2, 4, 7])
@pytest.mark.parametrize("seed", range(4))
def test_greedy_selection_picks_what_the_naive_loop_picks(make_pool: MakePool, n_classes: int, seed: int) -> None:
    probs, labels = make_pool(candidates=9, samples=120, classes=n_classes, seed=seed)

    selection = greedy_selection(probs, labels, rounds=15)

    assert selection.picks == naive_picks(probs, labels, rounds=15)


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


@each_selection
@pytest.mark.parametrize("seed", range(6))
def test_selection_is_never_worse_than_the_best_single(
    make_pool: MakePool, select: Callable[..., Any], seed: int
) -> None:
    probs, labels = make_pool(candidates=5, samples=50, seed=seed)

    selection = select(probs, labels)

    singles = macro_f1_of_probs(probs, labels)
    vote = soft_vote(probs, selection.weights)
    assert selection.best_single == pytest.approx(singles.max())
    assert selection.score >= singles.max() - TIE
    assert macro_f1(labels, vote.argmax(axis=1), 4) == pytest.approx(selection.score)


@each_selection
def test_selection_leaves_hopeless_candidates_out(make_pool: MakePool, select: Callable[..., Any]) -> None:
    probs, labels = make_pool(candidates=2, samples=300)
    always_last = np.tile([0.01, 0.01, 0.01, 0.97], (20, 300, 1))

    selection = select(np.concatenate([always_last, probs]), labels)

    assert selection.weights[:20].sum() == 0


@each_selection
def test_selection_gives_one_candidate_all_weight(make_pool: MakePool, select: Callable[..., Any]) -> None:
    probs, labels = make_pool(candidates=1)

    assert select(probs, labels).weights.tolist() == [1.0]


@each_selection
def test_selection_of_equal_candidates_scores_as_one_of_them(make_pool: MakePool, select: Callable[..., Any]) -> None:
    probs, labels = make_pool(candidates=1)

    selection = select(np.repeat(probs, 4, axis=0), labels)

    assert selection.weights.sum() == pytest.approx(1)
    assert selection.score == pytest.approx(selection.best_single)


@each_selection
def test_selection_works_where_a_class_is_missing(make_pool: MakePool, select: Callable[..., Any]) -> None:
    probs, labels = make_pool()
    without_last = labels != 3

    selection = select(probs[:, without_last], labels[without_last])

    assert selection.weights.sum() == pytest.approx(1)
    assert 0 < selection.score <= 1


@each_selection
def test_selection_is_the_same_when_repeated(make_pool: MakePool, select: Callable[..., Any]) -> None:
    probs, labels = make_pool()

    assert select(probs, labels).weights.tolist() == select(probs, labels).weights.tolist()


@each_selection
def test_selection_counts_a_row_as_often_as_it_was_drawn(make_pool: MakePool, select: Callable[..., Any]) -> None:
    probs, labels = make_pool(candidates=30, samples=60)
    counts = np.arange(60) % 4
    repeated = np.repeat(np.arange(60), counts)

    selection = select(probs, labels, counts=counts)

    assert selection.weights == pytest.approx(select(probs[:, repeated], labels[repeated]).weights)


def test_greedy_selection_settles_a_tie_by_log_loss() -> None:
    unsure, sure = np.array([[0.6, 0.4], [0.4, 0.6]]), np.array([[0.9, 0.1], [0.1, 0.9]])

    selection = greedy_selection(np.stack([unsure, sure]), [0, 1])

    assert selection.weights.tolist() == [0.0, 1.0]


def test_best_single_takes_the_best_alone(make_pool: MakePool) -> None:
    probs, labels = make_pool()

    selection = best_single(probs, labels)

    assert selection.picks == (int(macro_f1_of_probs(probs, labels).argmax()),)
    assert selection.score == selection.best_single


def test_bagged_selection_spreads_weight_wider_than_greedy(make_pool: MakePool) -> None:
    probs, labels = make_pool(candidates=20, samples=300, seed=1)

    bagged, greedy = bagged_selection(probs, labels), greedy_selection(probs, labels, rounds=15)

    assert np.count_nonzero(bagged.weights) >= np.count_nonzero(greedy.weights)


@pytest.mark.parametrize("max_members", [1, 2, 4])
def test_bagged_selection_keeps_to_the_number_of_members_and_stays_as_good_as_the_best(
    make_pool: MakePool, max_members: int
) -> None:
    probs, labels = make_pool(candidates=20, samples=80, seed=1)

    selection = bagged_selection(probs, labels, max_members=max_members)

    assert 1 <= np.count_nonzero(selection.weights) <= max_members
    assert selection.weights.sum() == pytest.approx(1)
    assert selection.score >= macro_f1_of_probs(probs, labels).max() - TIE


def test_bagged_selection_gives_no_vote_to_a_candidate_that_only_shifts_faces_between_classes() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 300)
    shy_of_the_last = np.eye(3)[labels] * 0.4 + generator.random((4, 300, 3)) - [0.0, 0.0, 0.6]
    probs = np.exp(2 * shy_of_the_last)
    always_last = np.tile([0.2, 0.2, 0.6], (1, 300, 1))
    candidates = np.concatenate([probs / probs.sum(axis=2, keepdims=True), always_last])

    selection, lenient = bagged_selection(candidates, labels), bagged_selection(candidates, labels, least_share=0)

    assert selection.weights[4] == 0 < lenient.weights[4]


def test_bagged_selection_refuses_a_share_that_nobody_reaches(make_pool: MakePool) -> None:
    probs, labels = make_pool()

    with pytest.raises(EnsembleError, match=r"least_share must be in 0\.\.1, got 1\.1"):
        bagged_selection(probs, labels, least_share=1.1)


def test_bagged_selection_refuses_to_keep_nobody(make_pool: MakePool) -> None:
    probs, labels = make_pool()

    with pytest.raises(EnsembleError, match="max_members must be 1 or more, got 0"):
        bagged_selection(probs, labels, max_members=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bags": 0}, "got 0, 15 and 0.5"),
        ({"rounds": 0}, "got 10, 0 and 0.5"),
        ({"share": 1.5}, "got 10, 15 and 1.5"),
    ],
    ids=["bags", "rounds", "share"],
)
def test_bagged_selection_names_an_option_out_of_range(
    make_pool: MakePool, options: dict[str, float], message: str
) -> None:
    probs, labels = make_pool()

    with pytest.raises(EnsembleError, match=f"bags and rounds must be 1 or more and share in 0..1, {message}"):
        bagged_selection(probs, labels, **options)  # type: ignore[arg-type]


def test_greedy_selection_refuses_no_rounds(make_pool: MakePool) -> None:
    probs, labels = make_pool()

    with pytest.raises(EnsembleError, match="rounds must be 1 or more, got 0"):
        greedy_selection(probs, labels, rounds=0)


def test_selection_refuses_counts_of_another_length(make_pool: MakePool) -> None:
    probs, labels = make_pool()

    with pytest.raises(EnsembleError, match=r"counts must be one a sample \(150\), 0 or more, got shape \[3\]"):
        greedy_selection(probs, labels, counts=np.ones(3, dtype=np.int64))


def test_bagged_selection_combines_two_candidates_that_err_elsewhere() -> None:
    labels = np.tile([0, 1], 50)
    right, wrong = np.array([[0.9, 0.1], [0.1, 0.9]])[labels], np.array([[0.45, 0.55], [0.55, 0.45]])[labels]
    first_half = (np.arange(100) < 50)[:, None]
    probs = np.stack([np.where(first_half, right, wrong), np.where(first_half, wrong, right)])

    selection = bagged_selection(probs, labels)

    assert selection.score == 1.0 > selection.best_single
    assert (selection.weights > 0).all()


def test_average_is_preferred_where_selecting_gains_nothing() -> None:
    labels = np.tile([0, 1], 30)
    probs = np.stack([np.array([[0.9, 0.1], [0.1, 0.9]])[labels]] * 3)

    selection = selection_or_average(probs, labels, averageable=np.array([True, True, False]), max_members=3)

    assert selection.weights.tolist() == [0.5, 0.5, 0.0]


def test_average_is_taken_without_the_weak() -> None:
    labels = np.tile([0, 1], 30)
    right, always_first = np.array([[0.9, 0.1], [0.1, 0.9]])[labels], np.tile([0.6, 0.4], (60, 1))

    selection = selection_or_average(
        np.stack([right, right, always_first]), labels, averageable=np.ones(3, dtype=bool), max_members=3
    )

    assert selection.weights.tolist() == [0.5, 0.5, 0.0]


def test_average_of_more_than_may_vote_is_not_taken() -> None:
    labels = np.tile([0, 1], 30)
    probs = np.stack([np.array([[0.9, 0.1], [0.1, 0.9]])[labels]] * 3)

    selection = selection_or_average(probs, labels, averageable=np.ones(3, dtype=bool), max_members=2)

    assert np.count_nonzero(selection.weights) <= 2
