"""Exact thresholds, beside trying them all with scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from spaces.errors import DataError
from trainables.affect_metrics import p_au
from trainables.thresholds import Threshold, best_threshold, best_thresholds, grid_thresholds, middle_of_best_plateau


def drawn(seed: int, n: int = 60, *, decimals: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Scores with ties that lean towards a truth of which a quarter is not known."""
    generator = np.random.default_rng(seed)
    truth = (generator.random(n) < generator.uniform(0.05, 0.6)).astype(np.int8)
    scores = np.clip(0.3 * truth + generator.uniform(0, 0.8, n), 0, 1).round(decimals)
    return scores, np.where(generator.random(n) < 0.25, -1, truth).astype(np.int8)


def f1_at(threshold: float, scores: np.ndarray, truth: np.ndarray) -> float:
    known = truth >= 0
    return float(f1_score(truth[known], scores[known] >= threshold, zero_division=0))


def f1_of_trying_all(scores: np.ndarray, truth: np.ndarray) -> float:
    edges = np.unique(np.concatenate([[0.0], scores[truth >= 0], [1.0]]))
    return max(f1_at(threshold, scores, truth) for threshold in [0.0, *(edges[1:] + edges[:-1]) / 2, 1.1])


@pytest.mark.parametrize("decimals", [1, 2, 9], ids=["many_ties", "some_ties", "no_ties"])
def test_best_threshold_equals_trying_all_midpoints(decimals: int) -> None:
    for seed in range(6):
        scores, truth = drawn(seed, n=40, decimals=decimals)

        found = best_threshold(scores, truth)

        assert found.f1 == pytest.approx(f1_of_trying_all(scores, truth), abs=1e-12)
        assert f1_at(found.value, scores, truth) == pytest.approx(found.f1, abs=1e-12)


def test_best_threshold_lies_in_the_middle_of_two_scores() -> None:
    found = best_threshold(np.array([0.1, 0.2, 0.6, 0.9]), np.array([0, 0, 1, 1]))

    assert found == Threshold(pytest.approx(0.4), 1.0)


def test_best_threshold_lies_below_the_lowest_score_when_all_are_positive() -> None:
    assert best_threshold(np.array([0.4, 0.8]), np.array([1, 1])) == Threshold(pytest.approx(0.2), 1.0)
    assert best_threshold(np.array([0.0, 0.0]), np.array([1, 0])) == Threshold(0.0, pytest.approx(2 / 3))


def test_best_threshold_prefers_the_widest_gap_then_the_middle() -> None:
    truth = np.array([1, 0, 0, 1])  # F1 2/3 for the highest alone, and for all four

    wide_at_the_top = best_threshold(np.array([0.2, 0.3, 0.4, 0.9]), truth)
    wide_at_the_bottom = best_threshold(np.array([0.4, 0.5, 0.6, 0.7]), truth)
    equally_wide = best_threshold(np.array([0.25, 0.26, 0.5, 0.75]), truth)

    assert wide_at_the_top == Threshold(pytest.approx(0.65), pytest.approx(2 / 3))
    assert wide_at_the_bottom.value == pytest.approx(0.2)
    assert equally_wide.value == pytest.approx(0.625)


def test_best_threshold_parts_float32_scores_that_are_neighbours() -> None:
    high = np.float32(1)
    low = np.nextafter(high, np.float32(0))
    scores = np.array([low, high, low], np.float32)

    found = best_threshold(scores, np.array([0, 1, 0]))

    assert found.f1 == 1.0
    assert (scores >= found.value).tolist() == [False, True, False]
    assert (scores.astype(np.float64) >= found.value).tolist() == [False, True, False]


def test_best_threshold_is_a_half_when_no_positive_is_known() -> None:
    assert best_threshold(np.array([0.1, 0.9, 0.7]), np.array([0, 0, -1])) == Threshold(0.5, 0.0)
    assert best_threshold(np.array([0.1, 0.9]), np.array([-1, -1])) == Threshold(0.5, 0.0)


def test_best_thresholds_never_score_below_the_grid() -> None:
    columns = [drawn(seed, n=80) for seed in range(12)]
    scores = np.stack([column for column, _ in columns], axis=1).astype(np.float32)
    truth = np.stack([column for _, column in columns], axis=1)

    exact, on_grid = best_thresholds(scores, truth), grid_thresholds(scores, truth)

    assert exact.shape == on_grid.shape == (12,) and exact.dtype == np.float64
    for unit in range(12):
        at_exact = f1_at(exact[unit], scores[:, unit], truth[:, unit])
        assert at_exact >= f1_at(on_grid[unit], scores[:, unit], truth[:, unit]) - 1e-12
    exact_score, grid_score = p_au(truth, scores >= exact), p_au(truth, scores >= on_grid)
    assert exact_score is not None and grid_score is not None and exact_score > grid_score


def test_grid_thresholds_are_the_best_of_the_grid() -> None:
    scores, truth = drawn(4)

    found = grid_thresholds(scores[:, None], truth[:, None])[0]

    f1 = [f1_at(tenth / 10, scores, truth) for tenth in range(1, 10)]
    assert found == (1 + int(np.argmax(f1))) / 10


def test_grid_thresholds_are_the_lowest_of_equally_good_ones() -> None:
    scores, truth = np.array([[0.15], [0.85]]), np.array([[0], [1]], np.int8)

    assert grid_thresholds(scores, truth).tolist() == [0.2]
    assert grid_thresholds(scores, truth, grid=(0.3, 0.7)).tolist() == [0.3]


def test_thresholds_are_a_half_for_units_that_nobody_shows() -> None:
    scores = np.array([[0.2, 0.2, 0.2], [0.8, 0.8, 0.8]])
    truth = np.array([[0, 0, -1], [1, 0, -1]], np.int8)

    np.testing.assert_allclose(best_thresholds(scores, truth), [0.5, 0.5, 0.5])
    np.testing.assert_allclose(grid_thresholds(scores, truth), [0.3, 0.5, 0.5])


def test_plateau_is_made_of_neighbouring_steps_of_one_height() -> None:
    edges = np.array([0.0, 0.1, 0.2, 0.35, 0.7, 0.9])

    assert middle_of_best_plateau(edges, np.array([3.0, 1, 3, 3, 1])) == (pytest.approx(0.45), 3.0)
    assert middle_of_best_plateau(edges, np.array([1.0, 3, 3, 1, 1])) == (pytest.approx(0.225), 3.0)


def test_thresholds_want_probabilities_of_one_shape() -> None:
    with pytest.raises(DataError, match=r"scores must be probabilities between 0 and 1, got 1\.5"):
        best_threshold(np.array([0.2, 1.5]), np.array([0, 1]))
    with pytest.raises(DataError, match="scores must be probabilities between 0 and 1, got nan"):
        grid_thresholds(np.array([[np.nan]]), np.array([[1]], np.int8))
    with pytest.raises(DataError, match=r"scores and truth must have one shape, got \[3, 2\] and \[3, 1\]"):
        best_thresholds(np.zeros((3, 2)), np.zeros((3, 1), np.int8))
