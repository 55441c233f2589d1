"""Macro-F1 of many predictions at once, over a fixed list of classes; agrees with `trainables.metrics`."""

from typing import Any

import numpy as np
import numpy.typing as npt

from spaces.errors import EnsembleError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.integer[Any]]


def macro_f1_of_counts(hits: npt.NDArray[Any], n_pred: npt.NDArray[Any], n_true: npt.NDArray[Any]) -> FloatArray:
    """Mean F1 over the classes; a class that is neither true nor predicted anywhere counts with 0.

    Args:
        hits: [..., classes], predictions that are right.
        n_pred: [..., classes], samples predicted to be of the class.
        n_true: [..., classes], samples of the class.

    Returns:
        [...], 0 to 1.
    """
    return np.asarray((2.0 * hits / np.maximum(n_pred + n_true, 1)).mean(axis=-1), dtype=np.float64)


def macro_f1_of_confusions(confusions: npt.NDArray[Any]) -> FloatArray:
    """Macro-F1 of each confusion matrix, [..., classes (truth), classes] to [...]."""
    hits = np.diagonal(confusions, axis1=-2, axis2=-1)
    return macro_f1_of_counts(hits, confusions.sum(axis=-2), confusions.sum(axis=-1))


def macro_f1_of_probs(probs: FloatArray, labels: IntArray, *, counts: IntArray | None = None) -> FloatArray:
    """Macro-F1 of each candidate's most probable class.

    Args:
        probs: [candidates, samples, classes].
        labels: [samples], class indices, none of them -1.
        counts: [samples], how often each sample counts; once when omitted.

    Returns:
        [candidates].
    """
    n_classes = probs.shape[2]
    preds = probs.argmax(axis=2)
    cells = n_classes * labels.astype(np.int64) + preds
    confusions = [np.bincount(row, weights=counts, minlength=n_classes**2) for row in cells]
    return macro_f1_of_confusions(np.stack(confusions).reshape(-1, n_classes, n_classes))


def check_probs(probs: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Candidates' probabilities and truth as arrays of the right types, rows without a label (-1) left out.

    Args:
        probs: [candidates, samples, classes].
        labels: [samples], class indices or -1.

    Raises:
        EnsembleError: shapes disagree, nothing is left, a number is not finite, or a label is no class.
    """
    scores = np.asarray(probs, dtype=np.float64)
    truth = np.asarray(labels).astype(np.int64)
    if scores.ndim != 3 or scores.shape[0] == 0 or scores.shape[2] == 0:
        raise EnsembleError(f"probs must be [candidates, samples, classes], got shape {list(scores.shape)}")
    if truth.shape != scores.shape[1:2]:
        raise EnsembleError(f"labels must have one entry a sample ({scores.shape[1]}), got {list(truth.shape)}")
    labelled = truth >= 0
    if not labelled.any():
        raise EnsembleError(f"labels must name a class for some sample, got {len(truth)} samples and none of them")
    if truth.max() >= scores.shape[2]:
        raise EnsembleError(f"labels must be below the number of classes ({scores.shape[2]}), got {truth.max()}")
    if not np.isfinite(scores).all():
        raise EnsembleError(f"probs must be finite, got {int((~np.isfinite(scores)).sum())} that are not")
    return scores[:, labelled], truth[labelled]
