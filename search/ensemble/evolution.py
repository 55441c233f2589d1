"""Weights on the simplex by CMA-ES: softmax of free numbers, so that none is negative and all sum to 1.

Source: Purucker & Beel, AutoML 2023 (on balanced accuracy it beats greedy selection; on smooth metrics it overfits).
"""

import numpy as np

from search.ensemble.faces import Faces, combine
from search.ensemble.macro_f1 import FloatArray, macro_f1_of_confusions
from search.ensemble.model_library import Library

N_EVALUATIONS = 1500
MOST_CANDIDATES = 25
"""Of more, the best by themselves; in more dimensions the evaluations do not suffice."""
STEP = 1.0
"""First step, in units of the softmax's exponents."""
LEAST_WEIGHT = 0.01
"""Smaller ones are left out: a network for less than a hundredth of a vote is not worth its time."""


def evolve_weights(library: Library, *, seed: int) -> FloatArray:
    """The weights with the best objective that an evolution from the plain average finds.

    Args:
        library: to choose from.
        seed: of the evolution.

    Returns:
        [candidates], non-negative, summing to 1; never worse on these faces than the plain average of the candidates
        it started with, but for what leaving small weights out changes.
    """
    from cmaes import CMA

    if library.n_candidates == 1:
        return np.ones(1)
    best = np.sort(np.argsort(-library.alone(), kind="stable")[:MOST_CANDIDATES])
    kinds = [_Votes(faces.only(best)) for faces in library.faces]
    start = np.zeros(len(best))
    fittest = start, float(combine([kind.scores(_softmax(start[None])) for kind in kinds], library.objective)[0])
    evolution = CMA(mean=start, sigma=STEP, seed=seed)
    for _ in range(N_EVALUATIONS // evolution.population_size):
        asked = np.stack([evolution.ask() for _ in range(evolution.population_size)])
        scores = combine([kind.scores(_softmax(asked)) for kind in kinds], library.objective)
        evolution.tell(list(zip(asked, (-scores).tolist(), strict=True)))
        if scores.max() > fittest[1]:
            fittest = asked[scores.argmax()], float(scores.max())
        if evolution.should_stop():
            break
    weights = _softmax(fittest[0][None])[0]
    weights[weights < LEAST_WEIGHT] = 0.0
    scattered = np.zeros(library.n_candidates)
    scattered[best] = weights / weights.sum()
    return scattered


class _Votes:
    """Scores of many weightings at once."""

    def __init__(self, faces: Faces) -> None:
        n_candidates, self._n_samples, self._n_classes = faces.probs.shape
        self._flat = np.ascontiguousarray(faces.probs.reshape(n_candidates, -1), dtype=np.float32)
        self._first_cells = self._n_classes * faces.labels.astype(np.int64)
        self._counts = faces.counts

    def scores(self, weights: FloatArray) -> FloatArray:
        """Macro-F1 of each weighting, [weightings, candidates] to [weightings]."""
        votes = (weights.astype(np.float32) @ self._flat).reshape(len(weights), self._n_samples, self._n_classes)
        cells = votes.argmax(axis=2) + self._first_cells
        n_cells = self._n_classes**2
        counted = [np.bincount(row, weights=self._counts, minlength=n_cells) for row in cells]
        return macro_f1_of_confusions(np.stack(counted).reshape(-1, self._n_classes, self._n_classes))


def _softmax(exponents: FloatArray) -> FloatArray:
    shifted = np.exp(exponents - exponents.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), dtype=np.float64)
