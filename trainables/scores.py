"""Scores: what a trial leaves behind for the ensemble. One Arrow file a split, read without a GPU or a model."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from spaces.errors import DataError
from trainables.data.table import Split
from trainables.outputs import new_file

SCORES_FILE = "scores/valid.arrow"
"""Of a trial's folder."""


@dataclass(frozen=True)
class Scores:
    """One network's (or blend's) output on one split.

    Attributes:
        sample_ids: [samples].
        subjects: [samples], the person, or None where not known.
        labels: int8 [samples], -1 where not labelled.
        logits: float32 [samples, classes]; their softmax are the probabilities.
        classes: names, in the order of the logits' columns.
        extras: what else a network said, float32 [samples] or [samples, numbers], by name.
    """

    sample_ids: tuple[str, ...]
    subjects: tuple[str | None, ...]
    labels: npt.NDArray[np.int8]
    logits: npt.NDArray[np.float32]
    classes: tuple[str, ...]
    extras: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)

    @property
    def probs(self) -> npt.NDArray[np.float64]:
        """Softmax of the logits, [samples, classes]."""
        return softmax(self.logits)


def split_scores(
    split: Split,
    classes: tuple[str, ...],
    logits: npt.NDArray[np.float32],
    *,
    extras: dict[str, npt.NDArray[np.float32]],
) -> Scores:
    """Scores of all faces of a split.

    Args:
        split: of a face table.
        classes: of the table.
        logits: [samples, classes].
        extras: as of `Scores`.
    """
    return Scores(
        sample_ids=tuple(split.sample_ids),
        subjects=tuple(split.subjects),
        labels=split.expression,
        logits=logits,
        classes=classes,
        extras=extras,
    )


EXTRA = "extra/"
"""What the columns of extras begin with."""


def softmax(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Probabilities over the last axis, in float64."""
    shifted = np.asarray(logits, dtype=np.float64)
    shifted = np.exp(shifted - shifted.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True), dtype=np.float64)


def to_logits(probs: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Logits whose softmax are these probabilities; none is taken to be below 1e-12."""
    return np.asarray(np.log(np.maximum(probs, 1e-12)), dtype=np.float32)


def blend_logits(
    logits: npt.NDArray[np.float32],
    partner: npt.NDArray[np.float32],
    *,
    weight: float,
    space: Literal["probs", "logits"],
) -> npt.NDArray[np.float32]:
    """w * partner + (1 - w) * fine-tuned, of logits or of probabilities (then as logits of those).

    Args:
        logits: [samples, classes], of the fine-tuned network.
        partner: [samples, classes].
        weight: of the partner.
        space: what of the two is mixed.
    """
    if space == "logits":
        return (weight * partner + (1.0 - weight) * logits).astype(np.float32)
    return to_logits(weight * softmax(partner) + (1.0 - weight) * softmax(logits))


def save_scores(path: Path, scores: Scores) -> None:
    """Write scores as one Arrow IPC file; the class names stand in its schema."""
    table = pa.table(
        {
            "sample_id": pa.array(scores.sample_ids, pa.string()),
            "subject": pa.array(scores.subjects, pa.string()),
            "label": pa.array(scores.labels, pa.int8()),
            "logits": _to_column(scores.logits),
            **{f"{EXTRA}{name}": _to_column(numbers) for name, numbers in scores.extras.items()},
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
        names = [name for name in table.column_names if name.startswith(EXTRA)]
        return Scores(
            sample_ids=tuple(table["sample_id"].to_pylist()),
            subjects=tuple(table["subject"].to_pylist()),
            labels=table["label"].to_numpy(),
            logits=_from_column(table["logits"]),
            classes=classes,
            extras={name.removeprefix(EXTRA): _from_column(table[name]) for name in names},
        )
    except (OSError, KeyError, pa.ArrowInvalid) as error:
        raise DataError(f"scores must be an Arrow file that a trial wrote, got {path}: {error}") from error


def _to_column(numbers: npt.NDArray[np.float32]) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(numbers, dtype=np.float32).reshape(-1))
    return flat if numbers.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, numbers.shape[1])


def _from_column(column: pa.ChunkedArray) -> npt.NDArray[np.float32]:
    width = column.type.list_size if pa.types.is_fixed_size_list(column.type) else 0
    flat = column.combine_chunks()
    numbers = np.array((flat.flatten() if width else flat).to_numpy(zero_copy_only=False), dtype=np.float32)
    return numbers.reshape(-1, width) if width else numbers
