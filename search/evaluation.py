"""How predictions compare with the truth: counted batch by batch, told in the words of the field."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from search.ensemble.bootstrap import Interval, bootstrap_interval
from spaces.errors import DataError
from trainables.data.classes import ALIASES, class_key
from trainables.metrics import confusion_matrix, f1_per_class


@dataclass(frozen=True)
class Evaluation:
    """How predictions compare with the truth.

    Attributes:
        classes: names, in the order of the model's answers.
        confusion: [classes, classes], rows are the truth.
        interval: bootstrap interval of macro-F1.
        left_out: faces not counted, by reason.
    """

    classes: tuple[str, ...]
    confusion: npt.NDArray[np.int64]
    interval: Interval
    left_out: dict[str, int] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Faces that were counted."""
        return int(self.confusion.sum())

    @property
    def macro_f1(self) -> float:
        """Mean F1 over all of the model's classes, absent ones included."""
        return float(f1_per_class(self.confusion).mean())

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return float(np.trace(self.confusion) / self.n)

    def per_class(self) -> dict[str, dict[str, float]]:
        """Precision, recall, F1 and support by class."""
        hits = np.diag(self.confusion)
        n_pred, n_true = self.confusion.sum(axis=0), self.confusion.sum(axis=1)
        f1 = f1_per_class(self.confusion)
        return {
            name: {
                "precision": float(hits[i] / max(n_pred[i], 1)),
                "recall": float(hits[i] / max(n_true[i], 1)),
                "f1": float(f1[i]),
                "support": int(n_true[i]),
            }
            for i, name in enumerate(self.classes)
        }

    def to_document(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "macro_f1": self.macro_f1,
            "accuracy": self.accuracy,
            "interval": [self.interval.low, self.interval.high],
            "interval_unit": self.interval.unit,
            "per_class": self.per_class(),
            "confusion": self.confusion.tolist(),
            "classes": list(self.classes),
            "n": self.n,
            "left_out": sum(self.left_out.values()),
            "left_out_reasons": self.left_out,
        }


class Tally:
    """Truth, answers and people, gathered batch by batch."""

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        self.left_out: dict[str, int] = {}
        self._lookup = _class_lookup(classes)
        self._labels: list[int] = []
        self._preds: list[int] = []
        self._subjects: list[str | None] = []

    def indices_of(self, names: Sequence[str | None]) -> npt.NDArray[np.int64]:
        """[names]: the classes' indices; -1, and counted as left out, where a name is none of them."""
        indices = np.array([self._lookup.get(class_key(name or ""), -1) for name in names], dtype=np.int64)
        for row in np.flatnonzero(indices < 0).tolist():
            self.leave_out(f"label {names[row]!r}" if names[row] else "no label")
        return indices

    def leave_out(self, reason: str) -> None:
        """Count a face that can't be judged."""
        self.left_out[reason] = self.left_out.get(reason, 0) + 1

    def add(
        self, labels: npt.NDArray[np.integer[Any]], preds: npt.NDArray[np.integer[Any]], subjects: Sequence[str | None]
    ) -> None:
        """Count faces that were judged; each [faces]."""
        self._labels += labels.tolist()
        self._preds += preds.tolist()
        self._subjects += subjects

    def evaluation(self) -> Evaluation:
        """What was counted.

        Raises:
            DataError: nothing was.
        """
        if not self._labels:
            reasons = ", ".join(f"{count} with {reason}" for reason, count in sorted(self.left_out.items()))
            raise DataError(
                f"some face must be of the model's classes ({', '.join(self.classes)}), got none"
                + (f": {reasons}" if reasons else "")
            )
        labels, preds = np.array(self._labels), np.array(self._preds)
        n_classes = len(self.classes)
        return Evaluation(
            classes=self.classes,
            confusion=confusion_matrix(labels, preds, n_classes),
            interval=bootstrap_interval(labels, preds, self._subjects, n_classes=n_classes),
            left_out=dict(sorted(self.left_out.items())),
        )


def _class_lookup(classes: Sequence[str]) -> dict[str, int]:
    """Every spelling that means a class, to its index."""
    lookup = {class_key(name): index for index, name in enumerate(classes)}
    return {**{alias: lookup[name] for alias, name in ALIASES.items() if name in lookup}, **lookup}
