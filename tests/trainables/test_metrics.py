"""Macro-F1 over the fixed class list, beside scikit-learn's."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix as sklearn_confusion
from sklearn.metrics import f1_score

from trainables.metrics import METRIC_MODES, confusion_matrix, f1_per_class, macro_f1


@pytest.mark.parametrize("n_classes", [2, 6, 8], ids=["two", "six", "eight"])
def test_metrics_agree_with_scikit_learn(n_classes: int) -> None:
    generator = np.random.default_rng(n_classes)
    labels = generator.integers(0, n_classes, 200).astype(np.int8)
    preds = np.where(generator.random(200) < 0.5, labels, generator.integers(0, n_classes, 200))
    names = list(range(n_classes))

    confusion = confusion_matrix(labels, preds, n_classes)

    np.testing.assert_array_equal(confusion, sklearn_confusion(labels, preds, labels=names))
    expected = f1_score(labels, preds, labels=names, average=None, zero_division=0)
    np.testing.assert_allclose(f1_per_class(confusion), expected)
    assert macro_f1(labels, preds, n_classes) == pytest.approx(expected.mean())


def test_macro_f1_counts_a_class_that_is_nowhere_as_zero() -> None:
    labels = np.array([0, 0, 1, 1])

    assert macro_f1(labels, labels, 4) == 0.5


def test_macro_f1_leaves_out_rows_without_a_label() -> None:
    labels, preds = np.array([0, 1, -1, -1], np.int8), np.array([0, 1, 0, 1])

    assert macro_f1(labels, preds, 2) == 1.0


def test_confusion_matrix_has_the_truth_in_its_rows() -> None:
    confusion = confusion_matrix(np.array([0, 0, 1], np.int8), np.array([1, 1, 1]), 2)

    assert confusion.tolist() == [[0, 2], [0, 1]]


def test_confusion_matrix_is_right_when_indices_need_more_than_eight_bits() -> None:
    labels = np.full(3, 100, np.int8)

    assert confusion_matrix(labels, labels, 101)[100, 100] == 3


def test_metric_modes_say_which_way_is_better() -> None:
    assert METRIC_MODES["valid/macro_f1"] == "max"
    assert METRIC_MODES["valid/loss"] == "min"
