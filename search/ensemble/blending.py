"""Mixing probabilities: the soft vote of many, and the exact blending weight of two."""

import numpy as np
import numpy.typing as npt

from search.ensemble.macro_f1 import FloatArray, IntArray, check_counts, check_scores
from search.ensemble.sweep import Changes, StepCurve, sweep
from spaces.errors import EnsembleError


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
    members = np.asarray(probs)
    if members.ndim != 3 or len(members) == 0:
        raise EnsembleError(f"probs must be [members, samples, classes], got shape {list(members.shape)}")
    if weights is None:
        return np.asarray(members.mean(axis=0, dtype=np.float64))
    shares = np.asarray(weights, dtype=np.float64)
    if shares.shape != (len(members),):
        raise EnsembleError(f"weights must be one a member ({len(members)}), got shape {list(shares.shape)}")
    if not (shares >= 0).all() or abs(shares.sum() - 1) > 1e-6:
        raise EnsembleError(f"weights must be non-negative with the sum 1, got {shares.tolist()}")
    vote = np.zeros(members.shape[1:])
    for member in np.flatnonzero(shares):
        vote += np.multiply(members[member], shares[member], dtype=np.float64)
    return vote


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


def blend_curve(
    partner: npt.ArrayLike, fine_tuned: npt.ArrayLike, labels: npt.ArrayLike, *, counts: IntArray | None = None
) -> StepCurve:
    """Macro-F1 of the blend at every weight there is, exactly.

    Each class's score is a line in the weight, so a sample's prediction follows the upper envelope of as many lines
    as there are classes. The envelopes' corners are the only weights at which a count can change.

    Args:
        partner: [samples, classes], at weight 1; probabilities, or logits like the other's.
        fine_tuned: [samples, classes], at weight 0.
        labels: [samples], class indices; -1 is left out.
        counts: [samples], how often each sample counts; once when omitted.

    Raises:
        EnsembleError: shapes disagree, a number is not finite, or no sample is labelled.
    """
    first, second = _pair(partner, fine_tuned)
    both, truth = check_scores(np.stack([second, first]), labels)
    at_zero, at_one = (np.ascontiguousarray(scores.T) for scores in both)  # [classes, samples]
    preds_at_zero, preds_at_one = both.argmax(axis=2)
    start = _highest_near_an_end(at_zero, preds_at_zero, at_one)
    end = _highest_near_an_end(at_one, preds_at_one, at_zero)
    return sweep(
        start, _envelope_corners(at_zero, at_one - at_zero, start=start, end=end), truth,
        counts=check_counts(counts, labels), n_classes=len(at_zero),
        bounds=(0.0, 1.0), at_bounds=(preds_at_zero, preds_at_one),
    )  # fmt: skip


def best_blend_weight(
    partner: npt.ArrayLike,
    fine_tuned: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    window: float = 0.05,
    counts: IntArray | None = None,
) -> float:
    """The weight in the middle of the best plateau of the smoothed curve; never worse here than either end.

    The exact maximum is the luck of a narrow interval: smoothing costs nothing on new faces and halves the optimism.

    Args:
        partner: [samples, classes], at weight 1; probabilities, or logits like the other's.
        fine_tuned: [samples, classes], at weight 0.
        labels: [samples], class indices; -1 is left out.
        window: half the width of the smoothing, in weight; 0 for the exact maximum.
        counts: [samples], how often each sample counts; once when omitted.

    Raises:
        EnsembleError: shapes disagree, a number is not finite, no sample is labelled, or the window is below 0.
    """
    curve = blend_curve(partner, fine_tuned, labels, counts=counts)
    choices = {weight: curve.score_at(weight) for weight in (curve.best(window), 0.0, 1.0)}
    return max(choices, key=lambda choice: choices[choice])


def _pair(partner: npt.ArrayLike, fine_tuned: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    first, second = np.asarray(partner, dtype=np.float64), np.asarray(fine_tuned, dtype=np.float64)
    if first.ndim != 2 or first.shape != second.shape:
        raise EnsembleError(
            f"both must be [samples, classes] of one shape, got {list(first.shape)} and {list(second.shape)}"
        )
    return first, second


def _highest_near_an_end(heights: FloatArray, first: IntArray, at_the_other_end: FloatArray) -> IntArray:
    """The line on top right beside an end: of those that are level at it, the one that is highest at the other.

    Args:
        heights: [lines, samples], at the end.
        first: [samples], the first of the highest lines there.
        at_the_other_end: [lines, samples].
    """
    is_highest = heights == heights.max(axis=0)
    if np.count_nonzero(is_highest) == len(first):
        return first
    return np.asarray(np.where(is_highest, at_the_other_end, -np.inf).argmax(axis=0))


def _envelope_corners(at_zero: FloatArray, slopes: FloatArray, *, start: IntArray, end: IntArray) -> Changes:
    """Every change of the line on top between 0 and 1.

    A line that is on top at both ends is so all the way.

    Args:
        at_zero: [lines, samples], heights at 0.
        slopes: [lines, samples].
        start: [samples], line on top right above 0.
        end: [samples], line on top right below 1.
    """
    samples, current = np.arange(len(start)), start
    found = [(np.zeros(0), samples[:0], start[:0], start[:0])]
    weight = np.zeros(len(start))
    while (going := np.flatnonzero(current != end)).size:
        samples, current, end, weight = samples[going], current[going], end[going], weight[going]
        at_zero, slopes, columns = at_zero[:, going], slopes[:, going], np.arange(len(going))
        steeper = slopes - slopes[current, columns]  # [lines, samples]
        crossing = at_zero[current, columns] - at_zero
        with np.errstate(divide="ignore", invalid="ignore"):
            crossing /= steeper
        np.copyto(crossing, np.inf, where=steeper <= 0)
        np.maximum(crossing, weight, out=crossing)
        weight = crossing.min(axis=0)
        after = np.where(crossing == weight, steeper, -np.inf).argmax(axis=0)
        after[weight >= 1] = end[weight >= 1]
        jumps = weight < 1
        found.append((weight[jumps], samples[jumps], current[jumps], after[jumps]))
        current = after
    return Changes(*(np.concatenate(column) for column in zip(*found, strict=True)))
