"""The hand rule, "a face with a hand is called fear": its exact best threshold and exceptions, and an honest score.

What is tuned here is chosen on the valid split, and its macro-F1 there is too high: Miao et al. found the rule itself
by looking at mistakes on the faces they report. `cross_fitted_hand_rule` says what to expect of it on other people.

Source: Miao et al. 2022, Hand-Assisted Expression Recognition Method from Synthetic Images (4th ABAW).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from spaces.errors import ConfigError, DataError
from trainables.metrics import FloatArray, IntArray, confusion_matrix, macro_f1
from trainables.thresholds import SAME, check_probabilities, middle_of_best_plateau

NEVER = 2.0
"""The threshold of a rule that changes no face: no probability reaches it."""

MOST_CLASSES = 10
"""Every set of exceptions is tried, 2^(classes - 1) of them, up to this many classes."""

Hands = npt.NDArray[np.floating]


@dataclass(frozen=True)
class HandRule:
    """A face with a hand is called `target`, unless its class is an exception.

    Attributes:
        target: index of the class.
        threshold: probability from which on a hand counts as seen; NEVER switches the rule off.
        exceptions: indices of the classes that are left alone, rising.
    """

    target: int
    threshold: float
    exceptions: tuple[int, ...] = ()

    def preds(self, answers: npt.NDArray[np.number], hand_probs: Hands) -> npt.NDArray[np.int64]:
        """The classes after the rule, [samples].

        Args:
            answers: the network's logits or probabilities [samples, classes], or its preds [samples].
            hand_probs: [samples], probability of a hand.
        """
        preds = answers.argmax(axis=1) if answers.ndim == 2 else answers
        is_called = (hand_probs >= self.threshold) & ~np.isin(preds, self.exceptions)
        return np.where(is_called, self.target, preds).astype(np.int64)


def best_hand_threshold(
    labels: IntArray,
    preds: IntArray,
    hand_probs: Hands,
    *,
    n_classes: int,
    target: int,
    exceptions: Iterable[int] = (),
) -> tuple[HandRule, float]:
    """The rule with the highest macro-F1, out of all thresholds there are.

    The threshold lies in the middle of the best plateau: of equally high ones the widest, then the one nearest 0.5.
    It is NEVER where no threshold beats leaving the preds as they are. One sort, then running counts.

    Args:
        labels: [samples], class indices; -1 is left out.
        preds: [samples], class indices before the rule.
        hand_probs: [samples], probability of a hand.
        n_classes: length of the fixed class list.
        target: index of the class that a face with a hand is called.
        exceptions: indices of the classes that are left alone.

    Returns:
        The rule, and its macro-F1 on these faces; never the score to expect on others.

    Raises:
        ConfigError: target or an exception is no class.
        DataError: shapes disagree, no face is labelled, or a hand's probability is none.
    """
    kept = tuple(sorted(set(exceptions)))
    _check_classes((target, *kept), n_classes)
    known = _check_faces(labels, preds, hand_probs)
    return _build_sweep(labels[known], preds[known], hand_probs[known], n_classes=n_classes, target=target).best(kept)


def best_hand_rule(
    labels: IntArray, preds: IntArray, hand_probs: Hands, *, n_classes: int, target: int
) -> tuple[HandRule, float]:
    """The rule with the highest macro-F1, out of all thresholds and all sets of exceptions.

    Of equally good sets the smallest is taken, then the first by class index. A rule that gains nothing is NEVER.

    Args:
        labels: [samples], class indices; -1 is left out.
        preds: [samples], class indices before the rule.
        hand_probs: [samples], probability of a hand.
        n_classes: length of the fixed class list, at most 10.
        target: index of the class that a face with a hand is called.

    Returns:
        The rule, and its macro-F1 on these faces; never the score to expect on others.

    Raises:
        ConfigError: there are more than 10 classes, or target is none of them.
        DataError: shapes disagree, no face is labelled, or a hand's probability is none.
    """
    if n_classes > MOST_CLASSES:
        limit = f"the best exceptions are looked for among at most {MOST_CLASSES} classes"
        raise ConfigError(f"{limit}, got {n_classes}; give the exceptions and tune the threshold alone")
    _check_classes((target,), n_classes)
    known = _check_faces(labels, preds, hand_probs)
    sweep = _build_sweep(labels[known], preds[known], hand_probs[known], n_classes=n_classes, target=target)
    others = [index for index in range(n_classes) if index != target]
    sets = (chosen for size in range(n_classes) for chosen in combinations(others, size))
    best_rule, best_score = sweep.best(next(sets))
    for exceptions in sets:
        rule, score = sweep.best(exceptions)
        if score > best_score + SAME:
            best_rule, best_score = rule, score
    return best_rule, best_score


def cross_fitted_hand_rule(
    labels: IntArray,
    preds: IntArray,
    hand_probs: Hands,
    subjects: Sequence[str | None],
    *,
    n_classes: int,
    target: int,
    exceptions: Iterable[int] | None,
    n_folds: int = 5,
    seed: int = 0,
) -> float:
    """Macro-F1 to expect of the tuned rule on other people: each fold is answered by the rule tuned on the others.

    Args:
        labels: [samples], class indices; -1 is left out.
        preds: [samples], class indices before the rule.
        hand_probs: [samples], probability of a hand.
        subjects: [samples], the person or None; no fold cuts through one, a face without a person is one by itself.
        n_classes: length of the fixed class list.
        target: index of the class that a face with a hand is called.
        exceptions: indices of the classes that are left alone; None tunes them too.
        n_folds: parts of about equal size; fewer where there are fewer subjects.
        seed: of the cut.

    Returns:
        One macro-F1 over all faces, each predicted while it was held out.

    Raises:
        ConfigError: target or an exception is no class, there are too many classes, or n_folds is below 2.
        DataError: shapes disagree, fewer than two subjects are labelled, or a hand's probability is none.
    """
    if n_folds < 2:
        raise ConfigError(f"n_folds must be 2 or more, got {n_folds}")
    if len(subjects) != len(labels):
        raise DataError(f"subjects must be one a sample ({len(labels)}), got {len(subjects)}")
    kept = None if exceptions is None else tuple(exceptions)
    known = np.flatnonzero(_check_faces(labels, preds, hand_probs))
    truth, before, hands = labels[known], preds[known], hand_probs[known]
    folds = _cut_folds([subjects[row] for row in known.tolist()], n_folds=n_folds, seed=seed)
    after = np.empty(len(known), dtype=np.int64)
    for fold in np.unique(folds):
        held_out, fit = folds == fold, folds != fold
        faces = truth[fit], before[fit], hands[fit]
        if kept is None:
            rule, _ = best_hand_rule(*faces, n_classes=n_classes, target=target)
        else:
            rule, _ = best_hand_threshold(*faces, n_classes=n_classes, target=target, exceptions=kept)
        after[held_out] = rule.preds(before[held_out], hands[held_out])
    return macro_f1(truth, after, n_classes)


@dataclass(frozen=True)
class _Sweep:
    """What macro-F1 is made of at every threshold; row i is for thresholds above edges[i] up to edges[i + 1] itself.

    Attributes:
        target: index of the class that a face with a hand is called.
        edges: [steps + 1], 0 and then the hand probabilities of faces that the rule may change.
        f1_kept: [classes], F1 of each class if it is an exception.
        f1_moved: [steps + 1, classes], F1 of each class if it is none; the last row is for NEVER, as in the next two.
        moved: [steps + 1, classes], faces that leave each class for the target.
        won: [steps + 1, classes], how many of them are right there.
        target_hits: faces of the target that are right without the rule.
        target_seen: faces that are of the target, plus those predicted to be without the rule.
    """

    target: int
    edges: Hands
    f1_kept: FloatArray
    f1_moved: FloatArray
    moved: npt.NDArray[np.int64]
    won: npt.NDArray[np.int64]
    target_hits: int
    target_seen: int

    def best(self, exceptions: tuple[int, ...]) -> tuple[HandRule, float]:
        """The best threshold for these exceptions, and its macro-F1."""
        scores = self._scores(exceptions)
        if scores.max() <= scores[-1] + SAME:
            return HandRule(self.target, NEVER, exceptions), float(scores[-1])
        threshold, score = middle_of_best_plateau(self.edges, scores[:-1])
        return HandRule(self.target, threshold, exceptions), score

    def _scores(self, exceptions: tuple[int, ...]) -> FloatArray:
        """Macro-F1 at every step, NEVER last; [steps + 1]."""
        classes = np.arange(len(self.f1_kept))
        is_moved = ~np.isin(classes, (*exceptions, self.target))
        f1 = np.where(is_moved, self.f1_moved, self.f1_kept)
        hits = self.target_hits + self.won @ is_moved
        seen = self.target_seen + self.moved @ is_moved
        f1[:, self.target] = 2.0 * hits / np.maximum(seen, 1)
        return np.asarray(f1.mean(axis=1), dtype=np.float64)


def _build_sweep(labels: IntArray, preds: IntArray, hand_probs: Hands, *, n_classes: int, target: int) -> _Sweep:
    confusion = confusion_matrix(labels, preds, n_classes)
    hits, seen = np.diag(confusion), confusion.sum(axis=0) + confusion.sum(axis=1)
    may_move = preds != target
    old, truth = preds[may_move].astype(np.int64), labels[may_move]
    values, places = np.unique(hand_probs[may_move], return_inverse=True)

    def count(these: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """How many of these faces have a hand at each step, by the class they leave; [steps + 1, classes]."""
        cells = np.bincount(places[these] * n_classes + old[these], minlength=len(values) * n_classes)
        from_the_top = np.cumsum(cells.reshape(-1, n_classes)[::-1], axis=0)[::-1]
        return np.concatenate([from_the_top, np.zeros((1, n_classes), dtype=np.int64)])

    moved = count(np.ones(len(old), dtype=np.bool_))
    return _Sweep(
        target=target,
        edges=np.insert(values, 0, 0),
        f1_kept=2.0 * hits / np.maximum(seen, 1),
        f1_moved=2.0 * (hits - count(truth == old)) / np.maximum(seen - moved, 1),
        moved=moved,
        won=count(truth == target),
        target_hits=int(hits[target]),
        target_seen=int(seen[target]),
    )


def _cut_folds(subjects: list[str | None], *, n_folds: int, seed: int) -> npt.NDArray[np.int64]:
    """The fold of each face: subjects in random order, the largest first, each to the fold with the fewest faces."""
    names = [(row, "") if subject is None else (-1, subject) for row, subject in enumerate(subjects)]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    if len(numbers) < 2:
        raise DataError(f"cross-fitting needs 2 labelled subjects or more, got {len(numbers)}")
    groups = np.array([numbers[name] for name in names])
    sizes = np.bincount(groups)
    fold_of = np.empty(len(sizes), dtype=np.int64)
    n_faces = np.zeros(n_folds, dtype=np.int64)
    order = np.random.default_rng(seed).permutation(len(sizes))
    for group in order[np.argsort(-sizes[order], kind="stable")]:
        fold_of[group] = n_faces.argmin()
        n_faces[fold_of[group]] += sizes[group]
    return np.asarray(fold_of[groups], dtype=np.int64)


def _check_classes(classes: tuple[int, ...], n_classes: int) -> None:
    for index in classes:
        if not 0 <= index < n_classes:
            raise ConfigError(f"target and exceptions must be class indices from 0 to {n_classes - 1}, got {index}")


def _check_faces(labels: IntArray, preds: IntArray, hand_probs: Hands) -> npt.NDArray[np.bool_]:
    """Which faces are labelled, [samples]."""
    if not labels.shape == preds.shape == hand_probs.shape:
        shapes = f"{list(labels.shape)}, {list(preds.shape)} and {list(hand_probs.shape)}"
        raise DataError(f"labels, preds and hand_probs must have one shape, got {shapes}")
    check_probabilities("hand_probs", hand_probs)
    known = labels >= 0
    if not known.any():
        raise DataError(f"labels must name a class for some face, got {len(labels)} faces and none of them")
    return np.asarray(known)
