"""The soft vote, the blend, and the exact curve of the blending weight."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from search.ensemble.blending import best_blend_weight, blend, blend_curve, soft_vote
from spaces.errors import EnsembleError
from trainables.metrics import macro_f1

MakePool = Callable[..., Any]


def test_soft_vote_averages_equally_when_no_weights_are_given(make_pool: MakePool) -> None:
    probs, _ = make_pool(candidates=3)

    assert soft_vote(probs) == pytest.approx(probs.mean(axis=0))


def test_soft_vote_is_in_double_precision_whatever_the_members_are(make_pool: MakePool) -> None:
    probs, _ = make_pool(candidates=3)
    single = probs.astype(np.float32)

    votes = soft_vote(single), soft_vote(single, [0.2, 0.3, 0.5])

    assert [vote.dtype for vote in votes] == [np.float64, np.float64]
    assert votes[1] == pytest.approx(soft_vote(single.astype(np.float64), [0.2, 0.3, 0.5]), abs=1e-15)


def test_soft_vote_rows_sum_to_one(make_pool: MakePool) -> None:
    probs, _ = make_pool(candidates=3)

    assert soft_vote(probs, [0.2, 0.0, 0.8]).sum(axis=1) == pytest.approx(np.ones(150))


@pytest.mark.parametrize("weights", [[0.5, 0.4], [1.5, -0.5], [np.nan, 1.0]], ids=["sum", "negative", "nan"])
def test_soft_vote_refuses_weights_that_are_no_shares(weights: list[float]) -> None:
    with pytest.raises(EnsembleError, match=r"weights must be non-negative with the sum 1, got \["):
        soft_vote(np.full((2, 1, 2), 0.5), weights)


def test_soft_vote_names_the_number_of_members() -> None:
    with pytest.raises(EnsembleError, match=r"weights must be one a member \(2\), got shape \[3\]"):
        soft_vote(np.full((2, 1, 2), 0.5), [0.2, 0.3, 0.5])


def test_blend_weighs_the_partner() -> None:
    mixed = blend([[1.0, 0.0]], [[0.0, 1.0]], weight=0.3)

    assert mixed.tolist() == [[0.3, 0.7]]


def test_blend_refuses_a_weight_outside_its_range() -> None:
    with pytest.raises(EnsembleError, match=r"blending weight must be between 0 and 1, got 1.2"):
        blend([[1.0, 0.0]], [[0.0, 1.0]], weight=1.2)


@pytest.mark.parametrize("space", ["probs", "logits"])
@pytest.mark.parametrize("n_classes", [2, 3, 6, 9])
@pytest.mark.parametrize("seed", range(3))
def test_blend_curve_equals_brute_force_in_every_interval(
    make_pool: MakePool, n_classes: int, seed: int, space: str
) -> None:
    pair, labels = make_pool(candidates=2, classes=n_classes, seed=seed)
    partner, fine_tuned = pair if space == "probs" else np.log(pair)

    curve = blend_curve(partner, fine_tuned, labels)

    middles = (curve.breakpoints[1:] + curve.breakpoints[:-1]) / 2
    expected = [macro_f1(labels, blend(partner, fine_tuned, weight=w).argmax(axis=1), n_classes) for w in middles]
    assert len(curve.scores) > 10
    assert curve.scores == pytest.approx(expected, abs=1e-12)


def test_blend_curve_goes_from_zero_to_one_without_going_back(make_pool: MakePool) -> None:
    (partner, fine_tuned), labels = make_pool(candidates=2)

    curve = blend_curve(partner, fine_tuned, labels)

    assert (curve.breakpoints[0], curve.breakpoints[-1]) == (0.0, 1.0)
    assert (np.diff(curve.breakpoints) > 0).all()
    assert len(curve.scores) == len(curve.breakpoints) - 1


def test_blend_curve_has_one_interval_where_both_say_the_same(make_pool: MakePool) -> None:
    (probs, _), labels = make_pool(candidates=2)

    curve = blend_curve(probs, probs, labels)

    assert curve.breakpoints.tolist() == [0.0, 1.0]
    assert curve.score_at(0.5) == pytest.approx(macro_f1(labels, probs.argmax(axis=1), 4))


def test_blend_curve_leaves_unlabelled_faces_out(make_pool: MakePool) -> None:
    (partner, fine_tuned), labels = make_pool(candidates=2)
    some = np.where(np.arange(150) < 50, -1, labels)

    curve = blend_curve(partner, fine_tuned, some)

    assert curve.scores == pytest.approx(blend_curve(partner[50:], fine_tuned[50:], labels[50:]).scores)


def test_blend_curve_follows_lines_that_cross_in_one_point() -> None:
    at_zero, at_one = np.array([[0.5, 0.375, 0.25]]), np.array([[0.25, 0.375, 0.5]])  # all three meet at 1/2

    curve = blend_curve(at_one, at_zero, [2])

    assert curve.breakpoints == pytest.approx([0.0, 0.5, 1.0])
    assert curve.scores == pytest.approx([0.0, 1 / 3])


def test_blend_curve_is_never_below_a_grid(make_pool: MakePool) -> None:
    (partner, fine_tuned), labels = make_pool(candidates=2, samples=500, classes=6)

    curve = blend_curve(partner, fine_tuned, labels)

    mixed = (blend(partner, fine_tuned, weight=w) for w in np.linspace(0, 1, 1001))
    assert max(curve.scores.max(), *curve.ends) >= max(macro_f1(labels, m.argmax(axis=1), 6) for m in mixed) - 1e-12


def test_blend_curve_at_its_ends_is_each_network_alone_where_classes_are_level() -> None:
    level, sure = np.array([[0.5, 0.5], [0.5, 0.5]]), np.array([[0.3, 0.7], [0.2, 0.8]])

    curve = blend_curve(level, sure, [0, 0])

    assert (curve.score_at(0.0), curve.score_at(0.999), curve.score_at(1.0)) == (0.0, 0.0, 0.5)


def test_blend_curve_counts_a_face_as_often_as_it_is_drawn(make_pool: MakePool) -> None:
    (partner, fine_tuned), labels = make_pool(candidates=2)
    some, counts = np.where(np.arange(150) < 50, -1, labels), np.arange(150) % 3
    rows = np.repeat(np.arange(50, 150), counts[50:])
    weights = np.linspace(0, 1, 33)

    curve = blend_curve(partner, fine_tuned, some, counts=counts)

    repeated = blend_curve(partner[rows], fine_tuned[rows], labels[rows])
    assert curve.smoothed(weights, window=0.01) == pytest.approx(repeated.smoothed(weights, window=0.01))


def test_blend_curve_names_what_is_not_finite() -> None:
    with pytest.raises(EnsembleError, match="scores must be finite, got nan: candidate 1, sample 0"):
        blend_curve([[np.nan, 0.5]], [[0.5, 0.5]], [0])


def test_smoothed_is_the_mean_over_the_window(make_pool: MakePool) -> None:
    (partner, fine_tuned), labels = make_pool(candidates=2, samples=40)
    curve = blend_curve(partner, fine_tuned, labels)
    inside = np.linspace(0.35, 0.45, 20001)

    smoothed = curve.smoothed(np.array([0.4]), window=0.05)

    assert smoothed[0] == pytest.approx(np.mean([curve.score_at(w) for w in inside]), abs=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_best_blend_weight_is_never_worse_than_either_alone(make_pool: MakePool, seed: int) -> None:
    (partner, fine_tuned), labels = make_pool(candidates=2, samples=60, seed=seed)

    weight = best_blend_weight(partner, fine_tuned, labels)

    curve = blend_curve(partner, fine_tuned, labels)
    assert curve.score_at(weight) >= max(*curve.ends)


def test_best_blend_weight_without_smoothing_is_the_exact_maximum(make_pool: MakePool) -> None:
    (partner, fine_tuned), labels = make_pool(candidates=2)

    weight = best_blend_weight(partner, fine_tuned, labels, window=0)

    mixed = blend(partner, fine_tuned, weight=weight)
    best = blend_curve(partner, fine_tuned, labels).scores.max()
    assert macro_f1(labels, mixed.argmax(axis=1), 4) == pytest.approx(best, abs=1e-12)


def test_best_blend_weight_is_in_the_middle_where_the_weight_does_not_matter(make_pool: MakePool) -> None:
    (probs, _), labels = make_pool(candidates=2)

    assert best_blend_weight(probs, probs, labels) == 0.5


def test_best_blend_weight_takes_a_broad_plateau_over_a_narrow_peak(make_pool: MakePool) -> None:
    (partner, fine_tuned), labels = make_pool(candidates=2, samples=400, seed=3)
    curve = blend_curve(partner, fine_tuned, labels)

    weight = best_blend_weight(partner, fine_tuned, labels)

    grid = np.linspace(0, 1, 1001)
    assert curve.smoothed(np.array([weight]), window=0.05) >= curve.smoothed(grid, window=0.05).max() - 1e-12
