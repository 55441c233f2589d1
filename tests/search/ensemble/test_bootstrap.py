"""Draws of people, and the intervals that they give."""

import numpy as np
import numpy.typing as npt
import pytest

from search.ensemble.bootstrap import (
    Draws,
    bootstrap_interval,
    check_draws,
    combine_draws,
    draw_scores,
    percentiles,
)
from search.ensemble.macro_f1 import macro_f1_of_confusions
from spaces.errors import EnsembleError
from trainables.metrics import macro_f1


def confusions_of(*rights: float, n_units: int = 50, seed: int = 0) -> npt.NDArray[np.float64]:
    """[answers, units, classes, classes] of answers that are right about a share of the faces of two classes."""
    generator = np.random.default_rng(seed)
    n_right = np.stack([generator.binomial(4, right, size=(n_units, 2)) for right in rights])
    found = np.zeros((len(rights), n_units, 2, 2))
    for truth in (0, 1):
        found[:, :, truth, truth] = n_right[:, :, truth]
        found[:, :, truth, 1 - truth] = 4 - n_right[:, :, truth]
    return found


def test_draws_are_of_units_with_replacement_and_of_those_left_out() -> None:
    confusions, generator = confusions_of(0.6, 0.8, n_units=9), np.random.default_rng(5)
    drawn = np.random.default_rng(5).integers(9, size=(20, 9))

    found = draw_scores(confusions, n_draws=20, generator=generator)

    assert found.inside.shape == found.outside.shape == (20, 2)
    for draw, units in enumerate(drawn.tolist()):
        left_out = [unit for unit in range(9) if unit not in units]
        assert found.inside[draw] == pytest.approx(macro_f1_of_confusions(confusions[:, units].sum(axis=1)))
        assert found.outside[draw] == pytest.approx(macro_f1_of_confusions(confusions[:, left_out].sum(axis=1)))


def test_draws_lie_around_the_score() -> None:
    confusions = confusions_of(0.7, n_units=300)

    found = draw_scores(confusions, n_draws=400, generator=np.random.default_rng(0))

    score = macro_f1_of_confusions(confusions.sum(axis=1))[0]
    assert found.inside.mean() == pytest.approx(score, abs=0.005)
    assert found.spread(0).mean() == pytest.approx(0)
    assert found.spread(0).std() == pytest.approx(found.inside.std())


def test_standard_error_is_that_of_a_difference_on_the_same_people() -> None:
    confusions = confusions_of(0.7, 0.6)
    same_twice = np.concatenate([confusions, confusions[:1]])

    errors = draw_scores(same_twice, n_draws=300, generator=np.random.default_rng(0)).standard_errors()

    assert errors.shape == (3, 3)
    assert errors == pytest.approx(errors.T)
    assert errors[0, 2] == np.diag(errors).max() == 0
    assert errors[0, 1] > 0


def test_draws_of_two_kinds_become_one() -> None:
    first = Draws(np.array([[0.2, 0.4]]), np.array([[0.1, 0.3]]))
    second = Draws(np.array([[0.6, 0.2]]), np.array([[0.5, 0.5]]))

    mean, worst = combine_draws([first, second], "mean"), combine_draws([first, second], "worst")

    assert mean.inside == pytest.approx(np.array([[0.4, 0.3]]))
    assert worst.inside.tolist() == [[0.2, 0.2]]
    assert worst.outside.tolist() == [[0.1, 0.3]]


def test_percentiles_leave_equal_parts_out() -> None:
    assert percentiles(np.arange(101) / 100, 0.9) == pytest.approx((0.05, 0.95))


@pytest.mark.parametrize(
    ("n_draws", "level"), [(0, 0.9), (10, 0.0), (10, 1.0)], ids=["no draw", "no level", "whole level"]
)
def test_draws_and_level_that_can_not_be_are_refused(n_draws: int, level: float) -> None:
    rule = "draws must be 1 or more and the level between 0 and 1"

    with pytest.raises(EnsembleError, match=f"{rule}, got {n_draws} and {level}"):
        check_draws(n_draws, level)


def test_interval_contains_the_score_and_narrows_with_more_faces() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(3, size=2000)
    preds = np.where(generator.random(2000) < 0.7, labels, generator.integers(3, size=2000))

    few = bootstrap_interval(labels[:100], preds[:100], n_classes=3)
    many = bootstrap_interval(labels, preds, n_classes=3)

    assert many.low < macro_f1(labels, preds, 3) < many.high
    assert many.high - many.low < (few.high - few.low) / 2


def test_interval_is_wider_by_person_when_people_differ() -> None:
    generator = np.random.default_rng(1)
    people = np.repeat(np.arange(20), 50)
    labels = generator.integers(2, size=1000)
    preds = np.where(generator.random(1000) < generator.uniform(0.2, 1, size=20)[people], labels, 1 - labels)

    by_row = bootstrap_interval(labels, preds, n_classes=2)
    by_subject = bootstrap_interval(labels, preds, [str(person) for person in people], n_classes=2)

    assert by_subject.high - by_subject.low > 2 * (by_row.high - by_row.low)
    assert (by_subject.unit, by_subject.n_units) == ("subject", 20)


def test_interval_by_people_of_one_face_each_equals_that_by_face() -> None:
    generator = np.random.default_rng(2)
    labels, preds = generator.integers(3, size=400), generator.integers(3, size=400)

    by_row = bootstrap_interval(labels, preds, n_classes=3)
    by_subject = bootstrap_interval(labels, preds, [str(row) for row in range(400)], n_classes=3)

    assert [by_subject.low, by_subject.high] == pytest.approx([by_row.low, by_row.high], abs=0.015)


def test_interval_leaves_faces_without_a_label_out() -> None:
    whole = bootstrap_interval([0, 1, -1, 1, 0], [0, 1, 1, 0, 0], n_classes=2)
    labelled = bootstrap_interval([0, 1, 1, 0], [0, 1, 0, 0], n_classes=2)

    assert whole == labelled
    assert whole.n_units == 4


def test_interval_refuses_faces_without_labels() -> None:
    with pytest.raises(EnsembleError, match="labels must name a class for some sample, got 2 samples and none of them"):
        bootstrap_interval([-1, -1], [0, 1], n_classes=2)


def test_interval_names_a_wrong_number_of_people() -> None:
    with pytest.raises(EnsembleError, match=r"subjects must be one a sample \(2\), got 1"):
        bootstrap_interval([0, 1], [0, 1], ["a"], n_classes=2)
