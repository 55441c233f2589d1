"""A score as the step function of one number."""

from typing import Any

import numpy as np
import pytest

from search.ensemble.sweep import Changes, StepCurve, sweep
from spaces.errors import EnsembleError
from trainables.metrics import macro_f1


def make_changes(*changes: tuple[float, int, int, int]) -> Changes:
    """From (position, sample, before, after) each."""
    positions, samples, before, after = zip(*changes, strict=True) if changes else ((), (), (), ())
    return Changes(np.array(positions, dtype=float), *(np.array(each, dtype=int) for each in (samples, before, after)))


def curve_of(*changes: tuple[float, int, int, int], start: list[int], labels: list[int], **options: Any) -> StepCurve:
    """On 0 to 1, of three classes, with the last predictions at the upper end."""
    last = np.array(start)
    for _, sample, _, after in sorted(changes, key=lambda change: change[0]):
        last[sample] = after
    settings = {"counts": np.ones(len(labels), dtype=int), "n_classes": 3, "bounds": (0.0, 1.0)} | options
    return sweep(
        np.array(start), make_changes(*changes), np.array(labels), at_bounds=(np.array(start), last), **settings
    )


def make_curve(*steps: tuple[float, float], high: float = 1.0) -> StepCurve:
    """From (begin, score) each."""
    begins, scores = zip(*steps, strict=True)
    return StepCurve(np.array([*begins, high]), np.array(scores), (scores[0], scores[-1]))


def test_curve_changes_with_the_predictions_and_only_there() -> None:
    curve = curve_of((0.7, 0, 1, 2), (0.2, 1, 0, 1), start=[1, 0, 2], labels=[2, 1, 2])

    preds = [[1, 0, 2], [1, 1, 2], [2, 1, 2]]
    assert curve.breakpoints.tolist() == [0.0, 0.2, 0.7, 1.0]
    assert curve.scores == pytest.approx([macro_f1(np.array([2, 1, 2]), np.array(each), 3) for each in preds])


def test_curve_follows_a_sample_that_changes_twice_at_one_place() -> None:
    curve = curve_of((0.5, 0, 0, 1), (0.5, 0, 1, 2), start=[0, 1], labels=[2, 1])

    assert curve.breakpoints.tolist() == [0.0, 0.5, 1.0]
    assert curve.scores == pytest.approx([1 / 3, 2 / 3])


def test_curve_leaves_intervals_out_that_no_number_could_hit() -> None:
    curve = curve_of((0.5, 0, 0, 1), (0.5 + 5e-10, 0, 1, 2), start=[0], labels=[1])

    assert curve.breakpoints == pytest.approx([0.0, 0.5, 1.0])
    assert curve.scores.tolist() == [0.0, 0.0]


def test_curve_counts_a_sample_as_often_as_it_is_drawn() -> None:
    changes = [(0.3, 0, 0, 1), (0.6, 1, 1, 2)]

    counted = curve_of(*changes, start=[0, 1], labels=[1, 1], counts=np.array([2, 1]))

    repeated = curve_of(*changes, (0.3, 2, 0, 1), start=[0, 1, 0], labels=[1, 1, 1])
    assert counted.scores.tolist() == repeated.scores.tolist()


def test_curve_of_some_classes_averages_their_f1_alone() -> None:
    curve = curve_of((0.5, 0, 0, 1), start=[0, 0], labels=[1, 0], scored=[1])

    assert curve.scores.tolist() == [0.0, 1.0]


def test_curve_without_changes_is_one_interval() -> None:
    curve = curve_of(start=[0, 1], labels=[0, 2])

    assert curve.breakpoints.tolist() == [0.0, 1.0]
    assert curve.score_at(0.3) == pytest.approx(1 / 3)


def test_score_at_the_very_ends_is_that_of_the_predictions_there() -> None:
    level_at_the_ends = (np.array([1]), np.array([2]))
    labels, counts = np.array([0]), np.array([1])

    curve = sweep(
        np.array([0]), make_changes(), labels,
        counts=counts, n_classes=3, bounds=(0.0, 1.0), at_bounds=level_at_the_ends,
    )  # fmt: skip

    assert (curve.score_at(0.0), curve.score_at(0.5), curve.score_at(1.0)) == (0.0, pytest.approx(1 / 3), 0.0)


@pytest.mark.parametrize(("value", "score"), [(-1.0, 0.1), (0.2, 0.1), (0.4, 0.9), (0.5, 0.9), (2.0, 0.3)])
def test_score_at_is_that_of_the_interval_that_starts_there(value: float, score: float) -> None:
    curve = make_curve((0.0, 0.1), (0.4, 0.9), (0.6, 0.3))

    assert curve.score_at(value) == score


def test_smoothed_is_the_mean_over_the_window_cut_at_the_ends() -> None:
    curve = make_curve((0.0, 0.2), (0.5, 0.6))

    smoothed = curve.smoothed(np.array([0.0, 0.45, 1.0]), window=0.1)

    assert smoothed == pytest.approx([0.2, 0.2 * 0.75 + 0.6 * 0.25, 0.6])


def test_smoothed_without_a_window_is_the_curve() -> None:
    curve = make_curve((0.0, 0.2), (0.5, 0.6))

    assert curve.smoothed(np.array([0.1, 0.9]), window=0).tolist() == [0.2, 0.6]


def test_best_is_on_the_broad_plateau_where_smoothed_and_on_the_narrow_peak_where_not() -> None:
    curve = make_curve((0.0, 0.1), (0.10, 0.9), (0.11, 0.1), (0.5, 0.8), (0.9, 0.1))

    assert curve.best(0.05) == pytest.approx(0.7)
    assert curve.best(0) == pytest.approx(0.105)


def test_best_takes_the_widest_of_equally_high_plateaus() -> None:
    curve = make_curve((0.0, 0.9), (0.1, 0.2), (0.3, 0.9), (0.4, 0.9), (0.7, 0.2))

    assert curve.best(0) == pytest.approx(0.5)


def test_best_of_a_flat_curve_is_in_its_middle() -> None:
    assert make_curve((-5.0, 0.4), high=5.0).best(0.5) == 0.0


@pytest.mark.parametrize("window", [-0.1, float("nan")], ids=["negative", "nan"])
def test_best_refuses_a_window_below_zero(window: float) -> None:
    with pytest.raises(EnsembleError, match=f"window must be 0 or more, got {window}"):
        make_curve((0.0, 0.1)).best(window)
