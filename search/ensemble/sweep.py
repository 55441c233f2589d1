"""Macro-F1 as the step function of one number that it is: a blending weight, a class's bias, a threshold.

As the number rises, samples change from one class to another at places that can be computed. Between two of these
places no prediction changes, so that running counts give the score of every value there is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from search.ensemble.macro_f1 import FloatArray, IntArray, macro_f1_of_counts
from spaces.errors import EnsembleError

NARROWEST = 1e-9
"""Intervals no wider than this are left out: no stored number could hit them."""

SAME = 1e-12
"""Scores this close are equal: they differ by rounding."""


@dataclass(frozen=True, eq=False)
class Changes:
    """Where predictions change as a number rises; each [changes].

    Attributes:
        positions: the number at which a change happens.
        samples: whose prediction it is; its own changes come in the order in which they happen.
        before: class predicted below the position.
        after: class predicted above it.
    """

    positions: FloatArray
    samples: IntArray
    before: IntArray
    after: IntArray


@dataclass(frozen=True, eq=False)
class StepCurve:
    """Macro-F1 at every value of a number.

    Attributes:
        breakpoints: [intervals + 1], rising.
        scores: [intervals], macro-F1 anywhere strictly inside `breakpoints[i]` to `breakpoints[i + 1]`.
        ends: macro-F1 at exactly the first and the last breakpoint, where two classes may be level.
    """

    breakpoints: FloatArray
    scores: FloatArray
    ends: tuple[float, float]

    def score_at(self, value: float) -> float:
        """Macro-F1 at a value (on a breakpoint inside: of the interval that starts there)."""
        if value <= self.breakpoints[0]:
            return self.ends[0]
        if value >= self.breakpoints[-1]:
            return self.ends[1]
        return float(self.scores[int(np.searchsorted(self.breakpoints, value, side="right")) - 1])

    def smoothed(self, values: FloatArray, *, window: float) -> FloatArray:
        """Mean of the curve over value - window to value + window, cut at the curve's ends; [values].

        Args:
            values: [values], within the curve's ends.
            window: half the width of the smoothing; 0 for the curve itself.

        Raises:
            EnsembleError: the window is below 0.
        """
        if not window >= 0:
            raise EnsembleError(f"window must be 0 or more, got {window}")
        if window == 0:
            return np.array([self.score_at(value) for value in values.tolist()])
        area = np.concatenate([[0.0], np.cumsum(self.scores * np.diff(self.breakpoints))])
        low = np.maximum(values - window, self.breakpoints[0])
        high = np.minimum(values + window, self.breakpoints[-1])
        mean = np.interp(high, self.breakpoints, area) - np.interp(low, self.breakpoints, area)
        return np.asarray(mean / (high - low), dtype=np.float64)

    def best(self, window: float) -> float:
        """The middle of the best plateau of the smoothed curve; of equally good ones the widest, then the first.

        Args:
            window: half the width of the smoothing; 0 for the highest interval of the curve itself, which is the luck
                of a narrow one as a rule.

        Raises:
            EnsembleError: the window is below 0.
        """
        if window == 0:
            return _middle_of_best(self.scores, self.breakpoints[:-1], self.breakpoints[1:])
        low, high = self.breakpoints[0], self.breakpoints[-1]
        shifted = [self.breakpoints - window, self.breakpoints + window]
        corners = np.unique(np.clip(np.concatenate([*shifted, [low, high]]), low, high))
        return _middle_of_best(self.smoothed(corners, window=window), corners, corners)


def sweep(
    start: IntArray,
    changes: Changes,
    labels: IntArray,
    *,
    counts: IntArray,
    n_classes: int,
    bounds: tuple[float, float],
    at_bounds: tuple[IntArray, IntArray],
    scored: Sequence[int] | None = None,
) -> StepCurve:
    """The score between any two neighbouring changes of prediction, by running counts.

    Args:
        start: [samples], classes predicted right above the lower bound.
        changes: all there are within the bounds.
        labels: [samples], class indices.
        counts: [samples], how often each sample counts.
        n_classes: length of the fixed class list.
        bounds: lowest and highest value of the number.
        at_bounds: each [samples], classes predicted at exactly these.
        scored: classes whose F1 is averaged; all when omitted.
    """
    classes = slice(None) if scored is None else np.asarray(scored)
    n_true = _count(labels, counts, n_classes)[classes]

    def score(hits: FloatArray, n_pred: FloatArray) -> FloatArray:
        return macro_f1_of_counts(hits[classes].T, n_pred[classes].T, n_true)

    order = np.argsort(changes.positions, kind="stable")
    edges = np.concatenate([[bounds[0]], changes.positions[order], [bounds[1]]])
    wide = np.flatnonzero(np.diff(edges) > NARROWEST)
    before, after = changes.before[order], changes.after[order]
    truth, moving = labels[changes.samples[order]], counts[changes.samples[order]]
    n_pred = _count(start, counts, n_classes)[:, None] + _running(before, moving, after, moving, n_classes)
    lost, gained = moving * (before == truth), moving * (after == truth)
    hits = _count_hits(start, labels, counts, n_classes)[:, None] + _running(before, lost, after, gained, n_classes)
    ends = [float(score(_count_hits(p, labels, counts, n_classes), _count(p, counts, n_classes))) for p in at_bounds]
    breakpoints = np.concatenate([edges[:1], edges[wide[1:]], edges[-1:]])
    return StepCurve(breakpoints, score(hits, n_pred)[wide], (ends[0], ends[1]))


def _middle_of_best(heights: FloatArray, lows: FloatArray, highs: FloatArray) -> float:
    """The middle of the widest run of highest values, the first of equally wide ones.

    Args:
        heights: [steps].
        lows: [steps], where each step begins.
        highs: [steps], where it ends.
    """
    is_best = np.concatenate([[False], heights > heights.max() - SAME, [False]])
    turns = np.flatnonzero(is_best[1:] != is_best[:-1])
    first, last = lows[turns[0::2]], highs[turns[1::2] - 1]
    widest = int(np.argmax(np.round(last - first, 12)))
    return float((first[widest] + last[widest]) / 2)


def _count(preds: IntArray, counts: IntArray, n_classes: int) -> FloatArray:
    """How often each class is predicted, [classes]."""
    return np.asarray(np.bincount(preds, weights=counts, minlength=n_classes), dtype=np.float64)


def _count_hits(preds: IntArray, labels: IntArray, counts: IntArray, n_classes: int) -> FloatArray:
    """How often each class is predicted and right, [classes]."""
    right = preds == labels
    return _count(preds[right], counts[right], n_classes)


def _running(before: IntArray, lost: IntArray, after: IntArray, gained: IntArray, n_classes: int) -> FloatArray:
    """What each class has gained up to each change: [classes, changes + 1], of which the first is 0."""
    moved = np.zeros((n_classes, len(before) + 1))
    places = np.arange(1, len(before) + 1)
    moved[before, places] = -lost
    moved[after, places] = gained
    return np.cumsum(moved, axis=1, out=moved)
