"""Scores: what a trial leaves behind for the ensemble. One Arrow file a split, read without a GPU or a model."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from spaces.errors import DataError
from trainables.outputs import new_file


@dataclass(frozen=True)
class Scores:
    """One network's (or blend's) output on one split.

    Attributes:
        sample_ids: [samples].
        subjects: [samples], the person, or None where not known.
        labels: int8 [samples], -1 where not labelled.
        logits: float32 [samples, classes]; their softmax are the probabilities.
        classes: names, in the order of the logits' columns.
    """

    sample_ids: tuple[str, ...]
    subjects: tuple[str | None, ...]
    labels: npt.NDArray[np.int8]
    logits: npt.NDArray[np.float32]
    classes: tuple[str, ...]

    @property
    def probs(self) -> npt.NDArray[np.float64]:
        """Softmax of the logits, [samples, classes]."""
        return softmax(self.logits)


def softmax(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Probabilities over the last axis, in float64."""
    shifted = np.asarray(logits, dtype=np.float64)
    shifted = np.exp(shifted - shifted.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True), dtype=np.float64)


def save_scores(path: Path, scores: Scores) -> None:
    """Write scores as one Arrow IPC file; the class names stand in its schema."""
    n_classes = len(scores.classes)
    logits = pa.FixedSizeListArray.from_arrays(
        pa.array(scores.logits.astype(np.float32, copy=False).reshape(-1)), n_classes
    )
    table = pa.table(
        {
            "sample_id": pa.array(scores.sample_ids, pa.string()),
            "subject": pa.array(scores.subjects, pa.string()),
            "label": pa.array(scores.labels, pa.int8()),
            "logits": logits,
        }
    ).replace_schema_metadata({"classes": "\n".join(scores.classes)})
    with new_file(path) as staging, pa.ipc.new_file(staging, table.schema) as writer:
        writer.write_table(table)


def load_scores(path: Path) -> Scores:
    """Read scores.

    Raises:
        DataError: the file is missing or holds no scores.
    """
    try:
        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_file(source).read_all()
        classes = tuple((table.schema.metadata or {})[b"classes"].decode().split("\n"))
        logits = table["logits"].combine_chunks().flatten().to_numpy().reshape(table.num_rows, len(classes))
        return Scores(
            sample_ids=tuple(table["sample_id"].to_pylist()),
            subjects=tuple(table["subject"].to_pylist()),
            labels=table["label"].to_numpy(),
            logits=logits.copy(),
            classes=classes,
        )
    except (OSError, KeyError, pa.ArrowInvalid) as error:
        raise DataError(f"scores must be an Arrow file that a trial wrote, got {path}: {error}") from error
