"""Greedy selection with replacement: round by round the candidate that lifts the vote's macro-F1 most.

Source: Caruana et al., ICML 2004.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from search.ensemble.faces import Faces, Objective, checked_faces, combine
from search.ensemble.macro_f1 import FloatArray, IntArray
from search.ensemble.pool import CandidatePool, GrowingVote
from spaces.errors import EnsembleError

TIE = 1e-12
"""Scores closer than this are equal: they are ratios of counts, summed in another order."""


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
    return greedy([checked_faces(probs, labels, counts)], rounds=rounds)


def greedy(faces: Sequence[Faces], *, rounds: int, objective: Objective = "mean") -> Selection:
    """Greedy selection on faces of one kind, or of several at once.

    Args:
        faces: of each kind, all with the same candidates.
        rounds: most candidates added, repeats included.
        objective: how the scores on several kinds become one.
    """
    votes = [GrowingVote(kind.pool or CandidatePool(kind.probs), kind.labels, kind.counts) for kind in faces]
    picks: list[int] = []
    trajectory: list[float] = []
    single = 0.0
    for size in range(1, rounds + 1):
        scores = combine([vote.scores() for vote in votes], objective)
        if size == 1:
            single = float(scores.max())
        tied = np.flatnonzero(scores > scores.max() - TIE)
        pick = _settle_tie(tied, picks, votes)
        picks.append(pick)
        trajectory.append(float(scores[pick]))
        for vote in votes:
            vote.add(pick)
    n_candidates = len(faces[0].probs)
    n_kept = int(np.argmax(np.asarray(trajectory) > max(trajectory) - TIE)) + 1
    weights = np.bincount(picks[:n_kept], minlength=n_candidates) / n_kept
    score = vote_score(faces, weights, objective=objective)
    if score < single - TIE:  # the division rounded a tie between two classes the other way
        n_kept, weights, score = 1, np.bincount(picks[:1], minlength=n_candidates).astype(np.float64), single
    return Selection(weights, score, single, picks=tuple(picks[:n_kept]), trajectory=tuple(trajectory))


def vote_score(faces: Sequence[Faces], weights: npt.ArrayLike, *, objective: Objective = "mean") -> float:
    """The objective of a weighted vote; weights [candidates] sum to 1."""
    scores = [np.asarray(kind.macro_f1_of_vote(weights)) for kind in faces]
    return float(combine(scores, objective))


def _settle_tie(tied: npt.NDArray[np.intp], picks: Sequence[int], votes: Sequence[GrowingVote]) -> int:
    choices = [candidate for candidate in tied.tolist() if candidate in picks] or tied.tolist()
    if len(choices) == 1:
        return int(choices[0])
    losses = [vote.log_losses(choices, size=len(picks) + 1) for vote in votes]
    return int(choices[np.mean(losses, axis=0).argmin()])
