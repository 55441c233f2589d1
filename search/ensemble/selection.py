"""Which candidates vote, and with how much weight: greedy selection with replacement on macro-F1, plain and bagged.

Arrays in, weights out. Both promise that on the faces they choose by, the ensemble is at least as good as the best
single candidate.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from search.ensemble.blending import soft_vote
from search.ensemble.macro_f1 import FloatArray, IntArray, check_probs, macro_f1_of_probs
from search.ensemble.pool import CandidatePool
from spaces.errors import EnsembleError

TIE = 1e-12
"""Scores closer than this are equal: they are ratios of counts, summed in another order."""

FEWEST_DRAWN = 4
"""Candidates in a bag at least, where there are as many: a choice among one or two is none."""

LEAST_SHARE = 0.75
"""A candidate below this share of the best one's macro-F1 has no vote. A network that knows next to nothing can lift
the score on the faces it is chosen by all the same, as its vote shifts every face between the classes: a setting of
thresholds in disguise, with more freedom than a few rare faces can settle."""


@dataclass(frozen=True)
class Selection:
    """What was chosen.

    Attributes:
        weights: [candidates], non-negative, summing to 1.
        score: macro-F1 of the weighted vote on the faces it was chosen by; too good to be expected elsewhere.
        best_single: macro-F1 of the best candidate alone, on the same faces.
        picks: candidates in the order they were added, up to the best ensemble; empty where bags were averaged.
        trajectory: macro-F1 after each round of greedy selection; empty where bags were averaged.
    """

    weights: FloatArray
    score: float
    best_single: float
    picks: tuple[int, ...] = ()
    trajectory: tuple[float, ...] = ()


def best_single(probs: npt.ArrayLike, labels: npt.ArrayLike, *, counts: IntArray | None = None) -> Selection:
    """All weight on the candidate with the best macro-F1; ties go to the lower log-loss, then the lower index."""
    return greedy_selection(probs, labels, rounds=1, counts=counts)


def greedy_selection(
    probs: npt.ArrayLike, labels: npt.ArrayLike, *, rounds: int = 25, counts: IntArray | None = None
) -> Selection:
    """Add, round by round, the candidate that lifts the average's macro-F1 most, each as often as it helps.

    Ties go to a candidate that is already in, then to the lower log-loss, then to the lower index. The ensemble is
    cut at the first best point of its way.

    Args:
        probs: [candidates, samples, classes]; rows over classes sum to 1.
        labels: [samples], class indices; -1 is left out.
        rounds: most candidates added, repeats included.
        counts: [samples], how often each sample counts; once when omitted.

    Raises:
        EnsembleError: shapes disagree, no sample is labelled, or rounds is below 1.

    Source: Caruana et al., ICML 2004.
    """
    if rounds < 1:
        raise EnsembleError(f"rounds must be 1 or more, got {rounds}")
    scores, truth, repeats = _checked(probs, labels, counts)
    return _greedy(scores, truth, repeats, rounds=rounds)


def bagged_selection(
    probs: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    bags: int = 10,
    share: float = 0.5,
    rounds: int = 15,
    max_members: int | None = None,
    least_share: float = LEAST_SHARE,
    seed: int = 0,
    counts: IntArray | None = None,
) -> Selection:
    """Average the weights of greedy selections from random parts of the candidates.

    Weak candidates are left out beforehand. Of few (up to FEWEST_DRAWN) every bag has all, and the bags differ by the
    faces they are drawn on.

    A bag that does not reach the best single candidate has no say, so weak candidates cannot get in by being drawn
    together. Where the average of the rest does not reach it either, plain greedy selection decides.

    Args:
        probs: [candidates, samples, classes]; rows over classes sum to 1.
        labels: [samples], class indices; -1 is left out.
        bags: how many parts are drawn.
        share: of the candidates in a bag.
        rounds: most candidates added in a bag, repeats included.
        max_members: most candidates with a weight: of too many, the heaviest and the best single one are selected
            among once more. No limit when omitted.
        least_share: of the best candidate's macro-F1, that a candidate must reach; 0 leaves none out.
        seed: of the draws.
        counts: [samples], how often each sample counts; once when omitted.

    Raises:
        EnsembleError: shapes disagree, no sample is labelled, or a number is out of its range.

    Source: Caruana et al., ICML 2004, section 2.3; leaving the weak out: Caruana et al., ICDM 2006 (by rank there).
    """
    if bags < 1 or rounds < 1 or not 0 < share <= 1:
        raise EnsembleError(f"bags and rounds must be 1 or more and share in 0..1, got {bags}, {rounds} and {share}")
    if not 0 <= least_share <= 1:
        raise EnsembleError(f"least_share must be in 0..1, got {least_share}")
    if max_members is not None and max_members < 1:
        raise EnsembleError(f"max_members must be 1 or more, got {max_members}")
    scores, truth, repeats = _checked(probs, labels, counts)
    alone = macro_f1_of_probs(scores, truth, counts=repeats)
    drawing = _Drawing(bags=bags, share=share, rounds=rounds, seed=seed)
    selection = _bagged_among(_worthy(alone, least_share), scores, truth, repeats, drawing)
    if max_members is None or np.count_nonzero(selection.weights) <= max_members:
        return selection
    best = int(alone.argmax())
    heaviest = [i for i in np.argsort(-selection.weights, kind="stable").tolist() if i != best]
    kept = np.sort([best, *heaviest[: max_members - 1]])
    return _bagged_among(kept, scores, truth, repeats, drawing)


@dataclass(frozen=True)
class _Drawing:
    """How bags are drawn; see `bagged_selection`."""

    bags: int
    share: float
    rounds: int
    seed: int


def _worthy(alone: FloatArray, least_share: float) -> npt.NDArray[np.intp]:
    """Candidates whose own macro-F1 is near enough to the best one's."""
    return np.flatnonzero(alone >= least_share * alone.max())


def _bagged_among(
    kept: npt.NDArray[np.intp], probs: FloatArray, labels: IntArray, counts: IntArray, drawing: _Drawing
) -> Selection:
    """The bagged selection from some of the candidates; the others have weight 0."""
    among = _bagged(probs[kept], labels, counts, drawing)
    weights = np.zeros(len(probs))
    weights[kept] = among.weights
    return replace(among, weights=weights, picks=tuple(int(kept[pick]) for pick in among.picks))


def _bagged(probs: FloatArray, labels: IntArray, counts: IntArray, drawing: _Drawing) -> Selection:
    generator = np.random.default_rng(drawing.seed)
    n_candidates, rounds = len(probs), drawing.rounds
    n_drawn = max(min(n_candidates, FEWEST_DRAWN), round(drawing.share * n_candidates))
    single = float(macro_f1_of_probs(probs, labels, counts=counts).max())
    kept = []
    for _ in range(drawing.bags):
        drawn = np.sort(generator.permutation(n_candidates)[:n_drawn])
        if n_drawn == n_candidates:
            chosen = _greedy(probs, labels, _redrawn(counts, generator), rounds=rounds)
        else:
            chosen = _greedy(probs[drawn], labels, counts, rounds=rounds)
        if n_drawn == n_candidates or chosen.score >= single - TIE:
            kept.append(np.bincount(drawn, weights=chosen.weights, minlength=n_candidates))
    if kept:
        weights = np.mean(kept, axis=0)
        score = _vote_score(probs, labels, counts, weights)
        if score >= single - TIE:
            return Selection(weights=weights, score=score, best_single=single)
    return _greedy(probs, labels, counts, rounds=rounds)


def selection_or_average(
    probs: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    averageable: npt.NDArray[np.bool_],
    max_members: int,
    seed: int = 0,
    counts: IntArray | None = None,
) -> Selection:
    """The bagged selection, or the plain average of the candidates where that is at least as good on these faces.

    An average has nothing to overfit with, so it is preferred when selecting gained nothing. Weak candidates have no
    part in either.

    Args:
        probs: [candidates, samples, classes]; rows over classes sum to 1.
        labels: [samples], class indices; -1 is left out.
        averageable: [candidates], which of them may enter an unweighted average.
        max_members: most candidates with a weight.
        seed: of the selection.
        counts: [samples], how often each sample counts; once when omitted.

    Raises:
        EnsembleError: as for `bagged_selection`.
    """
    chosen = bagged_selection(probs, labels, max_members=max_members, seed=seed, counts=counts)
    scores, truth, repeats = _checked(probs, labels, counts)
    averaged = np.zeros(len(scores), dtype=bool)
    averaged[_worthy(macro_f1_of_probs(scores, truth, counts=repeats), LEAST_SHARE)] = True
    averaged &= averageable
    n_averaged = int(np.count_nonzero(averaged))
    if not 1 < n_averaged <= max_members:
        return chosen
    weights = averaged / n_averaged
    score = _vote_score(scores, truth, repeats, weights)
    if score < chosen.score - TIE:
        return chosen
    return Selection(weights=weights, score=score, best_single=chosen.best_single)


def _redrawn(counts: IntArray, generator: np.random.Generator) -> IntArray:
    """How often each sample counts in a bootstrap draw of as many."""
    n_drawn = int(counts.sum())
    return np.asarray(generator.multinomial(n_drawn, counts / n_drawn), dtype=counts.dtype)


def _greedy(probs: FloatArray, labels: IntArray, counts: IntArray, *, rounds: int) -> Selection:
    pool = CandidatePool(probs, labels, counts)
    total = np.zeros(probs.shape[1:])
    picks: list[int] = []
    trajectory: list[float] = []
    single = 0.0
    for size in range(1, rounds + 1):
        scores = pool.scores_with(total)
        if size == 1:
            single = float(scores.max())
        tied = np.flatnonzero(scores > scores.max() - TIE)
        pick = _settle_tie(tied, picks, pool, total=total, size=size)
        picks.append(pick)
        trajectory.append(float(scores[pick]))
        total += probs[pick]
    n_kept = int(np.argmax(np.asarray(trajectory) > max(trajectory) - TIE)) + 1
    weights = np.bincount(picks[:n_kept], minlength=len(probs)) / n_kept
    score = _vote_score(probs, labels, counts, weights)
    if score < single - TIE:  # the division rounded a tie between two classes the other way
        n_kept, weights, score = 1, np.bincount(picks[:1], minlength=len(probs)).astype(np.float64), single
    return Selection(weights, score, single, picks=tuple(picks[:n_kept]), trajectory=tuple(trajectory))


def _settle_tie(
    tied: npt.NDArray[np.intp], picks: list[int], pool: CandidatePool, *, total: FloatArray, size: int
) -> int:
    used = tied[np.isin(tied, picks)]
    choices = used if len(used) else tied
    if len(choices) == 1:
        return int(choices[0])
    return int(choices[pool.log_losses_with(total, choices, size=size).argmin()])


def _vote_score(probs: FloatArray, labels: IntArray, counts: IntArray, weights: FloatArray) -> float:
    return float(macro_f1_of_probs(soft_vote(probs, weights)[None], labels, counts=counts)[0])


def _checked(
    probs: npt.ArrayLike, labels: npt.ArrayLike, counts: IntArray | None
) -> tuple[FloatArray, IntArray, npt.NDArray[Any]]:
    """Arrays of the right types, rows that count nothing left out."""
    scores, truth = np.asarray(probs, dtype=np.float64), np.asarray(labels).astype(np.int64)
    if counts is None:
        scores, truth = check_probs(scores, truth)
        return scores, truth, np.ones(len(truth), dtype=np.int64)
    if counts.shape != truth.shape or (counts < 0).any():
        raise EnsembleError(f"counts must be one a sample ({len(truth)}), 0 or more, got shape {list(counts.shape)}")
    used = (counts > 0) & (truth >= 0)
    scores, truth = check_probs(scores[:, used], truth[used])
    return scores, truth, counts[used]
