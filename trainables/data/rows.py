"""The faces of all sources together, on their way into a table: one entry a face, everything but its pixels."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spaces.errors import DataError
from trainables.data.classes import (
    LEFT_OUT,
    choose_classes,
    class_key,
    index_labels,
    is_coded,
    likely_same,
    name_codes,
    note_misspelt,
)
from trainables.data.labels import LABEL_COLUMNS
from trainables.data.source import Source
from trainables.data.table import SPLITS, SplitName


@dataclass(frozen=True, eq=False)
class Rows:
    """Columns of the faces, in the order of the sources.

    `split` indexes SPLITS; `source` and `source_row` say where a face stands; `stored` is its row in the file of
    decoded pixels, once there is one. `extras` are the optional labels, complete for all rows.
    """

    sample_ids: NDArray[np.object_]
    expression: NDArray[np.int8]
    subjects: NDArray[np.object_]
    split: NDArray[np.int8]
    source: NDArray[np.int8]
    source_row: NDArray[np.int64]
    stored: NDArray[np.int64]
    extras: dict[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.expression)

    def where(self, keep: NDArray[np.bool_]) -> "Rows":
        """The faces for which `keep` [n] is true."""
        return Rows(
            self.sample_ids[keep],
            self.expression[keep],
            self.subjects[keep],
            self.split[keep],
            self.source[keep],
            self.source_row[keep],
            self.stored[keep],
            {name: values[keep] for name, values in self.extras.items()},
        )

    def with_split(self, split: NDArray[np.int8]) -> "Rows":
        """The same faces, split otherwise."""
        return replace(self, split=split)

    def count(self, n_classes: int, split: SplitName) -> NDArray[np.int64]:
        """[classes]: labelled faces of a split."""
        inside = self.expression[(self.split == SPLITS.index(split)) & (self.expression >= 0)]
        return np.bincount(inside, minlength=n_classes)


def gather_rows(
    sources: Mapping[SplitName, Source], *, wanted: Sequence[str] | None, notes: list[str]
) -> tuple[Rows, tuple[str, ...]]:
    """All faces whose label is among the classes (or not known), and the classes.

    Args:
        sources: `train`, and `valid` and `test` where they have their own; a split column counts in train alone.
        wanted: the classes asked for; all of train's when None.
        notes: gets a line for what was left out.

    Raises:
        DataError: labels and classes do not fit together.
    """
    labels = {
        name: name_codes(source.labels, wanted=wanted, where=str(source.path)) for name, source in sources.items()
    }
    in_train = _is_train(sources["train"])
    train = [label for label, inside in zip(labels["train"], in_train, strict=True) if inside]
    classes = choose_classes(train, wanted=wanted, where=str(sources["train"].path))
    train_keys = {class_key(label) for label in train if label is not None}
    parts: list[Rows] = []
    for index, (name, source) in enumerate(sources.items()):
        expression = index_labels(
            labels[name],
            classes=classes,
            train_labels=train_keys,
            restricted=wanted is not None,
            where=str(source.path),
        )
        parts.append(_to_rows(source, name, index, expression))
        notes += source.notes
        _note_left_out([label for label, e in zip(labels[name], expression, strict=True) if e == LEFT_OUT], name, notes)
    notes += [
        f"classes {a!r} and {b!r} may be one; --classes with {b!r} alone folds them" for a, b in likely_same(classes)
    ]
    if wanted is None and is_coded(classes):
        notes.append("labels are numbers, which now name the classes; --classes gives them names, in their order")
    note_misspelt([label for given in labels.values() for label in given], classes=classes, notes=notes)
    rows = join_rows(parts)
    return rows.where(rows.expression != LEFT_OUT), classes


def check_class_counts(rows: Rows, classes: Sequence[str], *, n_cut: int, where: str) -> None:
    """Raise DataError where a class has too few training faces to train on and to cut `n_cut` splits from."""
    needed = max(2, 1 + n_cut)
    counts = rows.count(len(classes), "train")
    for name, count in zip(classes, counts, strict=True):
        if count < needed:
            why = f", as {n_cut} {'split is' if n_cut == 1 else 'splits are'} cut from them" if n_cut else ""
            raise DataError(f"class {name!r} must have at least {needed} training faces{why}, got {count}: {where}")


def join_rows(parts: Sequence[Rows]) -> Rows:
    """The faces of several parts, in their order; an optional label that a part has none of is not known there."""
    names = [name for name in LABEL_COLUMNS if any(name in part.extras for part in parts)]
    extras = {
        name: np.concatenate([part.extras.get(name, LABEL_COLUMNS[name].empty(len(part))) for part in parts])
        for name in names
    }
    return Rows(
        sample_ids=np.concatenate([part.sample_ids for part in parts]),
        expression=np.concatenate([part.expression for part in parts]),
        subjects=np.concatenate([part.subjects for part in parts]),
        split=np.concatenate([part.split for part in parts]),
        source=np.concatenate([part.source for part in parts]),
        source_row=np.concatenate([part.source_row for part in parts]),
        stored=np.concatenate([part.stored for part in parts]),
        extras=extras,
    )


def _is_train(source: Source) -> list[bool]:
    return [split == "train" for split in source.splits] if source.splits is not None else [True] * len(source)


def _to_rows(source: Source, name: SplitName, index: int, expression: NDArray[np.int8]) -> Rows:
    n = len(source)
    split = np.full(n, SPLITS.index(name), np.int8)
    if name == "train" and source.splits is not None:
        split = np.array([SPLITS.index(s) for s in source.splits], np.int8)
    return Rows(
        np.array(source.sample_ids, object),
        expression,
        np.array(source.subjects, object),
        split,
        np.full(n, index, np.int8),
        np.arange(n),
        np.full(n, -1),
        dict(source.extras),
    )


def _note_left_out(labels: Sequence[str | None], name: SplitName, notes: list[str]) -> None:
    counts = Counter(label for label in labels if label is not None)
    if counts:
        what = ", ".join(f"{label} {n:,}" for label, n in sorted(counts.items()))
        notes.append(f"{name}: {sum(counts.values()):,} faces of other classes left out ({what})")
