"""What searching, averaging and selecting gained: on valid, honestly, elsewhere, and on the sealed test."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from search.candidates import Candidate, FloatArray
from search.ensemble.blending import blend_curve, soft_vote
from search.ensemble.calibration import Calibration, calibrate
from search.ensemble.crossfit import cross_fit, fixed_answers
from search.ensemble.estimate import Judgement, judge
from search.ensemble.greedy import TIE
from search.ensemble.model_library import Kind, Library, plain_traits
from search.ensemble.selection import METHODS, Choose, choose_single, choose_uniform, limited
from search.ensemble.sweep import StepCurve
from search.folder import DEFAULT_TRIAL
from trainables.data.table import FaceTable
from trainables.metrics import macro_f1

ROWS = {
    "default": "default config",
    "best_trial": "best trial",
    "uniform": "uniform average",
    "ensemble": "ensemble",
}
"""Rows of the comparison, by their names in summary.json, in words."""
FEWEST_UNITS = 2
"""People or faces that a cross-fit needs."""

Told = Callable[[float], None] | None


@dataclass(frozen=True, eq=False)
class Choice:
    """Who votes, why, and what to expect of it.

    Attributes:
        method: of `METHODS`, by which the members were chosen.
        rows: weights [candidates] by row: `default`, `best_trial`, `uniform`, `ensemble`.
        scores: macro-F1 by row: `valid`, `estimate` with `estimate_interval` (low, high), `optimism`, and `test`; None
            where unknown.
        methods: the same for each method, and whether it was chosen.
        differences: of the ensemble against other rows: `difference`, `low`, `high`.
        calibration: of the ensemble.
        confusion: [classes, classes], cross-fitted, rows are the truth; the mean over divisions into folds.
        judgement: behind all that; None where there was one face or person alone, and nothing could be estimated.
    """

    method: str
    rows: dict[str, FloatArray]
    scores: dict[str, dict[str, Any]]
    methods: list[dict[str, Any]] = field(default_factory=list)
    differences: dict[str, dict[str, float]] = field(default_factory=dict)
    calibration: Calibration | None = None
    confusion: FloatArray | None = None
    judgement: Judgement | None = None


def choose_ensemble(library: Library, *, max_members: int, seed: int, told: Told = None) -> Choice:
    """Choose the members by the method that cross-fitting prefers, and estimate what to expect of all rows.

    A method whose ensemble is worse on the valid faces than the best single candidate there is not taken: whoever looks
    at that column would rightly ask why.

    Args:
        library: the candidates, and what they say of the faces.
        max_members: of the ensemble.
        seed: of whatever is drawn.
        told: the share done.
    """
    ways = {name: limited(method.choose, max_members) for name, method in METHODS.items()}
    weights = {name: way(library, seed) for name, way in ways.items()}
    single = library.score(weights["best_single"])
    among = [name for name in ways if library.score(weights[name]) >= single - TIE]
    row_ways = _row_ways(library)
    weights |= {name: way(library, seed) for name, way in row_ways.items()}
    if min(kind.n_units for kind in library.kinds) < FEWEST_UNITS:
        rows = _rows(weights, method=among[0])
        return Choice(among[0], rows, {row: _unestimated(library, own) for row, own in rows.items()})
    cross = cross_fit(library, {**ways, **row_ways}, seed=seed, progress=told)
    judgement = judge(cross, library, among=among, weights=weights, seed=seed)
    method = judgement.chosen
    rows = _rows(weights, method=method)
    kind, place = library.kinds[0], cross.place(method)
    return Choice(
        method=method,
        rows=rows,
        scores={row: _scores(judgement, _way_of(row, method), library, own) for row, own in rows.items()},
        methods=[
            {"method": name, **_scores(judgement, name, library, weights[name]), "chosen": name == method}
            for name in ways
        ],
        differences=differences(judgement, _others_than_the_ensemble(rows, method)),
        calibration=calibrate(cross.probs[0][place], kind.faces.labels, kind.units, seed=seed),
        confusion=cross.confusions[0][place].sum(axis=0),
        judgement=judgement,
    )


def _others_than_the_ensemble(rows: Mapping[str, FloatArray], method: str) -> dict[str, str]:
    """The ways of the rows that are not the same vote as the ensemble, and its own."""
    same = [row for row, own in rows.items() if row != "ensemble" and np.array_equal(own, rows["ensemble"])]
    return {row: _way_of(row, method) for row in rows if row not in same}


def on_other_faces(kind: Kind, rows: Mapping[str, FloatArray]) -> dict[str, Any]:
    """Scores of rows on faces of another kind that had no part in choosing.

    Args:
        kind: the faces.
        rows: weights [candidates] by row.

    Returns:
        `scores` by row: `score` and `interval` (low, high); `differences` of the ensemble against the others.
    """
    library = Library((kind,), plain_traits(len(kind.faces.probs)))
    judgement = judge(fixed_answers(kind, rows), library, among=["ensemble"])
    return _told_of_kind(judgement, {row: row for row in rows}, kind=0)


def on_joined_faces(choice: Choice, kind: int) -> dict[str, Any]:
    """Scores of a choice's rows on faces of another kind that had a part in choosing: cross-fitted, as its own are.

    Args:
        choice: with a judgement.
        kind: place among the library's.

    Returns:
        As `on_other_faces`.
    """
    assert choice.judgement is not None, "faces that choose were cross-fitted"
    return _told_of_kind(choice.judgement, {row: _way_of(row, choice.method) for row in choice.rows}, kind=kind)


def _told_of_kind(judgement: Judgement, ways: Mapping[str, str], *, kind: int) -> dict[str, Any]:
    scores = {}
    for row, way in ways.items():
        low, high = judgement.interval(way, kind=kind)
        scores[row] = {"score": judgement.score(way, kind=kind), "interval": [low, high]}
    return {"scores": scores, "differences": differences(judgement, ways, kind=kind)}


def _rows(weights: Mapping[str, FloatArray], *, method: str) -> dict[str, FloatArray]:
    return {row: weights[_way_of(row, method)] for row in ROWS if _way_of(row, method) in weights}


def _way_of(row: str, method: str) -> str:
    """What a row's way is called among all that are cross-fitted."""
    return method if row == "ensemble" else f"row {row}"


def _unestimated(library: Library, weights: FloatArray) -> dict[str, Any]:
    score = library.kinds[0].faces.macro_f1_of_vote(weights)
    return {"valid": score, "estimate": None, "estimate_interval": None, "optimism": None, "test": None}


def _row_ways(library: Library) -> dict[str, Choose]:
    """How the rows beside the ensemble come about, by `row NAME`; to be repeated where faces are left out."""
    ways: dict[str, Choose] = {"row uniform": choose_uniform}
    if DEFAULT_TRIAL in library.traits.names:
        ways["row default"] = _take_default
    if library.traits.is_trial.any():
        ways["row best_trial"] = _take_best_trial
    return ways


def _take_default(library: Library, seed: int) -> FloatArray:
    return np.array([float(name == DEFAULT_TRIAL) for name in library.traits.names])


def _take_best_trial(library: Library, seed: int) -> FloatArray:
    trials = np.flatnonzero(library.traits.is_trial)
    weights = np.zeros(library.n_candidates)
    weights[trials] = choose_single(library.only(trials), seed)
    return weights


def _scores(judgement: Judgement, name: str, library: Library, weights: FloatArray) -> dict[str, Any]:
    found = judgement.estimate(name, library, weights)
    return {
        "valid": found.chosen_on,
        "estimate": found.score,
        "estimate_interval": [found.interval.low, found.interval.high],
        "optimism": found.optimism,
        "test": None,
    }


def differences(judgement: Judgement, ways: Mapping[str, str], *, kind: int = 0) -> dict[str, dict[str, float]]:
    """Of the ensemble against each other row, on the same people."""
    found = {}
    for row, way in ways.items():
        if row != "ensemble":
            difference = judgement.difference(ways["ensemble"], way, kind=kind)
            found[row] = {"difference": difference.score, "low": difference.low, "high": difference.high}
    return found


def towards_average(library: Library, choice: Choice) -> StepCurve:
    """Exact macro-F1 on valid of the ensemble mixed with the plain average, from weight 0 to the average's 1.

    A curve that is flat says that the choice of weights hardly matters.
    """
    faces = library.kinds[0].faces
    average, ensemble = (soft_vote(faces.probs, choice.rows[row]) for row in ("uniform", "ensemble"))
    return blend_curve(average, ensemble, faces.labels)


def add_test_scores(choice: Choice, candidates: Sequence[Candidate], table: FaceTable, *, told: Told = None) -> int:
    """Put the rows' scores on the sealed test split, read this once, into a choice that was made.

    Returns:
        How many test faces there are; 0 without a test split.
    """
    split = table.sealed_test()
    if split is None:
        return 0
    needed = [i for i in range(len(candidates)) if any(weights[i] > 0 for weights in choice.rows.values())]
    probs = {}
    for number, index in enumerate(needed, start=1):
        probs[index] = candidates[index].probs_on(split.images)
        if told:
            told(number / len(needed))
    for row, weights in choice.rows.items():
        vote = sum((weights[i] * probs[i] for i in needed), start=np.zeros_like(probs[needed[0]]))
        choice.scores[row]["test"] = macro_f1(split.expression, vote.argmax(axis=1), vote.shape[1])
    return int(split.n_rows)
