"""The candidates' probabilities, laid out so that a vote tries all of them at once, and the vote that grows by them."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from search.ensemble.macro_f1 import FloatArray, IntArray, Scores, macro_f1_of_counts

_CELLS = 1 << 16
"""Numbers of a class that are looked at in one go; a few such arrays stay in a core's cache."""

_FEW_CLASSES = (2, 4)
"""Samples that only so many classes could win are tried apart from those that any could win."""

_WORTH_PARTING = 1 << 16
"""Below so many numbers of a class, trying all classes takes less time than parting the samples."""

_OF_ONE_THREAD = 1 << 18
"""A matrix product of more multiplications is shared among threads by OpenBLAS; products this small gain nothing by it,
and on a busy machine threads that wait for each other cost many times what the product does."""

_EXACT_IN_FLOAT32 = 1 << 24
"""Counts up to this are whole numbers in float32 too."""


class CandidatePool:
    """What all candidates say: one copy of their probabilities, in their own precision, beside the one that was given.

    It knows neither labels nor counts: any number of votes can share it.

    Args:
        probs: [candidates, samples, classes], of float32 or float64.
    """

    def __init__(self, probs: Scores) -> None:
        n_candidates, n_samples, self.n_classes = probs.shape
        self.probs = probs
        self.rows = np.empty((n_samples * self.n_classes, n_candidates), dtype=probs.dtype)
        step = max(1, _CELLS // self.n_classes)
        for start in range(0, n_samples, step):
            block = probs[:, start : start + step].reshape(n_candidates, -1)
            self.rows[start * self.n_classes : start * self.n_classes + block.shape[1]] = block.T
        self.lowest, self.highest = (
            np.ascontiguousarray(extreme(axis=0).T, dtype=np.float64) for extreme in (probs.min, probs.max)
        )  # [classes, samples]


class GrowingVote:
    """A sum of candidates' probabilities, and what each further candidate would make of it.

    Sums are of float64 whatever the pool's precision, so that every comparison is the one that a plain loop over
    float64 copies would make.

    Args:
        pool: of the candidates.
        labels: [samples], class indices.
        counts: [samples], how often each sample counts; what counts 0 is not looked at.
    """

    def __init__(self, pool: CandidatePool, labels: IntArray, counts: IntArray) -> None:
        self._pool = pool
        self._samples = np.flatnonzero(counts)
        self._part = slice(None) if len(self._samples) == len(counts) else self._samples
        self._labels, self._counts = labels[self._part], counts[self._part].astype(np.float64)
        self._lowest, self._highest = pool.lowest[:, self._part], pool.highest[:, self._part]
        self._total = np.zeros(self._lowest.shape)  # [classes, samples]
        self._n_true = self._count(self._labels, self._counts)
        self._small = np.float32 if self._counts.sum() < _EXACT_IN_FLOAT32 else np.float64

    def add(self, candidate: int) -> None:
        """Give one more vote to a candidate."""
        self._total += self._pool.probs[candidate, self._part].T

    def scores(self) -> FloatArray:
        """Macro-F1 after adding each candidate; [candidates].

        A class that stays behind the leader whichever candidate is added is not tried.
        """
        leaders = self._total.argmax(axis=0)
        presumed = leaders.copy()
        moved = np.zeros((2 * len(self._total), self._pool.rows.shape[1]))
        for places, classes in self._open_samples(leaders):
            presumed[places] = classes[0]
            step = max(1, _CELLS // moved.shape[1])
            for start in range(0, len(places), step):
                moved += self._moves(places[start : start + step], classes[:, start : start + step])
        n_pred, hits = moved.reshape(2, len(self._total), -1)  # [classes, candidates]
        right = presumed == self._labels
        n_pred += self._count(presumed, self._counts)[:, None]
        hits += self._count(presumed[right], self._counts[right])[:, None]
        return macro_f1_of_counts(hits.T, n_pred.T, self._n_true)

    def log_losses(self, candidates: Sequence[int], *, size: int) -> FloatArray:
        """Log-loss of the average after adding each of some candidates; [candidates].

        Args:
            candidates: indices.
            size: votes in the average.
        """
        so_far = self._total[self._labels, np.arange(len(self._labels))]
        losses = np.empty(len(candidates))
        for place, candidate in enumerate(candidates):
            of_truth = (so_far + self._pool.probs[candidate, self._samples, self._labels]) / size
            losses[place] = -(np.log(np.maximum(of_truth, 1e-12)) * self._counts).sum() / self._counts.sum()
        return losses

    def _open_samples(self, leaders: IntArray) -> list[tuple[IntArray, IntArray]]:
        """Samples that some candidate could move, in groups: places [n] and the classes to try, rising, [tried, n].

        Rounding keeps the order of sums, so that these bounds hold for the rounded sums too.
        """
        n_classes, everywhere = len(self._total), np.arange(len(leaders))
        floor = self._total[leaders, everywhere] + self._lowest[leaders, everywhere]
        could_win = self._total + self._highest >= floor  # [classes, samples]; the leader always could
        n_could = could_win.sum(axis=0, dtype=np.int16)
        n_numbers = np.count_nonzero(n_could > 1) * self._pool.rows.shape[1]
        few = [n for n in _FEW_CLASSES if n < n_classes and n_numbers > _WORTH_PARTING]
        groups: list[tuple[IntArray, IntArray]] = []
        fewest = 1
        for n_tried in (*few, n_classes):
            places = np.flatnonzero((n_could > fewest) & (n_could <= n_tried))
            fewest = n_tried
            if len(places):
                groups.append((places, _first_of(could_win[:, places], n_tried)))
        return groups

    def _moves(self, places: IntArray, classes: IntArray) -> FloatArray:
        """How each candidate moves some samples from the first class tried to the others.

        Args:
            places: [n], of the samples.
            classes: [tried, n].

        Returns:
            [2 * classes, candidates]: changes in how many are predicted of each class, then in how many of these are
            right.
        """
        n_products = 2 * len(self._total) * self._pool.rows.shape[1] * len(places)
        n_at_once = math.ceil(len(places) / math.ceil(n_products / _OF_ONE_THREAD))
        n_blocks = math.ceil(len(places) / n_at_once)
        wins = self._wins(places, classes, n_rows=n_blocks * n_at_once)
        parts = wins.reshape(len(wins), n_blocks, n_at_once, -1).astype(self._small)
        moves = self._weights(places, classes, n_at_once=n_at_once) @ parts
        return np.asarray(moves.sum(axis=(0, 1)), dtype=np.float64)

    def _wins(self, places: IntArray, classes: IntArray, *, n_rows: int) -> npt.NDArray[np.bool_]:
        """Where each class but the first is the one predicted; [tried - 1, rows, candidates], rows beyond n False."""
        rows = self._samples[places] * len(self._total) + classes
        heights = self._total[classes, places]
        best = self._raised(rows[0], heights[0])  # [n, candidates]
        wins = np.zeros((len(classes) - 1, n_rows, best.shape[1]), dtype=np.bool_)
        for index in range(1, len(classes)):
            value = self._raised(rows[index], heights[index])
            np.greater(value, best, out=wins[index - 1, : len(places)])
            np.maximum(best, value, out=best)
        is_lost = wins[-1]  # to a later class that is higher still
        for index in range(len(classes) - 3, -1, -1):
            wins[index] &= ~is_lost
            is_lost = is_lost | wins[index]
        return wins

    def _raised(self, rows: IntArray, heights: FloatArray) -> FloatArray:
        """Sums after adding each candidate, [n, candidates]."""
        values = np.take(self._pool.rows, rows, axis=0).astype(np.float64, copy=False)
        values += heights[:, None]
        return values

    def _weights(self, places: IntArray, classes: IntArray, *, n_at_once: int) -> npt.NDArray[Any]:
        """What a move to each class but the first changes: [tried - 1, blocks, 2 * classes, n in a block]."""
        n_tried, n_classes = len(classes), len(self._total)
        labels, counts = self._labels[places], self._counts[places]
        blocks, offsets = np.divmod(np.arange(len(places)), n_at_once)
        slots = np.arange(n_tried - 1)[:, None]
        weights = np.zeros((n_tried - 1, blocks[-1] + 1, 2 * n_classes, n_at_once), dtype=self._small)
        weights[slots, blocks, classes[0], offsets] = -counts
        weights[slots, blocks, classes[1:], offsets] = counts
        weights[slots, blocks, n_classes + classes[0], offsets] = -counts * (labels == classes[0])
        weights[slots, blocks, n_classes + classes[1:], offsets] = counts * (labels == classes[1:])
        return weights

    def _count(self, preds: IntArray, counts: FloatArray) -> FloatArray:
        return np.asarray(np.bincount(preds, weights=counts, minlength=self._pool.n_classes), dtype=np.float64)


def _first_of(could_win: npt.NDArray[np.bool_], n_tried: int) -> IntArray:
    """The classes that could win and as many others as are missing, rising; [classes, n] to [tried, n]."""
    if n_tried == len(could_win):
        return np.broadcast_to(np.arange(n_tried)[:, None], could_win.shape)
    order = np.argsort(~could_win.T, axis=1, kind="stable")[:, :n_tried]
    return np.ascontiguousarray(np.sort(order, axis=1).T)
