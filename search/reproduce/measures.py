"""Answers on labelled faces become scores: macro-F1 or P_MTL, each with an interval over people."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from search.ensemble.bootstrap import bootstrap_interval
from search.ensemble.macro_f1 import FloatArray
from trainables.affect_metrics import AffectScores, affect_scores, p_au
from trainables.metrics import macro_f1
from trainables.thresholds import grid_thresholds

N_DRAWS = 300
"""Bootstrap draws behind an interval of P_MTL."""

N_FOLDS = 5


@dataclass(frozen=True)
class Faces:
    """Labelled faces, in the classes of the table that was trained on.

    Attributes:
        classes: names, in the order of the logits' columns.
        labels: [samples], indices of them; -1 is left out.
        subjects: [samples], the person, or None.
        counted: indices of the classes that macro-F1 is the mean of; the others are never predicted.
        valence_arousal: [samples, 2], NaN where not known.
        action_units: int8 [samples, 12], 0 or 1, -1 where not known.
    """

    classes: tuple[str, ...]
    labels: npt.NDArray[np.int8]
    subjects: tuple[str | None, ...]
    counted: tuple[int, ...]
    valence_arousal: npt.NDArray[np.float32] | None = None
    action_units: npt.NDArray[np.int8] | None = None


@dataclass(frozen=True)
class Answer:
    """What a row says of faces.

    Attributes:
        logits: [samples, classes].
        extras: as a trial stores them: `hand`, `plain_logits`, `valence_arousal`, `action_units`.
        thresholds: [units], from which on a unit counts as shown; 0.5 each if None.
    """

    logits: npt.NDArray[np.floating]
    extras: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    thresholds: FloatArray | None = None


@dataclass(frozen=True)
class Expected:
    """The score to expect on new people of what was chosen on these; the interval where there is one."""

    score: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Measured:
    """A score with its 95 % interval.

    Attributes:
        score: macro-F1 or P_MTL; the mean where there are repetitions.
        low, high: percentile interval by cluster bootstrap; the mean of the repetitions' ends.
        unit: what was drawn.
        n_units: how many of them there are.
        parts: of P_MTL, by name.
        n_seeds: repetitions.
        spread: standard deviation over them; None for one.
    """

    score: float
    low: float
    high: float
    unit: Literal["subject", "row"]
    n_units: int
    parts: dict[str, float] = field(default_factory=dict)
    n_seeds: int = 1
    spread: float | None = None


def measure(answer: Answer, faces: Faces, *, metric: Literal["macro_f1", "p_mtl"]) -> Measured:
    """Score an answer. Raises EnsembleError where no face is labelled."""
    labels, preds = _counted(answer, faces)
    n_classes = len(faces.counted)
    interval = bootstrap_interval(labels, preds, faces.subjects, n_classes=n_classes)
    if metric == "macro_f1":
        score = macro_f1(labels, preds, n_classes)
        return Measured(score, interval.low, interval.high, interval.unit, interval.n_units)
    units = _units(faces.subjects)
    n_units = int(units.max()) + 1
    scores = _affect(answer, faces)
    low, high = _interval_of_sum(answer, faces, units=units, n_units=n_units)
    parts = {"P_EXPR": scores.p_expr, "P_VA": scores.p_va, "P_AU": scores.p_au}
    return Measured(
        score=scores.p_mtl or 0.0,
        low=low,
        high=high,
        unit="subject" if n_units < len(units) else "row",
        n_units=n_units,
        parts={name: value for name, value in parts.items() if value is not None},
    )


def mean_of(repetitions: Sequence[Measured]) -> Measured:
    """One measure of a row's repetitions, of which there is at least one."""
    first = repetitions[0]
    if len(repetitions) == 1:
        return first
    scores = [each.score for each in repetitions]
    return Measured(
        score=float(np.mean(scores)),
        low=float(np.mean([each.low for each in repetitions])),
        high=float(np.mean([each.high for each in repetitions])),
        unit=first.unit,
        n_units=first.n_units,
        parts={name: float(np.mean([each.parts[name] for each in repetitions])) for name in first.parts},
        n_seeds=len(repetitions),
        spread=float(np.std(scores, ddof=1)),
    )


def threshold_units(answer: Answer, faces: Faces) -> FloatArray:
    """The best threshold of each action unit on the papers' grid, [units]; the faces know action units."""
    assert faces.action_units is not None, "asked only where they are known"
    return grid_thresholds(answer.extras["action_units"], faces.action_units)


def expected_of_units(answer: Answer, faces: Faces) -> Expected:
    """P_MTL where each person's thresholds were chosen on other people."""
    assert faces.action_units is not None, "asked only where they are known"
    probs, truth = answer.extras["action_units"], faces.action_units
    folds = _folds(_units(faces.subjects))
    shown = np.zeros(truth.shape, dtype=bool)
    for fold in np.unique(folds):
        held_out = folds == fold
        shown[held_out] = probs[held_out] >= grid_thresholds(probs[~held_out], truth[~held_out])
    scores = _affect(answer, faces)
    known = [part for part in (scores.p_expr, scores.p_va, p_au(truth, shown)) if part is not None]
    return Expected(float(sum(known)))


def _counted(answer: Answer, faces: Faces) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Labels and preds as places in the list of counted classes."""
    place = np.full(len(faces.classes) + 1, -1, dtype=np.int64)  # the last stands for -1
    place[list(faces.counted)] = np.arange(len(faces.counted))
    preds = answer.logits[:, list(faces.counted)].argmax(axis=1).astype(np.int64)
    return place[faces.labels], preds


def _affect(answer: Answer, faces: Faces, rows: npt.NDArray[np.int64] | slice = slice(None)) -> AffectScores:
    labels, preds = _counted(answer, faces)
    va, units = answer.extras.get("valence_arousal"), answer.extras.get("action_units")
    has_va = va is not None and faces.valence_arousal is not None
    has_units = units is not None and faces.action_units is not None
    limits = 0.5 if answer.thresholds is None else answer.thresholds
    return affect_scores(
        labels[rows],
        preds[rows],
        n_classes=len(faces.counted),
        va_pred=va[rows] if has_va and va is not None else None,
        va_truth=faces.valence_arousal[rows] if has_va and faces.valence_arousal is not None else None,
        units_shown=units[rows] >= limits if has_units and units is not None else None,
        units_truth=faces.action_units[rows] if has_units and faces.action_units is not None else None,
    )


def _interval_of_sum(
    answer: Answer, faces: Faces, *, units: npt.NDArray[np.int64], n_units: int
) -> tuple[float, float]:
    generator = np.random.default_rng(0)
    order = np.argsort(units, kind="stable")
    groups = np.split(order, np.cumsum(np.bincount(units, minlength=n_units))[:-1])
    sums = []
    for _ in range(N_DRAWS):
        rows = np.concatenate([groups[unit] for unit in generator.integers(n_units, size=n_units)])
        sums.append(_affect(answer, faces, rows).p_mtl or 0.0)
    low, high = np.quantile(sums, [0.025, 0.975])
    return float(low), float(high)


def _units(subjects: Sequence[str | None]) -> npt.NDArray[np.int64]:
    """The unit of each face: its person, or itself."""
    names = [f"row {row}" if name is None else f"subject {name}" for row, name in enumerate(subjects)]
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def _folds(units: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    shuffled = np.random.default_rng(0).permutation(int(units.max()) + 1)
    return np.asarray(shuffled[units] % N_FOLDS, dtype=np.int64)
