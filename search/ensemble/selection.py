"""Which candidates vote, and with how much weight: greedy selection with replacement on macro-F1, plain and bagged.

Arrays in, weights out. Both promise that on the faces they choose by, the ensemble is at least as good as the best
single candidate.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from search.ensemble.blending import soft_vote
from search.ensemble.macro_f1 import FloatArray, IntArray, check_probs, macro_f1_of_counts, macro_f1_of_probs
from spaces.errors import EnsembleError

TIE = 1e-12
"""Scores closer than this are equal: they are ratios of counts, summed in another order."""

FEWEST_DRAWN = 4
"""Candidates in a bag at least, where there are as many: a choice among one or two is none."""

_CHUNK_CELLS = 1 << 16


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
    seed: int = 0,
    counts: IntArray | None = None,
) -> Selection:
    """Average the weights of greedy selections from random parts of the candidates.

    Of few candidates (up to FEWEST_DRAWN) every bag has all, and the bags differ by the faces they are drawn on.

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
        seed: of the draws.
        counts: [samples], how often each sample counts; once when omitted.

    Raises:
        EnsembleError: shapes disagree, no sample is labelled, or bags, share, rounds or max_members is out of range.

    Source: Caruana et al., ICML 2004, section 2.3.
    """
    if bags < 1 or rounds < 1 or not 0 < share <= 1:
        raise EnsembleError(f"bags and rounds must be 1 or more and share in 0..1, got {bags}, {rounds} and {share}")
    if max_members is not None and max_members < 1:
        raise EnsembleError(f"max_members must be 1 or more, got {max_members}")
    scores, truth, repeats = _checked(probs, labels, counts)
    selection = _bagged(scores, truth, repeats, bags=bags, share=share, rounds=rounds, seed=seed)
    if max_members is None or np.count_nonzero(selection.weights) <= max_members:
        return selection
    best = int(macro_f1_of_probs(scores, truth, counts=repeats).argmax())
    heaviest = [i for i in np.argsort(-selection.weights, kind="stable").tolist() if i != best]
    kept = np.sort([best, *heaviest[: max_members - 1]])
    fewer = _bagged(scores[kept], truth, repeats, bags=bags, share=share, rounds=rounds, seed=seed)
    weights = np.zeros(len(scores))
    weights[kept] = fewer.weights
    return Selection(weights=weights, score=fewer.score, best_single=fewer.best_single)


def _bagged(
    probs: FloatArray, labels: IntArray, counts: IntArray, *, bags: int, share: float, rounds: int, seed: int
) -> Selection:
    generator = np.random.default_rng(seed)
    n_candidates = len(probs)
    n_drawn = max(min(n_candidates, FEWEST_DRAWN), round(share * n_candidates))
    single = float(macro_f1_of_probs(probs, labels, counts=counts).max())
    kept = []
    for _ in range(bags):
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

    An average has nothing to overfit with, so it is preferred when selecting gained nothing.

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
    n_averaged = int(np.count_nonzero(averageable))
    if not 1 < n_averaged <= max_members:
        return chosen
    scores, truth, repeats = _checked(probs, labels, counts)
    weights = averageable / n_averaged
    score = _vote_score(scores, truth, repeats, weights)
    if score < chosen.score - TIE:
        return chosen
    return Selection(weights=weights, score=score, best_single=chosen.best_single)


def _redrawn(counts: IntArray, generator: np.random.Generator) -> IntArray:
    """How often each sample counts in a bootstrap draw of as many."""
    n_drawn = int(counts.sum())
    return np.asarray(generator.multinomial(n_drawn, counts / n_drawn), dtype=counts.dtype)


class _Library:
    """The candidates, laid out so that all of them are tried at once and only where it can matter."""

    def __init__(self, probs: FloatArray, labels: IntArray, counts: IntArray) -> None:
        self.planes = np.ascontiguousarray(probs.transpose(2, 1, 0))  # [classes, samples, candidates]
        self.lowest, self.highest = probs.min(axis=0), probs.max(axis=0)  # [samples, classes]
        self.of_truth = probs[:, np.arange(len(labels)), labels]  # [candidates, samples]
        self.labels, self.counts = labels, counts.astype(np.float64)
        self.first_cells = probs.shape[2] * np.arange(len(probs))  # [candidates]
        self.n_true = np.bincount(labels, weights=counts, minlength=probs.shape[2])

    def scores_with(self, total: FloatArray) -> FloatArray:
        """Macro-F1 of the vote after adding each candidate to the sum so far; [candidates].

        A sample whose leading class stays ahead whichever candidate is added is counted once for all of them.
        """
        rows = np.arange(len(total))
        leader = total.argmax(axis=1)
        rivals = total + self.highest
        rivals[rows, leader] = -np.inf
        settled = total[rows, leader] + self.lowest[rows, leader] > rivals.max(axis=1)
        hits, n_pred = self._count_contested(np.flatnonzero(~settled), total)
        right = settled & (leader == self.labels)
        n_classes = total.shape[1]
        n_pred += np.bincount(leader[settled], self.counts[settled], minlength=n_classes)
        hits += np.bincount(leader[right], self.counts[right], minlength=n_classes)
        return macro_f1_of_counts(hits, n_pred, self.n_true)

    def log_losses_with(self, total: FloatArray, candidates: IntArray, *, size: int) -> FloatArray:
        """Log-loss of the average after adding each of some candidates; [candidates]."""
        so_far = total[np.arange(len(total)), self.labels]
        of_truth = (so_far + self.of_truth[candidates]) / size
        losses = -np.log(np.maximum(of_truth, 1e-12)) @ self.counts
        return np.asarray(losses / self.counts.sum(), dtype=np.float64)

    def _count_contested(self, contested: IntArray, total: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Right and all predictions per candidate and class, over some samples; each [candidates, classes]."""
        n_classes, _, n_candidates = self.planes.shape
        n_cells = n_candidates * n_classes
        hits, n_pred = np.zeros(n_cells), np.zeros(n_cells)
        step = max(1, _CHUNK_CELLS // n_candidates)
        for start in range(0, len(contested), step):
            rows = contested[start : start + step]
            cells = self._cells(rows, total[rows])
            right = cells == self.first_cells + self.labels[rows, None]
            counts = np.broadcast_to(self.counts[rows, None], cells.shape)
            n_pred += np.bincount(cells.reshape(-1), counts.reshape(-1), minlength=n_cells)
            hits += np.bincount(cells[right], counts[right], minlength=n_cells)
        return hits.reshape(n_candidates, n_classes), n_pred.reshape(n_candidates, n_classes)

    def _cells(self, rows: IntArray, total: FloatArray) -> npt.NDArray[np.int64]:
        """The predicted class after adding each candidate, as candidate * classes + class; [rows, candidates]."""
        best = self.planes[0, rows] + total[:, 0, None]
        cells = np.broadcast_to(self.first_cells, best.shape).copy()
        for index in range(1, len(self.planes)):
            value = self.planes[index, rows] + total[:, index, None]
            np.copyto(cells, self.first_cells + index, where=value > best)
            np.maximum(best, value, out=best)
        return cells


def _greedy(probs: FloatArray, labels: IntArray, counts: IntArray, *, rounds: int) -> Selection:
    library = _Library(probs, labels, counts)
    total = np.zeros(probs.shape[1:])
    picks: list[int] = []
    trajectory: list[float] = []
    single = 0.0
    for size in range(1, rounds + 1):
        scores = library.scores_with(total)
        if size == 1:
            single = float(scores.max())
        tied = np.flatnonzero(scores > scores.max() - TIE)
        pick = _settle_tie(tied, picks, library, total=total, size=size)
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
    tied: npt.NDArray[np.intp], picks: list[int], library: _Library, *, total: FloatArray, size: int
) -> int:
    used = tied[np.isin(tied, picks)]
    choices = used if len(used) else tied
    if len(choices) == 1:
        return int(choices[0])
    return int(choices[library.log_losses_with(total, choices, size=size).argmin()])


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
