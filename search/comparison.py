"""What searching, averaging and selecting gained, side by side: on valid, honestly, and on the sealed test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from search.candidates import Candidate, FloatArray, stack_probs
from search.ensemble import best_single, bootstrap_interval, honest_estimate, selection_or_average, soft_vote
from search.ensemble.estimate import Selector
from search.ensemble.macro_f1 import IntArray
from trainables.data.table import FaceTable
from trainables.metrics import macro_f1

DEFAULT_TRIAL = "t0000"
ESTIMATE_DRAWS = 60
"""Bootstrap draws behind an estimate; each repeats the whole selection."""


@dataclass(frozen=True)
class Comparison:
    """Scores by row (`default`, `best_trial`, `uniform`, `ensemble`), and how many test faces they rest on.

    Each row has `valid`, `estimate` with `estimate_interval` (low, high), `test`; None where unknown.
    """

    scores: dict[str, dict[str, Any]]
    n_test_rows: int


def compare(
    candidates: Sequence[Candidate],
    members: Mapping[str, float],
    table: FaceTable,
    *,
    best_trial: str,
    max_members: int,
    seed: int,
) -> Comparison:
    """Score the four ways of using a search's candidates.

    The uniform average is over the candidates that were trained to their end. A row that involves choosing has an
    estimate that repeats the choice on bootstrap draws; one that does not has the score and its bootstrap interval.

    Args:
        candidates: all that could vote.
        members: the ensemble's weights by candidate.
        table: whose sealed test split is read, this once, after everything was chosen.
        best_trial: the trial with the best valid score.
        max_members: of the ensemble, as it was selected.
        seed: of the selection.
    """
    rows = _row_weights(candidates, members, best_trial=best_trial)
    labels = candidates[0].scores.labels
    probs = stack_probs(candidates)
    n_classes = probs.shape[2]
    subjects = candidates[0].scores.subjects
    selectors = _selectors(candidates, max_members=max_members, seed=seed)
    scores: dict[str, dict[str, Any]] = {}
    for row, weights in rows.items():
        preds = soft_vote(probs, weights).argmax(axis=1)
        estimate = _estimate(selectors.get(row), probs, labels, preds, subjects)
        scores[row] = {"valid": macro_f1(labels, preds, n_classes), **estimate, "test": None}
    n_test_rows = _add_test_scores(scores, rows, candidates, table)
    return Comparison(scores=scores, n_test_rows=n_test_rows)


def _row_weights(
    candidates: Sequence[Candidate], members: Mapping[str, float], *, best_trial: str
) -> dict[str, FloatArray]:
    keys = [candidate.key for candidate in candidates]
    complete = np.array([candidate.is_complete for candidate in candidates], dtype=float)
    if not complete.any():
        complete[:] = 1.0
    rows = {}
    for row, key in (("default", DEFAULT_TRIAL), ("best_trial", best_trial)):
        if key in keys:
            rows[row] = np.array([float(key == other) for other in keys])
    rows["uniform"] = complete / complete.sum()
    rows["ensemble"] = np.array([members.get(key, 0.0) for key in keys])
    return rows


def _selectors(candidates: Sequence[Candidate], *, max_members: int, seed: int) -> dict[str, Selector]:
    """How the rows that were chosen on the valid split were chosen, to be repeated on bootstrap draws."""
    complete = np.array([candidate.is_complete for candidate in candidates])
    trials = np.flatnonzero([candidate.key.startswith("t") for candidate in candidates])

    def best_trial(probs: FloatArray, labels: IntArray, counts: IntArray) -> FloatArray:
        weights = np.zeros(len(probs))
        weights[trials] = best_single(probs[trials], labels, counts=counts).weights
        return weights

    def ensemble(probs: FloatArray, labels: IntArray, counts: IntArray) -> FloatArray:
        return selection_or_average(
            probs, labels, averageable=complete, counts=counts, max_members=max_members, seed=seed
        ).weights

    return {"best_trial": best_trial, "ensemble": ensemble}


def _estimate(
    selector: Selector | None,
    probs: FloatArray,
    labels: npt.NDArray[np.int8],
    preds: npt.NDArray[np.intp],
    subjects: Sequence[str | None],
) -> dict[str, Any]:
    """`estimate` and `estimate_interval` of one row."""
    if selector is not None:
        found = honest_estimate(probs, labels, subjects, select=selector, n_draws=ESTIMATE_DRAWS)
        return {"estimate": found.score, "estimate_interval": [found.interval.low, found.interval.high]}
    interval = bootstrap_interval(labels, preds, subjects, n_classes=probs.shape[2])
    score = macro_f1(labels, preds, probs.shape[2])
    return {"estimate": score, "estimate_interval": [interval.low, interval.high]}


def _add_test_scores(
    scores: dict[str, dict[str, Any]],
    rows: Mapping[str, FloatArray],
    candidates: Sequence[Candidate],
    table: FaceTable,
) -> int:
    split = table.sealed_test()
    if split is None:
        return 0
    needed = [i for i in range(len(candidates)) if any(weights[i] > 0 for weights in rows.values())]
    probs = {i: candidates[i].probs_on(split) for i in needed}
    for row, weights in rows.items():
        vote = sum((weights[i] * probs[i] for i in needed), start=np.zeros_like(probs[needed[0]]))
        scores[row]["test"] = macro_f1(split.expression, vote.argmax(axis=1), vote.shape[1])
    return int(split.n_rows)
