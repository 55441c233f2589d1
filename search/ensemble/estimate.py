"""How good a choice will be on new people: bootstrap estimates and intervals of macro-F1, drawn by subject."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from search.ensemble.blending import soft_vote
from search.ensemble.macro_f1 import FloatArray, IntArray, check_probs, macro_f1_of_confusions, macro_f1_of_probs
from search.ensemble.selection import bagged_selection
from spaces.errors import EnsembleError
from trainables.metrics import confusion_matrix

Selector = Callable[[FloatArray, IntArray, IntArray], FloatArray]
"""Weights [candidates] from probs [candidates, samples, classes], labels and counts [samples]."""

Unit = Literal["subject", "row"]

_DRAWS_AT_ONCE = 1 << 22
_TRIES = 20


@dataclass(frozen=True)
class Interval:
    """A percentile interval of macro-F1.

    Attributes:
        low: lower end.
        high: upper end.
        unit: what was drawn; whole subjects where they are known.
        n_units: how many of them there are.
    """

    low: float
    high: float
    unit: Unit
    n_units: int


@dataclass(frozen=True)
class Estimate:
    """What to expect of a choice, on faces that had no part in choosing.

    Attributes:
        score: the honest macro-F1: chosen on the drawn units, scored on the units left out, averaged over draws.
        interval: of the scores on the units left out.
        chosen_on: macro-F1 on the very faces it was chosen by; never the score to expect.
    """

    score: float
    interval: Interval
    chosen_on: float


def select_bagged(probs: FloatArray, labels: IntArray, counts: IntArray) -> FloatArray:
    """The way the final job chooses: bagged greedy selection, at its defaults."""
    return bagged_selection(probs, labels, counts=counts).weights


def honest_estimate(
    probs: npt.ArrayLike,
    labels: npt.ArrayLike,
    subjects: Sequence[str | None] | None = None,
    *,
    select: Selector = select_bagged,
    n_draws: int = 100,
    level: float = 0.95,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Estimate:
    """Bootstrap-bias-corrected macro-F1 of a whole way of choosing, without training anything again.

    A draw that leaves a class out of either side, though the faces have it, is drawn again a few times.

    Args:
        probs: [candidates, samples, classes]; rows over classes sum to 1.
        labels: [samples], class indices; -1 is left out.
        subjects: [samples], the person or None; a face without a person is a unit by itself.
        select: the way of choosing; everything that looks at labels belongs into it.
        n_draws: bootstrap draws.
        level: of the interval.
        seed: of the draws.
        progress: told the number of draws done.

    Raises:
        EnsembleError: shapes disagree, or there are fewer than two labelled samples.

    Source: Tsamardinos et al., Machine Learning 107, 2018 (BBC-CV), with subjects drawn instead of rows.
    """
    _check_draws(n_draws, level)
    labelled = np.asarray(labels) >= 0
    scores, truth = check_probs(probs, labels)
    units, unit = _units_of(subjects, labelled)
    n_units = int(units.max()) + 1
    if n_units < 2:
        raise EnsembleError(f"an estimate needs 2 labelled samples or more, got {n_units}")
    generator = np.random.default_rng(seed)
    outside = np.empty(n_draws)
    for draw in range(n_draws):
        counts = _draw_counts(units, truth, n_units=n_units, generator=generator)
        drawn, left_out = counts > 0, counts == 0
        weights = select(scores[:, drawn], truth[drawn], counts[drawn])
        vote = soft_vote(scores[:, left_out], weights)
        outside[draw] = macro_f1_of_probs(vote[None], truth[left_out])[0]
        if progress:
            progress(draw + 1)
    weights = select(scores, truth, np.ones(len(truth), dtype=np.int64))
    chosen_on = macro_f1_of_probs(soft_vote(scores, weights)[None], truth)[0]
    low, high = _percentiles(outside, level)
    return Estimate(float(outside.mean()), Interval(low, high, unit, n_units), float(chosen_on))


def bootstrap_interval(
    labels: npt.ArrayLike,
    preds: npt.ArrayLike,
    subjects: Sequence[str | None] | None = None,
    *,
    n_classes: int,
    n_draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile interval of the macro-F1 of predictions that were not chosen on these faces.

    Args:
        labels: [samples], class indices; -1 is left out.
        preds: [samples], class indices.
        subjects: [samples], the person or None; a face without a person is a unit by itself.
        n_classes: length of the fixed class list.
        n_draws: bootstrap draws.
        level: of the interval.
        seed: of the draws.

    Raises:
        EnsembleError: no sample is labelled, or n_draws or level is out of range.
    """
    _check_draws(n_draws, level)
    labelled = np.asarray(labels) >= 0
    if not labelled.any():
        raise EnsembleError(f"labels must name a class for some sample, got {len(labelled)} samples and none of them")
    truth, answers = np.asarray(labels)[labelled].astype(np.int64), np.asarray(preds)[labelled].astype(np.int64)
    units, unit = _units_of(subjects, labelled)
    n_units, n_cells = int(units.max()) + 1, n_classes * n_classes
    generator = np.random.default_rng(seed)
    if unit == "row":  # drawing rows is drawing cells of the confusion matrix by their shares
        cells = confusion_matrix(truth, answers, n_classes).reshape(-1)
        sums = generator.multinomial(n_units, cells / cells.sum(), size=n_draws).astype(np.float64)
    else:
        places = units * n_cells + truth * n_classes + answers
        per_unit = np.bincount(places, minlength=n_units * n_cells).reshape(n_units, n_cells)
        sums = _draw_units(per_unit.astype(np.float64), n_draws=n_draws, generator=generator)
    scores = macro_f1_of_confusions(sums.reshape(n_draws, n_classes, n_classes))
    low, high = _percentiles(scores, level)
    return Interval(low, high, unit, n_units)


def _draw_units(per_unit: FloatArray, *, n_draws: int, generator: np.random.Generator) -> FloatArray:
    """Sums of units drawn with replacement; [units, cells] to [draws, cells]."""
    n_units = len(per_unit)
    sums = []
    for start in range(0, n_draws, max(1, _DRAWS_AT_ONCE // n_units)):
        n_now = min(max(1, _DRAWS_AT_ONCE // n_units), n_draws - start)
        drawn = generator.integers(n_units, size=(n_now, n_units)) + n_units * np.arange(n_now)[:, None]
        times = np.bincount(drawn.reshape(-1), minlength=n_now * n_units).reshape(n_now, n_units)
        sums.append(times @ per_unit)
    return np.concatenate(sums)


def _draw_counts(
    units: IntArray, labels: IntArray, *, n_units: int, generator: np.random.Generator
) -> npt.NDArray[np.int64]:
    """How often each row was drawn, by whole units; both sides hold every class if a few tries find such a draw."""
    n_classes = len(np.unique(labels))
    best, most = None, -1
    for _ in range(_TRIES):
        counts = np.bincount(generator.integers(n_units, size=n_units), minlength=n_units)[units]
        inside, outside = np.unique(labels[counts > 0]), np.unique(labels[counts == 0])
        n_seen = len(inside) + len(outside) if len(outside) else 0
        if n_seen > most:
            best, most = counts, n_seen
        if n_seen == 2 * n_classes:
            break
    if best is None or not (best == 0).any():
        best = (units != generator.integers(n_units)).astype(np.int64)
    return np.asarray(best, dtype=np.int64)


def _units_of(
    subjects: Sequence[str | None] | None, labelled: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int64], Unit]:
    """The unit's index of each labelled row; rows are the units where fewer than two subjects are known."""
    n_rows = int(labelled.sum())
    if subjects is None:
        return np.arange(n_rows), "row"
    if len(subjects) != len(labelled):
        raise EnsembleError(f"subjects must be one a sample ({len(labelled)}), got {len(subjects)}")
    rows = [subjects[row] for row in np.flatnonzero(labelled).tolist()]
    if len({name for name in rows if name is not None}) < 2:
        return np.arange(n_rows), "row"
    names = [f"row {row}" if name is None else f"subject {name}" for row, name in enumerate(rows)]
    return np.unique(names, return_inverse=True)[1].astype(np.int64), "subject"


def _check_draws(n_draws: int, level: float) -> None:
    if n_draws < 1 or not 0 < level < 1:
        raise EnsembleError(f"draws must be 1 or more and the level between 0 and 1, got {n_draws} and {level}")


def _percentiles(scores: FloatArray, level: float) -> tuple[float, float]:
    low, high = np.quantile(scores, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
