"""Macro-F1 of many predictions at once."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from search.ensemble.macro_f1 import check_probs, macro_f1_of_confusions, macro_f1_of_probs
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
        (np.full((1, 1, 2), np.nan), [0], "probs must be finite, got 2 that are not"),
    ],
    ids=["axes", "length", "class", "unlabelled", "nan"],
)
def test_check_probs_names_what_does_not_fit(probs: Any, labels: list[int], message: str) -> None:
    with pytest.raises(EnsembleError, match=message):
        check_probs(probs, labels)
