"""Scores of expression, valence and arousal, and action units, on faces of which any label may be missing."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainables.metrics import FloatArray, IntArray, macro_f1


@dataclass(frozen=True)
class AffectScores:
    """How well expression, valence and arousal, and action units are told; None where nothing is known about them.

    Attributes:
        p_expr: macro-F1 of the expression, 0 to 1.
        p_va: mean concordance of valence and arousal, -1 to 1.
        p_au: mean F1 of the action units, 0 to 1.
        p_mtl: sum of those that are known; only comparable between faces with the same kinds of labels.
    """

    p_expr: float | None
    p_va: float | None
    p_au: float | None
    p_mtl: float | None


def affect_scores(
    labels: IntArray,
    preds: IntArray,
    *,
    n_classes: int,
    va_pred: npt.NDArray[np.floating] | None = None,
    va_truth: npt.NDArray[np.floating] | None = None,
    units_truth: npt.NDArray[np.int8] | None = None,
    units_shown: npt.NDArray[np.bool_] | None = None,
) -> AffectScores:
    """Everything that is known about one network's answers on some faces.

    Args:
        labels: [samples], class indices; -1 is left out.
        preds: [samples], class indices.
        n_classes: length of the fixed class list.
        va_pred: [samples, 2], valence and arousal.
        va_truth: [samples, 2]; NaN is left out.
        units_truth: [samples, units], 0 or 1; -1 is left out.
        units_shown: [samples, units], what the network says.
    """
    expr = p_expr(labels, preds, n_classes)
    va = None if va_pred is None or va_truth is None else p_va(va_pred, va_truth)
    au = None if units_truth is None or units_shown is None else p_au(units_truth, units_shown)
    return AffectScores(p_expr=expr, p_va=va, p_au=au, p_mtl=p_mtl(expr, va, au))


def p_expr(labels: IntArray, preds: IntArray, n_classes: int) -> float | None:
    """Macro-F1 over the fixed class list; None where no face is labelled (-1)."""
    return macro_f1(labels, preds, n_classes) if (labels >= 0).any() else None


def p_va(pred: npt.NDArray[np.floating], truth: npt.NDArray[np.floating]) -> float | None:
    """Mean concordance of valence and arousal, each over the faces where it is known.

    Args:
        pred: [samples, 2].
        truth: [samples, 2], NaN where not known.

    Returns:
        -1 to 1; None where valence or arousal is known of fewer than two faces.

    Source: Savchenko 2022 (ABAW's P_VA).
    """
    if (~np.isnan(truth)).sum(axis=0).min() < 2:
        return None
    return (concordance(pred[:, 0], truth[:, 0]) + concordance(pred[:, 1], truth[:, 1])) / 2


def p_au(truth: npt.NDArray[np.int8], shown: npt.NDArray[np.bool_]) -> float | None:
    """Mean F1 of the action units.

    Over all units that are known of some face: 12 in Aff-Wild2, fewer in data where fewer were coded, and then not
    comparable with a mean of 12.

    Args:
        truth: [samples, units], 0 or 1; -1 where not known.
        shown: [samples, units].

    Returns:
        0 to 1; None where no unit of any face is known.

    Source: Savchenko 2022 (ABAW's P_AU).
    """
    f1 = f1_per_unit(truth, shown)
    coded = ~np.isnan(f1)
    return float(f1[coded].mean()) if coded.any() else None


def p_mtl(expr: float | None, va: float | None, au: float | None) -> float | None:
    """Sum of the scores that are known, None where none is.

    Source: Savchenko 2022 (ABAW's P_MTL).
    """
    known = [score for score in (expr, va, au) if score is not None]
    return sum(known) if known else None


def concordance(pred: npt.NDArray[np.floating], truth: npt.NDArray[np.floating]) -> float:
    """Concordance correlation coefficient, 2 cov / (var + var + (mean - mean)^2), with moments over N.

    Args:
        pred: [samples].
        truth: [samples]; NaN is left out.

    Returns:
        -1 to 1, 0 where either side is constant; NaN where fewer than two truths are known, or a pred is NaN.

    Source: Lin, Biometrics 45, 1989.
    """
    known = ~np.isnan(truth)
    if known.sum() < 2:
        return float("nan")
    x, y = pred[known].astype(np.float64), truth[known].astype(np.float64)
    if np.ptp(x) == 0 or np.ptp(y) == 0:  # rounded means would make variances of 1e-34 out of constants
        return 0.0
    covariance = ((x - x.mean()) * (y - y.mean())).mean()
    return float(2 * covariance / (x.var() + y.var() + (x.mean() - y.mean()) ** 2))


def f1_per_unit(truth: npt.NDArray[np.int8], shown: npt.NDArray[np.bool_]) -> FloatArray:
    """F1 of "shown" for each action unit, over the faces where the unit is known.

    Args:
        truth: [samples, units], 0 or 1; -1 where not known.
        shown: [samples, units].

    Returns:
        [units], 0 to 1: 0 for a unit that no known face shows and nobody predicts, as for a class in macro-F1; NaN for
        a unit that is known of no face.
    """
    known = truth >= 0
    hits = ((truth == 1) & shown).sum(axis=0)
    seen = (truth == 1).sum(axis=0) + (shown & known).sum(axis=0)
    return np.where(known.any(axis=0), 2.0 * hits / np.maximum(seen, 1), np.nan)
