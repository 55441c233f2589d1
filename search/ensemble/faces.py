"""Labelled faces of one kind, and what every candidate says of them: what an ensemble is selected on."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from search.ensemble.blending import soft_vote
from search.ensemble.macro_f1 import FloatArray, IntArray, Scores, check_counts, check_probs, macro_f1_of_probs
from search.ensemble.pool import CandidatePool

Objective = Literal["mean", "worst"]
"""Of faces of several kinds: the mean of their macro-F1, or the lowest."""


@dataclass(frozen=True, eq=False)
class Faces:
    """Labelled faces of one kind.

    Attributes:
        probs: [candidates, samples, classes], of float32 or float64; rows over classes sum to 1.
        labels: [samples], class indices; none is -1.
        counts: [samples], how often each sample counts, 0 or more; some count.
        pool: of the candidates, where one was built to be shared; see `pooled`.
    """

    probs: Scores
    labels: IntArray
    counts: IntArray
    pool: CandidatePool | None = field(default=None, repr=False)

    def only(self, candidates: npt.NDArray[np.intp]) -> "Faces":
        """The same faces with some of the candidates."""
        return Faces(self.probs[candidates], self.labels, self.counts)

    def pooled(self) -> "Faces":
        """The same faces with a pool, for those who select on them again and again; as large as the probabilities."""
        return replace(self, pool=CandidatePool(self.probs))

    def counted(self, counts: IntArray) -> "Faces":
        """The same faces, counted otherwise; they share a pool where there is one.

        Args:
            counts: [samples], 0 or more; some are above.

        Raises:
            EnsembleError: there is another number of them, one is negative, or all are 0.
        """
        return replace(self, counts=check_counts(counts, self.labels))

    def macro_f1_alone(self) -> FloatArray:
        """Macro-F1 of each candidate by itself, [candidates]."""
        return macro_f1_of_probs(self.probs, self.labels, counts=self.counts)

    def macro_f1_of_vote(self, weights: npt.ArrayLike) -> float:
        """Macro-F1 of a weighted vote; weights [candidates] sum to 1."""
        vote = soft_vote(self.probs, weights)
        return float(macro_f1_of_probs(vote[None], self.labels, counts=self.counts)[0])


def checked_faces(probs: npt.ArrayLike, labels: npt.ArrayLike, counts: IntArray | None = None) -> Faces:
    """Faces from plain arrays; samples without a label and those that count 0 are left out.

    Args:
        probs: [candidates, samples, classes]; rows over classes sum to 1.
        labels: [samples], class indices; -1 is left out.
        counts: [samples], how often each sample counts; once when omitted.

    Raises:
        EnsembleError: shapes disagree, no sample is left, a label is no class, or numbers are no probabilities.
    """
    scores, truth = check_probs(probs, labels)
    times = check_counts(counts, labels)
    used = times > 0
    return Faces(scores, truth, times) if used.all() else Faces(scores[:, used], truth[used], times[used])


def combine(scores: Sequence[FloatArray], objective: Objective) -> FloatArray:
    """One score from those on faces of several kinds; [kinds] of arrays of one shape."""
    stacked = np.stack(scores)
    return np.asarray(stacked.mean(axis=0) if objective == "mean" else stacked.min(axis=0), dtype=np.float64)
