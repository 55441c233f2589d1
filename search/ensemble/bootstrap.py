"""Bootstrap draws of people: intervals of macro-F1, and scores of many answers on the drawn and on those left out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from search.ensemble.faces import Objective, combine
from search.ensemble.macro_f1 import FloatArray, macro_f1_of_confusions
from search.ensemble.model_library import Unit, units_of
from spaces.errors import EnsembleError
from trainables.metrics import confusion_matrix

_DRAWS_AT_ONCE = 1 << 22


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


@dataclass(frozen=True, eq=False)
class Draws:
    """Scores of several answers on bootstrap draws of the units, and on the units that a draw left out.

    Attributes:
        inside: [draws, answers].
        outside: [draws, answers].
    """

    inside: FloatArray
    outside: FloatArray

    def spread(self, answer: int) -> FloatArray:
        """How far an answer's score lies from its mean on each draw, [draws]."""
        return np.asarray(self.inside[:, answer] - self.inside[:, answer].mean(), dtype=np.float64)

    def standard_errors(self) -> FloatArray:
        """Of the difference between each two answers, [answers, answers]."""
        return np.stack([(self.inside - self.inside[:, [i]]).std(axis=0) for i in range(self.inside.shape[1])])


def draw_scores(confusions: FloatArray, *, n_draws: int, generator: np.random.Generator) -> Draws:
    """Scores of answers on draws of the units, with replacement, as many as there are.

    Args:
        confusions: [answers, units, classes (truth), classes].
        n_draws: how many.
        generator: of the draws.
    """
    n_answers, n_units, n_classes, _ = confusions.shape
    per_unit = np.ascontiguousarray(confusions.transpose(1, 0, 2, 3).reshape(n_units, -1))
    shape = (n_draws, n_answers, n_classes, n_classes)
    sums = _draw_sums(per_unit, n_draws=n_draws, generator=generator)
    inside, outside = (macro_f1_of_confusions(of_side.reshape(shape)) for of_side in sums)
    return Draws(inside, outside)


def combine_draws(draws: Sequence[Draws], objective: Objective) -> Draws:
    """Draws of faces of several kinds as one."""
    inside, outside = [one.inside for one in draws], [one.outside for one in draws]
    return Draws(combine(inside, objective), combine(outside, objective))


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
    check_draws(n_draws, level)
    labelled = np.asarray(labels) >= 0
    if not labelled.any():
        raise EnsembleError(f"labels must name a class for some sample, got {len(labelled)} samples and none of them")
    truth, answers = np.asarray(labels)[labelled].astype(np.int64), np.asarray(preds)[labelled].astype(np.int64)
    units, unit = units_of(subjects, labelled)
    n_units, n_cells = int(units.max()) + 1, n_classes * n_classes
    generator = np.random.default_rng(seed)
    if unit == "row":  # drawing rows is drawing cells of the confusion matrix by their shares
        cells = confusion_matrix(truth, answers, n_classes).reshape(-1)
        sums = generator.multinomial(n_units, cells / cells.sum(), size=n_draws).astype(np.float64)
    else:
        places = units * n_cells + truth * n_classes + answers
        per_unit = np.bincount(places, minlength=n_units * n_cells).reshape(n_units, n_cells)
        sums, _ = _draw_sums(per_unit.astype(np.float64), n_draws=n_draws, generator=generator)
    scores = macro_f1_of_confusions(sums.reshape(n_draws, n_classes, n_classes))
    low, high = percentiles(scores, level)
    return Interval(low, high, unit, n_units)


def _draw_sums(per_unit: FloatArray, *, n_draws: int, generator: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Sums of units drawn with replacement, and of those left out; [units, cells] to [draws, cells] each."""
    n_units = len(per_unit)
    at_once = max(1, _DRAWS_AT_ONCE // n_units)
    inside, outside = [], []
    for start in range(0, n_draws, at_once):
        n_now = min(at_once, n_draws - start)
        drawn = generator.integers(n_units, size=(n_now, n_units)) + n_units * np.arange(n_now)[:, None]
        times = np.bincount(drawn.reshape(-1), minlength=n_now * n_units).reshape(n_now, n_units)
        inside.append(times @ per_unit)
        outside.append((times == 0) @ per_unit)
    return np.concatenate(inside), np.concatenate(outside)


def check_draws(n_draws: int, level: float) -> None:
    """Raise EnsembleError where a number of draws or a level can't be."""
    if n_draws < 1 or not 0 < level < 1:
        raise EnsembleError(f"draws must be 1 or more and the level between 0 and 1, got {n_draws} and {level}")


def percentiles(scores: FloatArray, level: float) -> tuple[float, float]:
    """The bounds that leave equal parts of what lies outside the level below and above."""
    low, high = np.quantile(scores, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
