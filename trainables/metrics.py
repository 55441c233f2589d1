"""Macro-F1 and what it is made of, over a fixed list of classes."""

from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.integer[Any]]
FloatArray = npt.NDArray[np.float64]

METRIC_MODES = {
    "valid/macro_f1": "max",
    "best/macro_f1": "max",
    "valid/p_va": "max",
    "valid/p_au": "max",
    "valid/p_mtl": "max",
    "train/loss": "min",
    "valid/loss": "min",
}
"""Every metric that something may be chosen by, and which way is better."""


def confusion_matrix(labels: IntArray, preds: IntArray, n_classes: int) -> npt.NDArray[np.int64]:
    """Count samples by truth and prediction; samples without a label (-1) are left out.

    Args:
        labels: [samples], class indices.
        preds: [samples], class indices.
        n_classes: length of the fixed class list.

    Returns:
        [classes, classes], rows are the truth.
    """
    labelled = labels >= 0
    pairs = labels[labelled].astype(np.int64) * n_classes + preds[labelled].astype(np.int64)
    return np.bincount(pairs, minlength=n_classes * n_classes).reshape(n_classes, n_classes)


def f1_per_class(confusion: npt.NDArray[np.int64]) -> FloatArray:
    """F1 of each class; 0 for a class that is neither true nor predicted anywhere.

    Args:
        confusion: [classes, classes], rows are the truth.

    Returns:
        [classes], 0 to 1.
    """
    hits = np.diag(confusion).astype(np.float64)
    seen = confusion.sum(axis=0) + confusion.sum(axis=1)
    return np.asarray(2.0 * hits / np.maximum(seen, 1), dtype=np.float64)


def macro_f1(labels: IntArray, preds: IntArray, n_classes: int) -> float:
    """Mean F1 over the fixed class list, absent classes included."""
    return float(f1_per_class(confusion_matrix(labels, preds, n_classes)).mean())
