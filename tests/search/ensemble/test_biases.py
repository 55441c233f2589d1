"""Class biases and thresholds of a yes, exactly."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from search.ensemble.biases import LARGEST, best_class_biases, class_bias_curve, threshold_curve
from spaces.errors import EnsembleError
from trainables.metrics import macro_f1
from trainables.thresholds import best_threshold

MakePool = Callable[..., Any]
Floats = npt.NDArray[np.float64]


def shy_of_rare_classes(seed: int, *, samples: int = 300) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Logits of four classes that are too low for the rarer ones, and labels."""
    generator = np.random.default_rng(seed)
    labels = generator.choice(4, size=samples, p=[0.6, 0.2, 0.15, 0.05])
    logits = generator.normal(size=(samples, 4)) - [0.0, 1.6, 2.0, 3.0]
    logits[np.arange(samples), labels] += 1.5
    return logits, labels


def score(logits: Floats, labels: npt.NDArray[np.int64]) -> float:
    return macro_f1(labels, logits.argmax(axis=1), logits.shape[1])


def decisions(seed: int, *, samples: int = 200) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Probabilities of a yes, and the truth."""
    generator = np.random.default_rng(seed)
    truth = (generator.random(samples) < 0.3).astype(np.int64)
    return np.clip(generator.normal(0.35 + 0.2 * truth, 0.15), 0.001, 0.999), truth


@pytest.mark.parametrize("n_classes", [2, 3, 6])
@pytest.mark.parametrize("seed", range(3))
def test_bias_curve_equals_brute_force_in_every_interval(make_pool: MakePool, n_classes: int, seed: int) -> None:
    (probs,), labels = make_pool(candidates=1, classes=n_classes, seed=seed)
    logs, others = np.log(probs), np.linspace(-0.4, 0.4, n_classes)

    curve = class_bias_curve(logs, labels, n_classes - 1, biases=others)

    middles = (curve.breakpoints[1:] + curve.breakpoints[:-1]) / 2
    expected = [score(logs + np.append(others[:-1], bias), labels) for bias in middles]
    assert len(curve.scores) > 10
    assert curve.scores == pytest.approx(expected, abs=1e-12)


def test_bias_curve_changes_each_sample_at_most_once(make_pool: MakePool) -> None:
    (probs,), labels = make_pool(candidates=1)

    curve = class_bias_curve(np.log(probs), labels, 0)

    assert len(curve.scores) <= len(labels) + 1
    assert (curve.breakpoints[0], curve.breakpoints[-1]) == (-LARGEST, LARGEST)


def test_bias_curve_ends_with_the_predictions_there() -> None:
    logits, labels = np.array([[0.0, -LARGEST], [0.0, 100.0], [0.0, -100.0]]), np.array([1, 1, 0])

    curve = class_bias_curve(logits, labels, 1)

    assert curve.score_at(LARGEST) == score(np.array([[0.0, 0.0], [0.0, 100.0], [0.0, -100.0]]), labels)
    assert len(curve.scores) == 1


def test_bias_curve_leaves_unlabelled_faces_out_and_counts_the_others() -> None:
    logits, labels = shy_of_rare_classes(0)
    some, counts = np.where(np.arange(300) < 100, -1, labels), np.arange(300) % 3
    rows = np.repeat(np.arange(100, 300), counts[100:])

    curve = class_bias_curve(logits, some, 2, counts=counts)

    repeated = class_bias_curve(logits[rows], labels[rows], 2)
    values = np.linspace(-4, 4, 33)
    assert curve.smoothed(values, window=0.1) == pytest.approx(repeated.smoothed(values, window=0.1))


@pytest.mark.parametrize(
    ("class_index", "biases", "message"),
    [
        (4, None, "class_index must be one of 2 classes or more, got 4 of 4"),
        (-1, None, "class_index must be one of 2 classes or more, got -1 of 4"),
        (0, [0.0, 1.0], r"biases must be one finite number a class \(4\), got \[0.0, 1.0\]"),
        (0, [0.0, 1.0, np.inf, 0.0], r"biases must be one finite number a class \(4\), got \[0.0, 1.0, inf, 0.0\]"),
    ],
    ids=["too high", "negative", "length", "infinite"],
)
def test_bias_curve_names_what_does_not_fit(class_index: int, biases: Any, message: str) -> None:
    logits, labels = shy_of_rare_classes(0)

    with pytest.raises(EnsembleError, match=message):
        class_bias_curve(logits, labels, class_index, biases=biases)


def test_bias_curve_refuses_the_logarithm_of_nothing() -> None:
    with pytest.raises(EnsembleError, match="scores must be finite, got -inf: candidate 0, sample 1"):
        class_bias_curve([[0.0, -1.0], [0.0, -np.inf]], [0, 1], 1)


@pytest.mark.parametrize("window", [0.0, 0.1, 0.5], ids=["exact", "narrow", "wide"])
@pytest.mark.parametrize("seed", range(4))
def test_best_biases_are_never_worse_than_none(seed: int, window: float) -> None:
    logits, labels = shy_of_rare_classes(seed, samples=80)

    biases = best_class_biases(logits, labels, window=window)

    assert score(logits + biases, labels) >= score(logits, labels)


def test_best_biases_lift_classes_that_are_predicted_too_rarely() -> None:
    logits, labels = shy_of_rare_classes(0, samples=2000)

    biases = best_class_biases(logits, labels)

    assert score(logits + biases, labels) > score(logits, labels) + 0.05
    assert biases[0] < 0 < biases[3]
    assert biases.mean() == pytest.approx(0)


def test_best_biases_without_smoothing_can_not_be_improved_by_moving_one_class() -> None:
    logits, labels = shy_of_rare_classes(1)

    biases = best_class_biases(logits, labels, window=0, rounds=50)

    curves = [class_bias_curve(logits, labels, index, biases=biases) for index in range(4)]
    assert score(logits + biases, labels) == pytest.approx(max(curve.scores.max() for curve in curves))


def test_best_biases_are_none_where_nothing_can_be_gained() -> None:
    labels = np.arange(40) % 4

    assert best_class_biases(30 * np.eye(4)[labels], labels).tolist() == [0.0] * 4


def test_best_biases_are_the_same_when_repeated() -> None:
    logits, labels = shy_of_rare_classes(2)

    assert best_class_biases(logits, labels).tolist() == best_class_biases(logits, labels).tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"rounds": 0}, "rounds must be 1 or more, got 0"), ({"window": -1.0}, "window must be 0 or more, got -1.0")],
    ids=["rounds", "window"],
)
def test_best_biases_name_an_option_out_of_range(options: dict[str, Any], message: str) -> None:
    logits, labels = shy_of_rare_classes(0)

    with pytest.raises(EnsembleError, match=message):
        best_class_biases(logits, labels, **options)


def test_best_biases_need_two_classes() -> None:
    with pytest.raises(EnsembleError, match="biases need 2 classes or more, got 1"):
        best_class_biases([[0.0]], [0])


@pytest.mark.parametrize("seed", range(6))
def test_threshold_curve_of_yes_agrees_with_the_threshold_that_training_chooses(seed: int) -> None:
    probs, truth = decisions(seed)

    curve = threshold_curve(probs, truth, scored="yes")

    chosen = best_threshold(probs, truth)
    assert curve.scores.max() == pytest.approx(chosen.f1, abs=1e-12)
    assert curve.score_at(chosen.value) == pytest.approx(chosen.f1, abs=1e-12)
    assert curve.best(0) == pytest.approx(chosen.value, abs=1e-12)


def test_threshold_curve_agrees_with_the_bias_of_yes_against_no() -> None:
    probs, truth = decisions(0)
    by_bias = class_bias_curve(np.log(np.stack([1 - probs, probs], axis=1)), truth, 1)

    by_threshold = threshold_curve(probs, truth)

    biases = (by_bias.breakpoints[1:] + by_bias.breakpoints[:-1]) / 2
    scores = [by_threshold.score_at(1 / (1 + np.exp(bias))) for bias in biases]
    assert scores == pytest.approx(by_bias.scores, abs=1e-12)


def test_threshold_curve_says_yes_from_the_threshold_on() -> None:
    curve = threshold_curve([0.0, 0.5, 1.0], [0, 1, 1], scored="yes")

    assert (curve.score_at(0.0), curve.score_at(0.3), curve.score_at(0.7), curve.score_at(1.0)) == pytest.approx(
        (0.8, 1.0, 2 / 3, 2 / 3)
    )


@pytest.mark.parametrize("bad", [1.5, -0.1, np.nan], ids=["above", "below", "nan"])
def test_threshold_curve_refuses_what_is_no_probability(bad: float) -> None:
    with pytest.raises(EnsembleError, match=f"probs must be between 0 and 1, got {bad:g}"):
        threshold_curve([0.5, bad], [0, 1])


def test_threshold_curve_refuses_a_third_answer() -> None:
    with pytest.raises(EnsembleError, match=r"labels must be below the number of classes \(2\), got 2"):
        threshold_curve([0.5, 0.6], [0, 2])
