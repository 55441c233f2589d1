"""Where a probability becomes a yes: the threshold with the best F1, exactly, or on the papers' grid."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spaces.errors import DataError
from trainables.affect_metrics import f1_per_unit
from trainables.metrics import FloatArray

GRID = tuple(tenth / 10 for tenth in range(1, 10))
"""Thresholds that Savchenko 2022 tries for each action unit."""

UNDECIDED = 0.5
"""Threshold of a decision that no known face speaks for."""

SAME = 1e-12
"""Scores this close are equal: they differ by rounding."""


@dataclass(frozen=True)
class Threshold:
    """A yes from `value` on.

    Attributes:
        value: 0 to 1.
        f1: of "yes" on the faces it was chosen by; never the score to expect on others.
    """

    value: float
    f1: float


def best_threshold(scores: npt.NDArray[np.floating], truth: npt.NDArray[Any]) -> Threshold:
    """The threshold with the highest F1, out of all there are: one sort, then running counts.

    It lies in the middle between two neighbouring scores (below the lowest: between 0 and it). Of equally good ones
    it is the one with the widest gap, then the one nearest 0.5.

    Args:
        scores: [samples], probabilities of a yes.
        truth: [samples], 0 or 1; -1 is left out.

    Returns:
        0.5 with an F1 of 0 where no known face is a yes.

    Raises:
        DataError: shapes disagree, or a score is no probability.
    """
    _check(scores, truth)
    known = truth >= 0
    is_yes = truth[known] == 1
    if not is_yes.any():
        return Threshold(UNDECIDED, 0.0)
    values, places = np.unique(scores[known], return_inverse=True)
    hits = _from_the_top(np.bincount(places[is_yes], minlength=len(values)))
    called = _from_the_top(np.bincount(places, minlength=len(values)))
    value, f1 = middle_of_best_plateau(np.insert(values, 0, 0), 2.0 * hits / (called + is_yes.sum()))
    return Threshold(value, f1)


def best_thresholds(scores: npt.NDArray[np.floating], truth: npt.NDArray[np.int8]) -> FloatArray:
    """The exact best threshold of each action unit.

    Args:
        scores: [samples, units], probabilities.
        truth: [samples, units], 0 or 1; -1 is left out.

    Returns:
        [units]; 0.5 for a unit that no known face shows.

    Raises:
        DataError: shapes disagree, or a score is no probability.
    """
    _check(scores, truth)
    chosen = [best_threshold(scores[:, unit], truth[:, unit]).value for unit in range(truth.shape[1])]
    return np.array(chosen, dtype=np.float64)


def grid_thresholds(
    scores: npt.NDArray[np.floating], truth: npt.NDArray[np.int8], grid: Sequence[float] = GRID
) -> FloatArray:
    """The best threshold of each action unit on a grid; the lowest of equally good ones.

    Args:
        scores: [samples, units], probabilities.
        truth: [samples, units], 0 or 1; -1 is left out.
        grid: thresholds to try, rising.

    Returns:
        [units]; 0.5 for a unit that no known face shows.

    Raises:
        DataError: shapes disagree, or a score is no probability.

    Source: Savchenko 2022 (4th ABAW).
    """
    _check(scores, truth)
    f1 = np.stack([f1_per_unit(truth, scores >= value) for value in grid])  # [grid, units]
    chosen = np.asarray(grid, dtype=np.float64)[f1.argmax(axis=0)]
    return np.where((truth == 1).any(axis=0), chosen, UNDECIDED)


def middle_of_best_plateau(edges: npt.NDArray[np.floating], heights: FloatArray) -> tuple[float, float]:
    """The threshold that a step function of it speaks for, and the function's height there.

    Neighbouring steps of one height are one plateau. The widest of the highest is taken; of equally wide ones that
    with its middle nearest 0.5, then the lower. The middle is a number of the edges' own precision, so that it parts
    float32 scores that are neighbours.

    Args:
        edges: [steps + 1], rising, of a floating type.
        heights: [steps], of the thresholds above `edges[i]` up to `edges[i + 1]` itself.
    """
    is_best = np.concatenate([[False], heights >= heights.max() - SAME, [False]])
    turns = np.flatnonzero(is_best[1:] != is_best[:-1])
    low, high = edges[turns[0::2]], edges[turns[1::2]]
    halves = ((low.astype(np.float64) + high) / 2).astype(edges.dtype)
    middles = np.where(halves > low, halves, high).astype(np.float64)
    narrowness = np.round(low.astype(np.float64) - high, 12)
    best = np.lexsort((np.round(abs(middles - 0.5), 12), narrowness))[0]
    return float(middles[best]), float(heights[turns[2 * best]])


def check_probabilities(name: str, scores: npt.NDArray[np.floating]) -> None:
    """Raise DataError where a score is NaN or outside 0..1."""
    outside = ~((scores >= 0) & (scores <= 1))
    if outside.any():
        raise DataError(f"{name} must be probabilities between 0 and 1, got {float(scores[outside][0]):g}")


def _check(scores: npt.NDArray[np.floating], truth: npt.NDArray[Any]) -> None:
    if scores.shape != truth.shape:
        raise DataError(f"scores and truth must have one shape, got {list(scores.shape)} and {list(truth.shape)}")
    check_probabilities("scores", scores)


def _from_the_top(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many stand at each place or above it, [places]."""
    return np.cumsum(counts[::-1])[::-1]
