"""Macro-F1 of many predictions at once, over a fixed list of classes; agrees with `trainables.metrics`."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spaces.errors import EnsembleError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.integer[Any]]
Scores = npt.NDArray[np.floating[Any]]
"""Probabilities or logits as they come, of float32 or float64."""

SUM_TOLERANCE = 1e-3
"""Probabilities of a sample may miss the sum 1 by so much: they may have been rounded to float16 on their way."""

_CELLS = 1 << 18
"""Numbers that are looked at in one go."""


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


def macro_f1_of_probs(probs: Scores, labels: IntArray, *, counts: IntArray | None = None) -> FloatArray:
    """Macro-F1 of each candidate's most probable class.

    Args:
        probs: [candidates, samples, classes].
        labels: [samples], class indices, none of them -1.
        counts: [samples], how often each sample counts; once when omitted.

    Returns:
        [candidates].
    """
    n_classes = probs.shape[2]
    first_cells = n_classes * labels.astype(np.int64)
    confusions = [
        np.bincount(first_cells + one.argmax(axis=1), weights=counts, minlength=n_classes**2) for one in probs
    ]
    return macro_f1_of_confusions(np.stack(confusions).reshape(-1, n_classes, n_classes))


@dataclass(frozen=True)
class Fault:
    """The first number found that can't stand where it does.

    Attributes:
        candidate: whose it is.
        sample: of which it is.
        rule: what it breaks, as it goes on after the name of the numbers.
        value: what was found.
    """

    candidate: int
    sample: int
    rule: str
    value: float


def find_fault(probs: Scores) -> Fault | None:
    """The first sample of the first candidate whose numbers are no probabilities; None where all are.

    Args:
        probs: [candidates, samples, classes]; finite, not negative, and of the sum 1 over the classes is what they
            have to be.
    """
    for start, block in _blocks(probs):
        with np.errstate(invalid="ignore", over="ignore"):
            sums = np.einsum("msc->ms", block)  # [candidates, samples]; faster than sum
        is_one = sums.min() >= 1 - SUM_TOLERANCE and sums.max() <= 1 + SUM_TOLERANCE  # NaN is neither
        if is_one and block.min() >= 0:
            continue
        fits = (np.abs(sums - 1) <= SUM_TOLERANCE) & (block >= 0).all(axis=2)
        candidate, sample = (int(place) for place in np.argwhere(~fits)[0])
        row = block[candidate, sample].astype(np.float64)
        for rule, broken in (("must be finite", ~np.isfinite(row)), ("must not be negative", row < 0)):
            if broken.any():
                return Fault(start + candidate, sample, rule, float(row[broken][0]))
        return Fault(start + candidate, sample, "must sum to 1 over the classes", float(row.sum()))
    return None


def check_probs(probs: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[Scores, npt.NDArray[np.int64]]:
    """Candidates' probabilities and truth as arrays of the right types, rows without a label (-1) left out.

    Args:
        probs: [candidates, samples, classes]; rows over classes sum to 1.
        labels: [samples], class indices or -1.

    Returns:
        The very array that was given where it is of float32 or float64 and all samples are labelled, else a copy.

    Raises:
        EnsembleError: shapes disagree, nothing is left, a label is no class, or numbers are no probabilities.
    """
    scores, truth = _of_one_shape("probs", probs, labels)
    fault = find_fault(scores)
    if fault is not None:
        raise EnsembleError(
            f"probs {fault.rule}, got {fault.value:g}: candidate {fault.candidate}, sample {fault.sample}"
        )
    return _labelled(scores, truth)


def check_scores(scores: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[Scores, npt.NDArray[np.int64]]:
    """As `check_probs`, of probabilities or logits: all that they have to be is finite.

    Args:
        scores: [candidates, samples, classes].
        labels: [samples], class indices or -1.

    Raises:
        EnsembleError: shapes disagree, nothing is left, a label is no class, or a number is not finite.
    """
    numbers, truth = _of_one_shape("scores", scores, labels)
    for start, block in _blocks(numbers):
        finite = np.isfinite(block)
        if not finite.all():
            candidate, sample, index = (int(place) for place in np.argwhere(~finite)[0])
            value = float(block[candidate, sample, index])
            raise EnsembleError(f"scores must be finite, got {value:g}: candidate {start + candidate}, sample {sample}")
    return _labelled(numbers, truth)


def check_counts(counts: IntArray | None, labels: npt.ArrayLike) -> IntArray:
    """How often each labelled sample counts; once each where nothing is given.

    Args:
        counts: [samples], 0 or more.
        labels: [samples], class indices or -1.

    Raises:
        EnsembleError: there is another number of them, one is negative, or all labelled samples have 0.
    """
    labelled = np.asarray(labels) >= 0
    if counts is None:
        return np.ones(int(labelled.sum()), dtype=np.int64)
    if counts.shape != labelled.shape or (counts < 0).any():
        raise EnsembleError(f"counts must be one a sample ({len(labelled)}), 0 or more, got shape {list(counts.shape)}")
    if not counts[labelled].any():
        raise EnsembleError("counts must be above 0 for some sample with a label, got 0 for all")
    return counts[labelled]


def _blocks(scores: Scores) -> Iterator[tuple[int, Scores]]:
    """Some candidates at a time, with the index of the first."""
    n_at_once = max(1, _CELLS // max(1, scores[0].size))
    for start in range(0, len(scores), n_at_once):
        yield start, scores[start : start + n_at_once]


def _of_one_shape(name: str, scores: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[Scores, npt.NDArray[np.int64]]:
    numbers = np.asarray(scores)
    if numbers.dtype not in (np.float32, np.float64):
        numbers = numbers.astype(np.float64)
    truth = np.asarray(labels).astype(np.int64)
    if numbers.ndim != 3 or numbers.shape[0] == 0 or numbers.shape[2] == 0:
        raise EnsembleError(f"{name} must be [candidates, samples, classes], got shape {list(numbers.shape)}")
    if truth.shape != numbers.shape[1:2]:
        raise EnsembleError(f"labels must have one entry a sample ({numbers.shape[1]}), got {list(truth.shape)}")
    if not (truth >= 0).any():
        raise EnsembleError(f"labels must name a class for some sample, got {len(truth)} samples and none of them")
    if truth.max() >= numbers.shape[2]:
        raise EnsembleError(f"labels must be below the number of classes ({numbers.shape[2]}), got {truth.max()}")
    return numbers, truth


def _labelled(scores: Scores, truth: npt.NDArray[np.int64]) -> tuple[Scores, npt.NDArray[np.int64]]:
    labelled = truth >= 0
    return (scores, truth) if labelled.all() else (scores[:, labelled], truth[labelled])
