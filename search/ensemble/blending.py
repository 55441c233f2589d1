"""Mixing probabilities: the soft vote of many, and the exact blending weight of two."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from search.ensemble.macro_f1 import FloatArray, IntArray, check_probs, macro_f1_of_counts
from spaces.errors import EnsembleError

NARROWEST = 1e-9
"""Intervals of the blending weight below this width are merged: no stored weight could hit them."""


def soft_vote(probs: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> FloatArray:
    """Average the members' class probabilities.

    Args:
        probs: [members, samples, classes]; rows over classes sum to 1.
        weights: [members], non-negative, summing to 1. Equal when omitted.

    Returns:
        [samples, classes], rows summing to 1.

    Raises:
        EnsembleError: shapes disagree, a weight is negative, or they do not sum to 1.

    Source: Caruana et al., ICML 2004.
    """
    members = np.asarray(probs, dtype=np.float64)
    if members.ndim != 3 or len(members) == 0:
        raise EnsembleError(f"probs must be [members, samples, classes], got shape {list(members.shape)}")
    if weights is None:
        return np.asarray(members.mean(axis=0), dtype=np.float64)
    shares = np.asarray(weights, dtype=np.float64)
    if shares.shape != (len(members),):
        raise EnsembleError(f"weights must be one a member ({len(members)}), got shape {list(shares.shape)}")
    if not (shares >= 0).all() or abs(shares.sum() - 1) > 1e-6:
        raise EnsembleError(f"weights must be non-negative with the sum 1, got {shares.tolist()}")
    used = np.flatnonzero(shares)
    return np.asarray(np.tensordot(shares[used], members[used], axes=1), dtype=np.float64)


def blend(partner: npt.ArrayLike, fine_tuned: npt.ArrayLike, *, weight: float) -> FloatArray:
    """Mix two networks' probabilities: weight * partner + (1 - weight) * fine_tuned.

    Args:
        partner: [samples, classes], of the network that was there before.
        fine_tuned: [samples, classes], of the fine-tuned one.
        weight: of the partner, 0 to 1.

    Raises:
        EnsembleError: the shapes differ, or the weight is outside 0..1.

    Source: Savchenko, CVPR-W 2022 (section 3.2, on probabilities).
    """
    first, second = _pair(partner, fine_tuned)
    if not 0 <= weight <= 1:
        raise EnsembleError(f"blending weight must be between 0 and 1, got {weight}")
    return np.asarray(weight * first + (1 - weight) * second, dtype=np.float64)


@dataclass(frozen=True)
class BlendCurve:
    """Macro-F1 as the step function of the blending weight that it is.

    Attributes:
        breakpoints: [intervals + 1], rising from 0 to 1.
        scores: [intervals], macro-F1 anywhere strictly inside `breakpoints[i]` to `breakpoints[i + 1]`.
    """

    breakpoints: FloatArray
    scores: FloatArray

    def score_at(self, weight: float) -> float:
        """Macro-F1 at a weight (on a breakpoint: of the interval that starts there)."""
        interval = int(np.searchsorted(self.breakpoints, weight, side="right")) - 1
        return float(self.scores[min(max(interval, 0), len(self.scores) - 1)])

    def smoothed(self, weights: FloatArray, *, window: float) -> FloatArray:
        """Mean of the curve over weight - window to weight + window, cut at 0 and 1; [weights]."""
        area = np.concatenate([[0.0], np.cumsum(self.scores * np.diff(self.breakpoints))])
        low, high = np.maximum(weights - window, 0.0), np.minimum(weights + window, 1.0)
        mean = np.interp(high, self.breakpoints, area) - np.interp(low, self.breakpoints, area)
        return np.asarray(mean / (high - low), dtype=np.float64)


def blend_curve(partner: npt.ArrayLike, fine_tuned: npt.ArrayLike, labels: npt.ArrayLike) -> BlendCurve:
    """Macro-F1 of the blend at every weight there is, exactly.

    Each class's score is a line in the weight, so a sample's prediction follows the upper envelope of as many lines
    as there are classes. The envelopes' corners are the only weights at which a count can change.

    Args:
        partner: [samples, classes], at weight 1.
        fine_tuned: [samples, classes], at weight 0.
        labels: [samples], class indices; -1 is left out.

    Raises:
        EnsembleError: shapes disagree, or no sample is labelled.
    """
    first, second = _pair(partner, fine_tuned)
    both, truth = check_probs(np.stack([first, second]), labels)
    at_zero, slopes = both[1], both[0] - both[1]
    start = _steepest_of_the_highest(at_zero, slopes)
    weights, samples, old, new = _envelope_corners(at_zero, slopes, start)
    order = np.argsort(weights, kind="stable")
    weights, samples, old, new = weights[order], samples[order], old[order], new[order]

    n_classes = at_zero.shape[1]
    classes = np.arange(n_classes)
    gained, lost = new[:, None] == classes, old[:, None] == classes  # [corners, classes]
    is_true = truth[samples][:, None] == classes
    n_pred = np.bincount(start, minlength=n_classes) + _running(gained.astype(np.int64) - lost)
    hits_at_zero = np.bincount(truth[start == truth], minlength=n_classes)
    hits = hits_at_zero + _running((gained & is_true).astype(np.int64) - (lost & is_true))
    scores = macro_f1_of_counts(hits, n_pred, np.bincount(truth, minlength=n_classes))

    edges = np.concatenate([[0.0], weights, [1.0]])
    wide = np.flatnonzero(np.diff(edges) > NARROWEST)
    breakpoints = np.concatenate([[0.0], edges[wide[1:]], [1.0]])
    return BlendCurve(breakpoints=breakpoints, scores=scores[wide])


def best_blend_weight(
    partner: npt.ArrayLike, fine_tuned: npt.ArrayLike, labels: npt.ArrayLike, *, window: float = 0.05
) -> float:
    """The weight in the middle of the best plateau of the smoothed curve; never worse here than either end.

    The exact maximum is the luck of a narrow interval: smoothing costs nothing on new faces and halves the optimism.

    Args:
        partner: [samples, classes], at weight 1.
        fine_tuned: [samples, classes], at weight 0.
        labels: [samples], class indices; -1 is left out.
        window: half the width of the smoothing, in weight.
    """
    curve = blend_curve(partner, fine_tuned, labels)
    shifted = [curve.breakpoints - window, curve.breakpoints + window]
    corners = np.unique(np.clip(np.concatenate([*shifted, [0.0, 1.0]]), 0.0, 1.0))
    smoothed = curve.smoothed(corners, window=window)
    best = int(np.argmax(smoothed > smoothed.max() - 1e-12))
    end = best
    while end + 1 < len(corners) and smoothed[end + 1] > smoothed.max() - 1e-12:
        end += 1
    weight = float((corners[best] + corners[end]) / 2)
    choices = {weight: curve.score_at(weight), 0.0: float(curve.scores[0]), 1.0: float(curve.scores[-1])}
    return max(choices, key=lambda choice: choices[choice])


def _pair(partner: npt.ArrayLike, fine_tuned: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    first, second = np.asarray(partner, dtype=np.float64), np.asarray(fine_tuned, dtype=np.float64)
    if first.ndim != 2 or first.shape != second.shape:
        raise EnsembleError(
            f"both must be [samples, classes] of one shape, got {list(first.shape)} and {list(second.shape)}"
        )
    return first, second


def _running(changes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Counts before the first change and after each: [changes + 1, classes]."""
    return np.concatenate([np.zeros_like(changes, shape=(1, changes.shape[1])), np.cumsum(changes, axis=0)])


def _steepest_of_the_highest(heights: FloatArray, slopes: FloatArray) -> npt.NDArray[np.int64]:
    highest = heights == heights.max(axis=1, keepdims=True)
    return np.asarray(np.where(highest, slopes, -np.inf).argmax(axis=1), dtype=np.int64)


def _envelope_corners(
    at_zero: FloatArray, slopes: FloatArray, start: npt.NDArray[np.int64]
) -> tuple[FloatArray, IntArray, IntArray, IntArray]:
    """Every change of prediction between 0 and 1: weight, sample, class before, class after; each [corners]."""
    active = np.arange(len(start))
    current, weight = start.copy(), np.zeros(len(start))
    found: list[tuple[FloatArray, IntArray, IntArray, IntArray]] = []
    while len(active):
        rows, line = np.arange(len(active)), current[active]
        steeper = slopes[active] - slopes[active, line][:, None]  # [active, classes]
        below = at_zero[active, line][:, None] - at_zero[active]
        with np.errstate(divide="ignore", invalid="ignore"):
            crossing = np.where(steeper > 0, below / steeper, np.inf)
        crossing = np.maximum(crossing, weight[active][:, None])
        after = np.where(crossing == crossing.min(axis=1, keepdims=True), steeper, -np.inf).argmax(axis=1)
        at = crossing[rows, after]
        jumps = at < 1
        active, at, line, after = active[jumps], at[jumps], line[jumps], after[jumps]
        found.append((at, active, line, after))
        current[active], weight[active] = after, at
    weights, samples, old, new = (np.concatenate(column) for column in zip(*found, strict=True))
    return weights, samples, old, new
