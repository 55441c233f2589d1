"""One temperature, and how far confidence and truth lie apart."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from search.ensemble.calibration import (
    BOUNDS,
    N_BINS,
    calibrate,
    calibration_error,
    fit_temperature,
    log_loss,
    reliability,
    tempered,
)

Answers = tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]


def calibrated(n: int = 3000, *, seed: int = 0) -> Answers:
    """Probabilities [samples, 4], and labels drawn by them."""
    generator = np.random.default_rng(seed)
    probs = generator.dirichlet([0.6] * 4, size=n)
    labels = (generator.random((n, 1)) > np.cumsum(probs, axis=1)).sum(axis=1)
    return probs, np.minimum(labels, 3)


def test_overconfident_answers_are_cooled_and_err_less() -> None:
    probs, labels = calibrated()
    overconfident = tempered(probs, 1 / 2.5)

    found = calibrate(overconfident, labels, np.arange(len(labels)))

    assert found.temperature == pytest.approx(2.5, rel=0.08)
    assert found.error[1] < found.error[0] / 2
    assert found.log_loss[1] < found.log_loss[0]
    assert found.log_loss[0] == pytest.approx(log_loss(overconfident, labels))


def test_shy_answers_are_sharpened() -> None:
    probs, labels = calibrated()

    found = calibrate(tempered(probs, 3.0), labels, np.arange(len(labels)))

    assert found.temperature == pytest.approx(1 / 3, rel=0.08)


@pytest.mark.parametrize("seed", range(4))
def test_calibrated_answers_stay_as_they_are_or_nearly_so(seed: int) -> None:
    probs, labels = calibrated(seed=seed)

    found = calibrate(probs, labels, np.arange(len(labels)))

    assert found.temperature == pytest.approx(1.0, abs=0.08)
    assert found.log_loss[1] <= found.log_loss[0]


def test_temperature_is_1_where_fitting_does_not_help_people_left_out() -> None:
    probs, labels = np.tile([0.7, 0.3], (20, 1)), np.tile([0] * 7 + [1] * 3, 2)

    found = calibrate(probs, labels, np.arange(20) // 10)

    assert found.temperature == 1.0
    assert found.log_loss[0] == found.log_loss[1]
    assert found.bins[0] == found.bins[1]


def test_temperature_is_1_where_nobody_can_be_left_out() -> None:
    probs, labels = calibrated(50)

    found = calibrate(tempered(probs, 0.2), labels, np.zeros(50, dtype=np.int64))

    assert found.temperature == 1.0
    assert found.error[0] == found.error[1]


def test_calibration_leaves_whole_people_out() -> None:
    """Each person's faces agree with each other and with nobody else's: nothing is learned of people left out."""
    people = np.repeat(np.arange(2), 200)
    sure = np.tile([0.9, 0.1], (400, 1))
    labels = np.where(people == 0, 0, np.arange(400) % 2)

    by_person = calibrate(sure, labels, people)
    by_face = calibrate(sure, labels, np.arange(400))

    assert by_person.temperature == 1.0 < by_face.temperature


def test_temperature_is_fitted_to_the_lowest_log_loss() -> None:
    probs, labels = calibrated(500)

    fitted = fit_temperature(tempered(probs, 0.5), labels)

    grid = np.exp(np.linspace(*np.log(BOUNDS), 400))
    losses = [log_loss(tempered(probs, 0.5 * temperature), labels) for temperature in grid.tolist()]
    assert fitted == pytest.approx(grid[np.argmin(losses)], rel=0.03)


@pytest.mark.parametrize(("right", "bound"), [(True, BOUNDS[0]), (False, BOUNDS[1])], ids=["separable", "all wrong"])
def test_temperature_stays_within_bounds(right: bool, bound: float) -> None:
    labels = np.arange(60) % 3
    said = labels if right else (labels + 1) % 3
    probs = np.full((60, 3), 0.15) + 0.55 * np.eye(3)[said]

    fitted = fit_temperature(probs, labels)

    assert BOUNDS[0] <= fitted <= BOUNDS[1]
    assert fitted == pytest.approx(bound, rel=0.01)
    assert np.isfinite(calibrate(probs, labels, np.arange(60)).log_loss).all()


def test_answers_of_one_hot_numbers_can_be_calibrated() -> None:
    labels = np.arange(60) % 3
    said = np.where(np.arange(60) < 45, labels, (labels + 1) % 3)

    found = calibrate(np.eye(3)[said], labels, np.arange(60))

    assert BOUNDS[0] <= found.temperature <= BOUNDS[1]
    assert found.log_loss[1] < found.log_loss[0]


@pytest.mark.parametrize("temperature", [0.05, 0.4, 1.0, 3.0, 20.0])
def test_tempering_keeps_the_answer_and_the_sum(temperature: float) -> None:
    probs = np.random.default_rng(0).dirichlet([0.3] * 6, size=2000)

    after = tempered(probs, temperature)

    assert after.argmax(axis=1).tolist() == probs.argmax(axis=1).tolist()
    assert after.sum(axis=1) == pytest.approx(np.ones(2000))


def test_tempering_by_1_changes_nothing() -> None:
    probs = np.array([[0.2, 0.8], [0.0, 1.0]])

    assert tempered(probs, 1.0).tolist() == probs.tolist()


def test_reliability_counts_every_face_once() -> None:
    probs, labels = calibrated(500)

    bins = reliability(probs, labels)

    assert sum(one.n for one in bins) == 500
    assert len(bins) <= N_BINS
    assert [one.confidence for one in bins] == sorted(one.confidence for one in bins)
    right = sum(one.n * one.accuracy for one in bins)
    assert right == pytest.approx((probs.argmax(axis=1) == labels).sum())


def test_reliability_of_sure_answers_is_one_bin() -> None:
    (only,) = reliability(np.array([[1.0, 0.0]] * 4), np.array([0, 0, 0, 1]))

    assert (only.confidence, only.accuracy, only.n) == (1.0, 0.75, 4)


@pytest.mark.parametrize(
    ("probs", "labels", "error"),
    [([[1.0, 0.0]] * 4, [0, 0, 0, 1], 0.25), ([[0.5, 0.5]] * 4, [0, 0, 1, 1], 0.0), ([[0.6, 0.4]] * 2, [1, 1], 0.6)],
    ids=["too sure", "as sure as right", "always wrong"],
)
def test_calibration_error_is_how_far_confidence_and_truth_lie_apart(probs: Any, labels: Any, error: float) -> None:
    assert calibration_error(np.array(probs), np.array(labels)) == pytest.approx(error)


def test_log_loss_of_what_was_held_impossible_is_finite() -> None:
    assert log_loss(np.array([[1.0, 0.0]]), np.array([1])) == pytest.approx(-np.log(1e-12))
