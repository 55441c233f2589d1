"""One number for each class, added to its log-probability, and the threshold of a yes: exactly, by one sweep each.

More freedom than few faces of a rare class can settle: what a bias gains on the faces it is chosen by is never what it
gains on others.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt

from search.ensemble.macro_f1 import FloatArray, IntArray, check_counts, check_scores, macro_f1_of_probs
from search.ensemble.sweep import SAME, Changes, StepCurve, sweep
from spaces.errors import EnsembleError

LARGEST = 5.0
"""A bias lies between this and its negative: odds of 148 to 1 are as much as a class can need."""

SETTLED = 0.02
"""Of the window: where no bias moves further against the others, the search for them ends."""

ScoredClasses = Literal["both", "yes"]
SCORED: dict[ScoredClasses, tuple[int, ...]] = {"both": (0, 1), "yes": (1,)}
"""Word to the classes of a binary decision whose F1 is averaged; 0 is no, 1 is yes."""


def class_bias_curve(
    log_probs: npt.ArrayLike,
    labels: npt.ArrayLike,
    class_index: int,
    *,
    biases: npt.ArrayLike | None = None,
    counts: IntArray | None = None,
) -> StepCurve:
    """Macro-F1 at every bias of one class from -LARGEST to LARGEST, those of the others standing still.

    A sample changes once, to this class, where its score overtakes the highest of the others.

    Args:
        log_probs: [samples, classes], or logits.
        labels: [samples], class indices; -1 is left out.
        class_index: whose bias varies.
        biases: [classes], of the others; 0 when omitted.
        counts: [samples], how often each sample counts; once when omitted.

    Raises:
        EnsembleError: shapes disagree, a number is not finite, no sample is labelled, or there is no such class.
    """
    scores, truth, times = _checked(log_probs, labels, counts)
    n_classes = scores.shape[1]
    if not 0 <= class_index < n_classes or n_classes < 2:
        raise EnsembleError(f"class_index must be one of 2 classes or more, got {class_index} of {n_classes}")
    shifts = np.zeros(n_classes) if biases is None else np.asarray(biases, dtype=np.float64)
    if shifts.shape != (n_classes,) or not np.isfinite(shifts).all():
        raise EnsembleError(f"biases must be one finite number a class ({n_classes}), got {shifts.tolist()}")
    return _bias_curve(scores, truth, times, biases=shifts, class_index=class_index)


def best_class_biases(
    log_probs: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    rounds: int = 10,
    window: float = 0.5,
    counts: IntArray | None = None,
) -> FloatArray:
    """Biases by coordinate search: class by class the best plateau of its smoothed curve, until they settle.

    Args:
        log_probs: [samples, classes], or logits.
        labels: [samples], class indices; -1 is left out.
        rounds: times that all classes are gone through at most.
        window: half the width of the smoothing, in bias; 0 for exact maxima. In 40 simulated sets of 1,000 faces exact
            maxima made the score here too good by 0.047, a window of 0.5 by 0.020, and were not better elsewhere.
        counts: [samples], how often each sample counts; once when omitted.

    Returns:
        [classes], with the mean 0; all 0 where the ones found are worse than none on these faces.

    Raises:
        EnsembleError: shapes disagree, a number is not finite, no sample is labelled, there are fewer than 2 classes,
            rounds is below 1 or the window below 0.
    """
    if rounds < 1:
        raise EnsembleError(f"rounds must be 1 or more, got {rounds}")
    scores, truth, times = _checked(log_probs, labels, counts)
    n_classes = scores.shape[1]
    if n_classes < 2:
        raise EnsembleError(f"biases need 2 classes or more, got {n_classes}")
    biases = np.zeros(n_classes)
    for _ in range(rounds):
        found = biases.copy()
        for class_index in range(n_classes):
            curve = _bias_curve(scores, truth, times, biases=found, class_index=class_index)
            choice = np.array([curve.best(window), found[class_index]])
            new, old = curve.smoothed(choice, window=window)
            if new > old + SAME:
                found[class_index] = choice[0]
        moved = found - biases
        biases = found
        if np.abs(moved - moved.mean()).max() <= SETTLED * window:
            break
    biases = biases - biases.mean()
    with_and_without = np.stack([scores + biases, scores])
    better, plain = macro_f1_of_probs(with_and_without, truth, counts=times)
    return biases if better >= plain else np.zeros(n_classes)


def threshold_curve(
    probs: npt.ArrayLike, truth: npt.ArrayLike, *, scored: ScoredClasses = "both", counts: IntArray | None = None
) -> StepCurve:
    """F1 of a binary decision at every threshold from 0 to 1; it is a yes from the threshold on.

    Args:
        probs: [samples], probabilities of a yes.
        truth: [samples], 0 or 1; -1 is left out.
        scored: whether F1 is averaged over yes and no, or of yes alone.
        counts: [samples], how often each sample counts; once when omitted.

    Raises:
        EnsembleError: shapes disagree, a number is no probability, or no sample is labelled.
    """
    chances = np.asarray(probs, dtype=np.float64)
    if chances.ndim != 1:
        raise EnsembleError(f"probs must be [samples], got shape {list(chances.shape)}")
    outside = ~((chances >= 0) & (chances <= 1))
    if outside.any():
        raise EnsembleError(f"probs must be between 0 and 1, got {float(chances[outside][0]):g}")
    pairs, labels, times = _checked(np.stack([1 - chances, chances], axis=1), truth, counts)
    of_yes = pairs[:, 1]
    inside = np.flatnonzero((of_yes > 0) & (of_yes < 1))
    yes = np.ones(len(inside), dtype=np.int64)
    return sweep(
        (of_yes > 0).astype(np.int64), Changes(of_yes[inside], inside, yes, 1 - yes), labels,
        counts=times, n_classes=2, scored=SCORED[scored],
        bounds=(0.0, 1.0), at_bounds=(np.ones_like(labels), (of_yes >= 1).astype(np.int64)),
    )  # fmt: skip


def _checked(
    scores: npt.ArrayLike, labels: npt.ArrayLike, counts: IntArray | None
) -> tuple[FloatArray, IntArray, IntArray]:
    """Scores [samples, classes], labels and counts of the labelled samples."""
    numbers = np.asarray(scores, dtype=np.float64)
    if numbers.ndim != 2:
        raise EnsembleError(f"scores must be [samples, classes], got shape {list(numbers.shape)}")
    checked, truth = check_scores(numbers[None], labels)
    return checked[0], truth, check_counts(counts, labels)


def _bias_curve(
    scores: FloatArray, labels: IntArray, counts: IntArray, *, biases: FloatArray, class_index: int
) -> StepCurve:
    own = np.full(len(labels), class_index)
    without = scores + biases
    without[:, class_index] = -np.inf
    rivals = without.argmax(axis=1)
    positions = without.max(axis=1) - scores[:, class_index]
    inside = np.flatnonzero((positions > -LARGEST) & (positions < LARGEST))
    at_bounds = [_preds_with(without, class_index, scores[:, class_index] + bias) for bias in (-LARGEST, LARGEST)]
    return sweep(
        np.where(positions <= -LARGEST, own, rivals), Changes(positions[inside], inside, rivals[inside], own[inside]),
        labels,
        counts=counts, n_classes=scores.shape[1], bounds=(-LARGEST, LARGEST), at_bounds=(at_bounds[0], at_bounds[1]),
    )  # fmt: skip


def _preds_with(scores: FloatArray, class_index: int, column: FloatArray) -> IntArray:
    changed = scores.copy()
    changed[:, class_index] = column
    return np.asarray(changed.argmax(axis=1))
