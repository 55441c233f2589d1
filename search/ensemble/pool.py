"""The candidates' probabilities, laid out so that greedy selection tries all of them at once."""

import numpy as np
import numpy.typing as npt

from search.ensemble.macro_f1 import FloatArray, IntArray, macro_f1_of_counts

_CHUNK_CELLS = 1 << 16


class CandidatePool:
    """Candidates and truth; every question is answered for all candidates at once, and only where it can matter.

    Args:
        probs: [candidates, samples, classes].
        labels: [samples], class indices.
        counts: [samples], how often each sample counts.
    """

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
