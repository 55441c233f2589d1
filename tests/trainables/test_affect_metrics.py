"""Scores on partly labelled faces, beside scikit-learn's and the formulas written out."""

import math

import numpy as np
import pytest
from sklearn.metrics import f1_score

from trainables.affect_metrics import AffectScores, affect_scores, concordance, f1_per_unit, p_au, p_expr, p_mtl, p_va


def drawn_units(n: int = 200, n_units: int = 12) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(3)
    truth = generator.integers(-1, 2, (n, n_units)).astype(np.int8)
    return truth, generator.random((n, n_units)) < 0.4


def test_concordance_is_the_formula_over_known_faces() -> None:
    generator = np.random.default_rng(0)
    truth = generator.uniform(-1, 1, 300).astype(np.float32)
    pred = (0.5 * truth + 0.1 + generator.normal(0, 0.2, 300)).astype(np.float32)
    truth[::3] = np.nan

    found = concordance(pred, truth)

    x, y = pred[~np.isnan(truth)].astype(np.float64), truth[~np.isnan(truth)].astype(np.float64)
    pearson = np.corrcoef(x, y)[0, 1]
    expected = 2 * pearson * x.std() * y.std() / (x.std() ** 2 + y.std() ** 2 + (x.mean() - y.mean()) ** 2)
    assert found == pytest.approx(expected, abs=1e-12)


def test_concordance_is_one_for_the_truth_and_less_for_the_truth_shifted() -> None:
    truth = np.array([-0.5, 0.0, 0.5])  # variance 1/6

    assert concordance(truth, truth) == 1.0
    assert concordance(-truth, truth) == -1.0
    assert concordance(truth + 0.5, truth) == pytest.approx((2 / 6) / (2 / 6 + 0.25), abs=1e-12)


def test_concordance_is_zero_when_a_side_is_constant() -> None:
    constant, rising = np.full(7, 0.1), np.linspace(-1, 1, 7)

    assert concordance(constant, rising) == 0.0
    assert concordance(rising, constant) == 0.0
    assert concordance(constant, constant) == 0.0


def test_concordance_is_nan_when_fewer_than_two_are_known() -> None:
    assert math.isnan(concordance(np.array([0.1, 0.2]), np.array([0.1, np.nan])))


def test_concordance_is_nan_when_a_network_has_diverged() -> None:
    assert math.isnan(concordance(np.array([np.nan, 0.2, 0.3]), np.array([0.1, 0.2, 0.4])))


def test_p_expr_agrees_with_scikit_learn_on_labelled_faces() -> None:
    generator = np.random.default_rng(1)
    labels = generator.integers(-1, 5, 100).astype(np.int8)  # of 8 classes, three are nowhere
    preds = generator.integers(0, 5, 100)

    known = labels >= 0
    expected = f1_score(labels[known], preds[known], labels=range(8), average="macro", zero_division=0)
    assert p_expr(labels, preds, 8) == pytest.approx(expected, abs=1e-12)


def test_p_va_is_the_mean_of_two_concordances() -> None:
    generator = np.random.default_rng(2)
    truth, pred = generator.uniform(-1, 1, (50, 2)), generator.uniform(-1, 1, (50, 2))
    truth[:10, 0] = np.nan
    truth[30:, 1] = np.nan

    valence, arousal = concordance(pred[10:, 0], truth[10:, 0]), concordance(pred[:30, 1], truth[:30, 1])
    assert p_va(pred, truth) == pytest.approx((valence + arousal) / 2, abs=1e-12)


def test_p_va_is_not_known_when_arousal_is_not() -> None:
    truth = np.array([[0.1, np.nan], [0.2, np.nan], [0.3, 0.5]])

    assert p_va(np.zeros((3, 2)), truth) is None


def test_p_au_agrees_with_scikit_learn_on_known_units() -> None:
    truth, shown = drawn_units()

    expected = [f1_score(t[t >= 0], s[t >= 0]) for t, s in zip(truth.T, shown.T, strict=True)]
    np.testing.assert_allclose(f1_per_unit(truth, shown), expected, atol=1e-12)
    assert p_au(truth, shown) == pytest.approx(np.mean(expected), abs=1e-12)


def test_p_au_counts_a_unit_that_nobody_shows_as_zero() -> None:
    truth = np.array([[1, 0], [0, 0], [1, -1]], np.int8)
    shown = np.array([[True, False], [False, False], [True, True]])

    assert f1_per_unit(truth, shown).tolist() == [1.0, 0.0]
    assert p_au(truth, shown) == 0.5


def test_p_au_leaves_out_a_unit_that_is_known_of_no_face() -> None:
    truth = np.array([[1, -1], [0, -1]], np.int8)
    shown = np.array([[True, True], [False, False]])

    assert np.isnan(f1_per_unit(truth, shown)).tolist() == [False, True]
    assert p_au(truth, shown) == 1.0


def test_p_mtl_is_the_sum_of_what_is_known() -> None:
    assert p_mtl(0.3, 0.4, 0.5) == pytest.approx(1.2)
    assert p_mtl(0.3, None, -0.25) == pytest.approx(0.05)
    assert p_mtl(0.0, None, None) == 0.0
    assert p_mtl(None, None, None) is None


def test_affect_scores_tell_everything_that_is_known() -> None:
    labels, preds = np.array([0, 1, -1], np.int8), np.array([0, 1, 1])
    va = np.array([[0.1, 0.3], [0.2, 0.1], [0.5, -0.2]])
    units = np.array([[1, 0], [0, 1], [1, -1]], np.int8)

    found = affect_scores(
        labels, preds, n_classes=2, va_pred=va, va_truth=va, units_truth=units, units_shown=units == 1
    )

    assert found == AffectScores(p_expr=1.0, p_va=1.0, p_au=1.0, p_mtl=3.0)


def test_affect_scores_are_none_where_nothing_is_known() -> None:
    labels, preds = np.full(3, -1, np.int8), np.zeros(3, np.int64)
    unknown_va, unknown_units = np.full((3, 2), np.nan), np.full((3, 12), -1, np.int8)

    bare = affect_scores(labels, preds, n_classes=6)
    unlabelled = affect_scores(
        labels,
        preds,
        n_classes=6,
        va_pred=np.zeros((3, 2)),
        va_truth=unknown_va,
        units_truth=unknown_units,
        units_shown=unknown_units == 1,
    )

    assert bare == unlabelled == AffectScores(p_expr=None, p_va=None, p_au=None, p_mtl=None)
