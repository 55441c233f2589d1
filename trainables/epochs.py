"""Epoch scores: what a trial's best epochs said of the valid split, so that the choice among them can be repeated.

The best epoch is chosen by the faces it is then scored on, which flatters it. How much, only the answers of the epochs
that it was chosen from can tell.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from spaces.errors import DataError
from trainables.outputs import new_file

EPOCHS_FILE = "scores/epochs.arrow"
MOST_EPOCHS = 8
"""That a trial keeps the answers of."""

Halves = npt.NDArray[np.float16]


@dataclass(frozen=True, eq=False)
class EpochScores:
    """Some epochs' answers on one split, the partner blended in; samples in the order of the trial's scores.

    Attributes:
        epochs: int64 [kept], their numbers, ascending.
        best_epoch: that whose weights are kept; one of them.
        logits: float32 [kept, samples, classes], each sample's largest brought to 0; their softmax are the
            probabilities. They were stored in half precision.
    """

    epochs: npt.NDArray[np.int64]
    best_epoch: int
    logits: npt.NDArray[np.float32]


class _Answered(NamedTuple):
    """One epoch: macro-F1, number, logits [samples, classes]."""

    macro_f1: float
    epoch: int
    logits: Halves


@dataclass(frozen=True, eq=False)
class BestEpochs:
    """A trial's best epochs so far by macro-F1, the best first; of those that are as good, the earliest."""

    kept: tuple[_Answered, ...] = ()

    def with_epoch(self, epoch: int, logits: npt.NDArray[np.float32], *, macro_f1: float) -> "BestEpochs":
        """These and another one, but no more than `MOST_EPOCHS`; the same object where the other is not among them."""
        answered = _Answered(macro_f1, epoch, to_halves(logits))
        ranked = sorted([*self.kept, answered], key=lambda one: (-one.macro_f1, one.epoch))[:MOST_EPOCHS]
        return BestEpochs(tuple(ranked)) if any(one is answered for one in ranked) else self

    def scores(self) -> EpochScores:
        """What is written of them; there is one at least."""
        in_order = sorted(self.kept, key=lambda one: one.epoch)
        return EpochScores(
            epochs=np.array([one.epoch for one in in_order], dtype=np.int64),
            best_epoch=self.kept[0].epoch,
            logits=np.stack([one.logits for one in in_order]).astype(np.float32),
        )

    def to_tensors(self) -> list[dict[str, Any]]:
        """Tensors and plain values, one dictionary an epoch."""
        return [{**one._asdict(), "logits": torch.from_numpy(one.logits)} for one in self.kept]

    @classmethod
    def from_tensors(cls, stored: list[dict[str, Any]]) -> "BestEpochs":
        """What `to_tensors` gave."""
        return cls(tuple(_Answered(**{**one, "logits": one["logits"].numpy()}) for one in stored))


def to_halves(logits: npt.NDArray[np.float32]) -> Halves:
    """Logits in half precision, each sample's largest brought to 0: there are the fine steps, where classes compete.

    Args:
        logits: [..., classes].
    """
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(np.maximum(shifted, np.finfo(np.float16).min), dtype=np.float16)


def save_epoch_scores(path: Path, scores: EpochScores) -> None:
    """Write epoch scores as one Arrow IPC file, a row an epoch."""
    _, n_samples, n_classes = scores.logits.shape
    flat = pa.array(to_halves(scores.logits).reshape(-1), pa.float16())
    columns = {
        "epoch": pa.array(scores.epochs, pa.int64()),
        "logits": pa.FixedSizeListArray.from_arrays(flat, n_samples * n_classes),
    }
    facts = {"best_epoch": str(scores.best_epoch), "n_classes": str(n_classes)}
    table = pa.table(columns).replace_schema_metadata(facts)
    with new_file(path) as staging, pa.ipc.new_file(staging, table.schema) as writer:
        writer.write_table(table)


def load_epoch_scores(path: Path) -> EpochScores:
    """Read epoch scores.

    Raises:
        DataError: the file is missing, broken, or holds none.
    """
    try:
        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_file(source).read_all()
        facts = {name.decode(): int(value) for name, value in (table.schema.metadata or {}).items()}
        epochs = table["epoch"].to_numpy().astype(np.int64)
        if facts["best_epoch"] not in epochs:
            raise ValueError(f"its best epoch is {facts['best_epoch']}, which it does not hold")
        flat = table["logits"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        logits = flat.astype(np.float32).reshape(len(epochs), -1, facts["n_classes"])
        return EpochScores(epochs=epochs, best_epoch=facts["best_epoch"], logits=logits)
    except (OSError, KeyError, ValueError, pa.ArrowInvalid) as error:
        raise DataError(f"epoch scores must be an Arrow file that a trial wrote, got {path}: {error}") from error
