"""One temperature on the mixture, after averaging, and how far confidence and truth lie apart.

Sources: Guo et al., ICML 2017 (temperature, expected calibration error); Rahaman & Thiery, NeurIPS 2021 (after
averaging, not before).
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from search.ensemble.crossfit import assign_folds
from search.ensemble.macro_f1 import FloatArray, IntArray

BOUNDS = (0.05, 20.0)
"""Of the temperature; unbounded fits have ended at nonsense on small sets."""
N_BINS = 15
N_FOLDS = 5
TINY = 1e-12


@dataclass(frozen=True)
class Bin:
    """Faces whose answers had about the same confidence.

    Attributes:
        confidence: their mean.
        accuracy: share of right answers.
        n: faces.
    """

    confidence: float
    accuracy: float
    n: int


@dataclass(frozen=True)
class Calibration:
    """The temperature to ship, and what it does to faces that had no part in fitting it.

    Attributes:
        temperature: 1 where a fitted one did not lower the cross-fitted log-loss.
        log_loss: before and after, cross-fitted; the same where nothing is changed.
        error: expected calibration error before and after, cross-fitted.
        bins: confidence against accuracy, before and after.
    """

    temperature: float
    log_loss: tuple[float, float]
    error: tuple[float, float]
    bins: tuple[tuple[Bin, ...], tuple[Bin, ...]]


def tempered(probs: FloatArray, temperature: float) -> FloatArray:
    """Softmax of log(probs) / temperature over the last axis; the order of the classes stays."""
    if temperature == 1.0:
        return probs
    logs = np.log(np.maximum(probs, TINY)) / temperature
    powers = np.exp(logs - logs.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), dtype=np.float64)


def fit_temperature(probs: FloatArray, labels: IntArray) -> float:
    """The temperature with the lowest log-loss, within BOUNDS.

    Args:
        probs: [samples, classes], of faces that had no part in choosing the members.
        labels: [samples], class indices.
    """

    def loss(log_temperature: float) -> float:
        return log_loss(tempered(probs, float(np.exp(log_temperature))), labels)

    found = minimize_scalar(loss, bounds=tuple(np.log(BOUNDS)), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))


def calibrate(probs: FloatArray, labels: IntArray, units: IntArray, *, seed: int = 0) -> Calibration:
    """Fit a temperature, and accept it only if fitting one lowers the log-loss on people left out.

    Args:
        probs: [samples, classes], cross-fitted: of faces that had no part in choosing the members.
        labels: [samples], class indices.
        units: [samples], index of the person.
        seed: of the folds.
    """
    n_units = int(units.max()) + 1
    after = probs
    if n_units > 1:
        folds = assign_folds(units, labels, n_folds=min(N_FOLDS, n_units), seed=seed)
        after = probs.copy()
        for fold in np.unique(folds).tolist():
            outside = folds == fold
            after[outside] = tempered(probs[outside], fit_temperature(probs[~outside], labels[~outside]))
    is_better = log_loss(after, labels) < log_loss(probs, labels)
    after = after if is_better else probs
    return Calibration(
        temperature=fit_temperature(probs, labels) if is_better else 1.0,
        log_loss=(log_loss(probs, labels), log_loss(after, labels)),
        error=(calibration_error(probs, labels), calibration_error(after, labels)),
        bins=(reliability(probs, labels), reliability(after, labels)),
    )


def log_loss(probs: FloatArray, labels: IntArray) -> float:
    """Mean negative log-probability of the truth."""
    of_truth = probs[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(of_truth, TINY)).mean())


def calibration_error(probs: FloatArray, labels: IntArray) -> float:
    """Expected calibration error of the leading class, over N_BINS bins of equal width; 0 to 1."""
    bins = reliability(probs, labels)
    return float(sum(one.n * abs(one.confidence - one.accuracy) for one in bins) / len(labels))


def reliability(probs: FloatArray, labels: IntArray) -> tuple[Bin, ...]:
    """Confidence against accuracy in each bin that has faces."""
    confidence, right = probs.max(axis=1), probs.argmax(axis=1) == labels
    places = np.minimum((confidence * N_BINS).astype(np.int64), N_BINS - 1)
    bins = []
    for place in np.unique(places).tolist():
        here = places == place
        bins.append(Bin(float(confidence[here].mean()), float(right[here].mean()), int(here.sum())))
    return tuple(bins)
