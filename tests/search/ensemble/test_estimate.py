"""The honest estimate, and the interval of a score."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from search.ensemble.estimate import bootstrap_interval, honest_estimate
from search.ensemble.selection import best_single
from spaces.errors import EnsembleError
from trainables.metrics import macro_f1

MakePool = Callable[..., Any]


def select_best(probs: npt.NDArray[Any], labels: npt.NDArray[Any], counts: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return best_single(probs, labels, counts=counts).weights


def test_honest_estimate_of_choosing_among_coins_is_lower_than_their_best_score() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(2, size=120)
    probs = generator.dirichlet([1, 1], size=(30, 120))

    estimate = honest_estimate(probs, labels, select=select_best)

    assert estimate.chosen_on > 0.56
    assert estimate.score == pytest.approx(0.5, abs=0.04)
    assert estimate.interval.low < estimate.score < estimate.interval.high


def test_honest_estimate_of_no_choice_is_near_the_score(make_pool: MakePool) -> None:
    probs, labels = make_pool(candidates=1, samples=600)

    estimate = honest_estimate(probs, labels, select=select_best)

    assert estimate.score == pytest.approx(macro_f1(labels, probs[0].argmax(axis=1), 4), abs=0.02)


def test_honest_estimate_selects_and_scores_on_different_people(make_pool: MakePool) -> None:
    probs, labels = make_pool(samples=200)
    subjects = [f"person {row // 20}" for row in range(200)]
    seen: list[int] = []

    def select(some: npt.NDArray[Any], truth: npt.NDArray[Any], counts: npt.NDArray[Any]) -> npt.NDArray[Any]:
        seen.append(some.shape[1])
        return np.eye(len(some))[0]

    estimate = honest_estimate(probs, labels, subjects, select=select, n_draws=20)

    assert all(n % 20 == 0 and n < 200 for n in seen[:-1])
    assert (estimate.interval.unit, estimate.interval.n_units) == ("subject", 10)


def test_honest_estimate_with_the_default_choice_is_repeatable(make_pool: MakePool) -> None:
    probs, labels = make_pool(candidates=3, samples=40)

    first, second = (honest_estimate(probs, labels, n_draws=2, seed=3) for _ in range(2))

    assert first == second
    assert 0 < first.score < 1


def test_honest_estimate_draws_rows_when_people_are_not_known(make_pool: MakePool) -> None:
    probs, labels = make_pool(samples=60)

    estimate = honest_estimate(probs, labels, [None] * 60, select=select_best, n_draws=5)

    assert (estimate.interval.unit, estimate.interval.n_units) == ("row", 60)


def test_honest_estimate_survives_a_class_with_one_face(make_pool: MakePool) -> None:
    probs, labels = make_pool(samples=60, classes=3)
    labels = np.where(labels == 2, 0, labels)
    labels[0] = 2

    estimate = honest_estimate(probs, labels, select=select_best, n_draws=5)

    assert 0 < estimate.score < 1


def test_honest_estimate_tells_how_far_it_is(make_pool: MakePool) -> None:
    probs, labels = make_pool(samples=60)
    told: list[int] = []

    honest_estimate(probs, labels, select=select_best, n_draws=3, progress=told.append)

    assert told == [1, 2, 3]


def test_honest_estimate_refuses_a_single_face() -> None:
    with pytest.raises(EnsembleError, match="an estimate needs 2 labelled samples or more, got 1"):
        honest_estimate(np.full((1, 1, 2), 0.5), [0])


def test_bootstrap_interval_contains_the_score_and_narrows_with_more_faces() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(3, size=2000)
    preds = np.where(generator.random(2000) < 0.7, labels, generator.integers(3, size=2000))

    few = bootstrap_interval(labels[:100], preds[:100], n_classes=3)
    many = bootstrap_interval(labels, preds, n_classes=3)

    assert many.low < macro_f1(labels, preds, 3) < many.high
    assert many.high - many.low < (few.high - few.low) / 2


def test_bootstrap_interval_is_wider_by_subject_when_people_differ() -> None:
    generator = np.random.default_rng(1)
    people = np.repeat(np.arange(20), 50)
    labels = generator.integers(2, size=1000)
    preds = np.where(generator.random(1000) < generator.uniform(0.2, 1, size=20)[people], labels, 1 - labels)

    by_row = bootstrap_interval(labels, preds, n_classes=2)
    by_subject = bootstrap_interval(labels, preds, [str(person) for person in people], n_classes=2)

    assert by_subject.high - by_subject.low > 2 * (by_row.high - by_row.low)
    assert (by_subject.unit, by_subject.n_units) == ("subject", 20)


def test_bootstrap_interval_by_subject_of_single_faces_equals_that_by_row() -> None:
    generator = np.random.default_rng(2)
    labels, preds = generator.integers(3, size=400), generator.integers(3, size=400)

    by_row = bootstrap_interval(labels, preds, n_classes=3)
    by_subject = bootstrap_interval(labels, preds, [str(row) for row in range(400)], n_classes=3)

    assert [by_subject.low, by_subject.high] == pytest.approx([by_row.low, by_row.high], abs=0.015)


def test_bootstrap_interval_refuses_faces_without_labels() -> None:
    with pytest.raises(EnsembleError, match="labels must name a class for some sample, got 2 samples and none of them"):
        bootstrap_interval([-1, -1], [0, 1], n_classes=2)


def test_bootstrap_interval_names_a_wrong_number_of_subjects() -> None:
    with pytest.raises(EnsembleError, match=r"subjects must be one a sample \(2\), got 1"):
        bootstrap_interval([0, 1], [0, 1], ["a"], n_classes=2)
