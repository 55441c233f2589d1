"""Macro-F1 of many predictions at once."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from search.ensemble.macro_f1 import (
    Fault,
    check_counts,
    check_probs,
    check_scores,
    find_fault,
    macro_f1_of_confusions,
    macro_f1_of_probs,
)
from spaces.errors import EnsembleError
from trainables.metrics import confusion_matrix, macro_f1


def test_macro_f1_of_probs_agrees_with_the_metric_of_the_trials(make_pool: Callable[..., Any]) -> None:
    probs, labels = make_pool(classes=5)

    scores = macro_f1_of_probs(probs, labels)

    assert scores == pytest.approx([macro_f1(labels, one.argmax(axis=1), 5) for one in probs], abs=1e-12)


def test_macro_f1_of_probs_counts_a_row_as_often_as_it_is_drawn(make_pool: Callable[..., Any]) -> None:
    probs, labels = make_pool(samples=40)
    counts = np.arange(40) % 3

    scores = macro_f1_of_probs(probs, labels, counts=counts)

    repeated = np.repeat(np.arange(40), counts)
    assert scores == pytest.approx(macro_f1_of_probs(probs[:, repeated], labels[repeated]), abs=1e-12)


def test_macro_f1_counts_a_class_that_is_nowhere_with_zero() -> None:
    confusion = confusion_matrix(np.array([0, 1]), np.array([0, 1]), 4)

    assert macro_f1_of_confusions(confusion) == pytest.approx(0.5)


def test_check_probs_leaves_unlabelled_rows_out() -> None:
    probs = np.full((2, 3, 2), 0.5)

    scores, truth = check_probs(probs, [0, -1, 1])

    assert scores.shape == (2, 2, 2)
    assert truth.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("probs", "labels", "message"),
    [
        (np.zeros((2, 3)), [0, 0, 0], r"probs must be \[candidates, samples, classes\], got shape \[2, 3\]"),
        (np.zeros((1, 3, 2)), [0, 0], r"labels must have one entry a sample \(3\), got \[2\]"),
        (np.zeros((1, 2, 2)), [0, 2], r"labels must be below the number of classes \(2\), got 2"),
        (np.zeros((1, 2, 2)), [-1, -1], "labels must name a class for some sample, got 2 samples and none"),
    ],
    ids=["axes", "length", "class", "unlabelled"],
)
def test_check_probs_names_what_does_not_fit(probs: Any, labels: list[int], message: str) -> None:
    with pytest.raises(EnsembleError, match=message):
        check_probs(probs, labels)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([np.nan, 0.5], "probs must be finite, got nan: candidate 1, sample 2"),
        ([np.inf, -np.inf], "probs must be finite, got inf: candidate 1, sample 2"),
        ([1.25, -0.25], "probs must not be negative, got -0.25: candidate 1, sample 2"),
        ([0.25, 0.5], r"probs must sum to 1 over the classes, got 0\.75: candidate 1, sample 2"),
        ([2.0, 3.0], "probs must sum to 1 over the classes, got 5: candidate 1, sample 2"),
    ],
    ids=["nan", "infinite", "negative", "short", "logits"],
)
def test_check_probs_refuses_what_is_no_probability(row: list[float], message: str, dtype: Any) -> None:
    probs = np.full((3, 4, 2), 0.5, dtype=dtype)
    probs[1, 2] = row

    with pytest.raises(EnsembleError, match=message):
        check_probs(probs, [0, 1, 0, 1])


@pytest.mark.parametrize("missing", [0.0009, -0.0009])
def test_check_probs_allows_for_rounding(missing: float) -> None:
    probs = np.array([[[0.5, 0.5 - missing]]])

    assert check_probs(probs, [0])[0] is probs


def test_fault_is_found_in_a_later_block_under_its_own_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.ensemble.macro_f1._CELLS", 8)
    probs = np.full((5, 3, 2), 0.5)
    probs[4, 1] = [0.5, 0.25]

    assert find_fault(probs) == Fault(4, 1, "must sum to 1 over the classes", 0.75)


def test_probabilities_have_no_fault(make_pool: Callable[..., Any]) -> None:
    probs, _ = make_pool()

    assert find_fault(probs.astype(np.float32)) is None


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("check", [check_probs, check_scores])
def test_check_copies_nothing_where_all_faces_are_labelled(check: Callable[..., Any], dtype: Any) -> None:
    probs = np.full((2, 3, 2), 0.5, dtype=dtype)

    assert check(probs, [0, 1, 1])[0] is probs


def test_check_keeps_single_precision_where_faces_are_left_out() -> None:
    probs = np.full((2, 3, 2), 0.5, dtype=np.float32)

    assert check_probs(probs, [0, -1, 1])[0].dtype == np.float32


def test_check_scores_takes_logits() -> None:
    scores, truth = check_scores([[[3.0, -2.0], [0.0, 9.0]]], [0, -1])

    assert (scores.tolist(), truth.tolist()) == ([[[3.0, -2.0]]], [0])


def test_check_scores_names_what_is_not_finite() -> None:
    scores = np.zeros((2, 3, 2))
    scores[1, 0, 1] = -np.inf

    with pytest.raises(EnsembleError, match="scores must be finite, got -inf: candidate 1, sample 0"):
        check_scores(scores, [0, 1, 1])


def test_check_counts_are_those_of_labelled_faces() -> None:
    assert check_counts(np.array([3, 0, 2]), [0, 1, -1]).tolist() == [3, 0]
    assert check_counts(None, [0, 1, -1]).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([1, 2], r"counts must be one a sample \(3\), 0 or more, got shape \[2\]"),
        ([1, -2, 1], r"counts must be one a sample \(3\), 0 or more, got shape \[3\]"),
        ([0, 0, 5], "counts must be above 0 for some sample with a label, got 0 for all"),
    ],
    ids=["length", "negative", "nothing"],
)
def test_check_counts_names_what_does_not_fit(counts: list[int], message: str) -> None:
    with pytest.raises(EnsembleError, match=message):
        check_counts(np.array(counts), [0, 1, -1])
