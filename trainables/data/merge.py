"""Merge: several face tables in, one out, whose classes overlap as far as they do.

The pixels are read twice, batch by batch: once to find copies, once to be written. Memory holds a batch of images and
the labels of all faces.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spaces.errors import UsageError
from trainables.data.classes import ALIASES, LEFT_OUT, choose_classes, class_key, class_near_miss, usual_word
from trainables.data.decode import DIGEST_BYTES
from trainables.data.decoding import Report
from trainables.data.duplicates import OnBad, drop_contradictions, drop_duplicates, group_equal, make_ids_unique
from trainables.data.ingest import PX_RANGE
from trainables.data.labels import LABEL_COLUMNS, NOT_LABELLED
from trainables.data.resampling import match_channels, resample_images
from trainables.data.rows import Rows, check_class_counts, join_rows
from trainables.data.source import Source
from trainables.data.splits import note_absent_classes
from trainables.data.table import SPLITS, Faces, FaceTable, Split, SplitName, open_table, write_table
from trainables.outputs import check_new_folder

MAX_TABLES = 127

_BATCH_BYTES = 1 << 25

_Splits = Mapping[tuple[int, int], Split]
"""Number of the table and of the split, to the split; in the order of the rows."""


def merge_tables(
    tables: Sequence[Path],
    out: Path,
    *,
    classes: Sequence[str] | None = None,
    rename: Mapping[str, str] = {},
    image_px: int | None = None,
    channels: int | None = None,
    on_bad: OnBad = "fail",
    report: Report = lambda done, total: None,
) -> FaceTable:
    """Write the faces of several tables as one: train with train, valid with valid, test with test.

    Classes are one where their names are, or are words for the same (`happy`, `happiness`). A face of a class that is
    not asked for loses its expression where something else is known of it, else it is left out. A picture that stands
    in two tables counts once, in test before valid before train, with the optional labels of all its copies; one that
    has two expressions is left out where that is rare, and stops everything where it is not, as in ingest. Equal names
    of people in different tables are different people.

    Args:
        out: a new or empty folder.
        classes: names to keep, in the order of their indices; all, in the order of their first appearance, when None.
        rename: class to the class that its faces count as.
        image_px: side of the images; the commonest when None.
        channels: 1 or 3; 3 where any table has colour, when None.
        report: told how many images of how many are written.

    Raises:
        UsageError: a setting is out of its range, or a class to rename is in no table.
        DataError: a folder is no face table, a class has no training faces, or labels contradict each other.
        OutputError: `out` holds something already, or can't be written.
    """
    _check_request(tables, image_px)
    check_new_folder(out)
    opened = [open_table(path) for path in tables]
    where = ", ".join(str(path) for path in tables)
    notes: list[str] = []
    names = _name_classes(opened, rename, notes=notes)
    chosen = _choose_classes(opened, names, wanted=classes, where=where)
    splits = {
        (number, place): split
        for number, table in enumerate(opened)
        for place, name in enumerate(SPLITS)
        if (split := _open_split(table, name)) is not None
    }
    rows = _gather(splits, names, chosen)
    rows = _leave_out(rows, opened, names, chosen, notes=notes)
    rows = _count_pictures_once(rows, splits, opened, classes=chosen, on_bad=on_bad, notes=notes)
    rows = _name_apart(rows, _call_tables(tables), notes=notes)
    check_class_counts(rows, chosen, n_cut=0, where=where)
    note_absent_classes(rows, chosen, notes=notes)
    px = image_px or _commonest_px(opened)
    depth = channels or max(table.info.channels for table in opened)
    batches = {
        name: _iter_faces(rows, splits, place, image_px=px, channels=depth, report=report)
        for place, name in enumerate(SPLITS)
    }
    return write_table(out, splits=batches, classes=chosen, sources=_say_sources(rows, tables), notes=notes)


def _check_request(tables: Sequence[Path], image_px: int | None) -> None:
    if not 2 <= len(tables) <= MAX_TABLES:
        got = ", ".join(str(path) for path in tables[:3]) or "none"
        raise UsageError(f"tables to merge must be between 2 and {MAX_TABLES}, got {len(tables)}: {got}")
    for path, count in Counter(Path(os.path.realpath(path)) for path in tables).items():
        if count > 1:
            raise UsageError(f"tables to merge must be different ones, got {str(path)!r} twice")
    if image_px is not None and not PX_RANGE[0] <= image_px <= PX_RANGE[1]:
        raise UsageError(f"--image-px must be within {PX_RANGE[0]}..{PX_RANGE[1]}, got {image_px}")


def _name_classes(tables: Sequence[FaceTable], rename: Mapping[str, str], *, notes: list[str]) -> list[list[str]]:
    """Per table, the names that its classes go by from now on: renamed, and the usual word where there is one."""
    there = {usual_word(name): name for table in tables for name in table.info.classes}
    for name in rename:
        if usual_word(name) not in there:
            tail = class_near_miss(name, list(there.values()))
            raise UsageError(f"--map must name a class of the tables, got {name!r}{tail}")
    targets = {usual_word(name): target.strip() for name, target in rename.items()}
    named = []
    for table in tables:
        renamed = [targets.get(usual_word(name), name) for name in table.info.classes]
        named.append([ALIASES.get(class_key(name), name) for name in renamed])
        for old, new in zip(table.info.classes, named[-1], strict=True):
            if class_key(old) != class_key(new):
                notes.append(f"class {old!r} of {table.path} counts as {new!r}")
    return named


def _choose_classes(
    tables: Sequence[FaceTable], names: Sequence[Sequence[str]], *, wanted: Sequence[str] | None, where: str
) -> tuple[str, ...]:
    union: dict[str, str] = {}
    trained: list[str] = []
    for table, named in zip(tables, names, strict=True):
        for name, count in zip(named, table.info.class_counts["train"], strict=True):
            union.setdefault(class_key(name), name)
            trained += [name] if count else []
    return choose_classes(trained, wanted=list(union.values()) if wanted is None else wanted, where=where)


def _open_split(table: FaceTable, name: SplitName) -> Split | None:
    """Of the sealed test split, faces are copied into a test split alone; nothing is learnt or chosen from them."""
    return table.sealed_test() if name == "test" else table.split(name)


def _gather(splits: _Splits, names: Sequence[Sequence[str]], classes: Sequence[str]) -> Rows:
    """All faces; `expression` indexes the new classes, LEFT_OUT where the class is none of them."""
    indices = {class_key(name): index for index, name in enumerate(classes)}
    parts = []
    for (number, place), split in splits.items():
        # -1, not labelled, is the last entry
        lookup = np.array([*(indices.get(class_key(name), LEFT_OUT) for name in names[number]), NOT_LABELLED], np.int8)
        n = len(split)
        columns = {name: split.column(name) for name in LABEL_COLUMNS}
        parts.append(
            Rows(
                sample_ids=np.array(split.sample_ids, object),
                expression=lookup[split.expression],
                subjects=np.array(split.subjects, object),
                split=np.full(n, place, np.int8),
                source=np.full(n, number, np.int8),
                source_row=np.arange(n),
                stored=np.full(n, -1),
                extras={name: values for name, values in columns.items() if values is not None},
            )
        )
    return join_rows(parts)


def _leave_out(
    rows: Rows, tables: Sequence[FaceTable], names: Sequence[Sequence[str]], classes: Sequence[str], *, notes: list[str]
) -> Rows:
    """Without the faces of other classes, but those of which something else is known."""
    other = rows.expression == LEFT_OUT
    told = np.zeros(len(rows), bool)
    for name, values in rows.extras.items():
        told |= LABEL_COLUMNS[name].is_known(values)
    keys = {class_key(name) for name in classes}
    for number, (table, named) in enumerate(zip(tables, names, strict=True)):
        inside = other & (rows.source == number)
        others = ", ".join(dict.fromkeys(name for name in named if class_key(name) not in keys))
        lost, kept = int((inside & ~told).sum()), int((inside & told).sum())
        if lost:
            notes.append(f"{lost:,} faces of other classes left out ({others}): {table.path}")
        if kept:
            what = "kept without an expression, as other labels are known"
            notes.append(f"{kept:,} faces of other classes {what} ({others}): {table.path}")
    expression = np.where(other, np.int8(NOT_LABELLED), rows.expression)
    return replace(rows, expression=expression).where(~other | told)


def _count_pictures_once(
    rows: Rows,
    splits: _Splits,
    tables: Sequence[FaceTable],
    *,
    classes: Sequence[str],
    on_bad: OnBad,
    notes: list[str],
) -> Rows:
    groups = group_equal(_digest(rows, splits))
    sources = [Source(table.path, [], [], [], iter) for table in tables]  # their paths, for the sentence
    keep = drop_contradictions(rows, groups, classes=classes, sources=sources, on_bad=on_bad, notes=notes)
    rows, groups = rows.where(keep), groups[keep]
    rows = _share_labels(rows, groups)
    return rows.where(drop_duplicates(rows, groups, notes=notes))


def _digest(rows: Rows, splits: _Splits) -> NDArray[np.uint8]:
    """[n, 16], equal for equal pixels of equal size; grey stored in three channels is grey."""
    digests = np.empty((len(rows), DIGEST_BYTES), np.uint8)
    for batch, images in _iter_images(rows, splits):
        for row, image in zip(batch, match_channels(images, 3), strict=True):
            digest = hashlib.blake2b(image.data, digest_size=DIGEST_BYTES).digest()
            digests[row] = np.frombuffer(digest, np.uint8)
    return digests


def _share_labels(rows: Rows, groups: NDArray[np.int64]) -> Rows:
    """Optional labels that one copy of a picture lacks and another has."""
    extras = {}
    for name, values in rows.extras.items():
        known = LABEL_COLUMNS[name].is_known(values)
        donors = np.full(int(groups.max(initial=-1)) + 1, -1)
        donors[groups[known]] = np.flatnonzero(known)
        getting = ~known & (donors[groups] >= 0)
        extras[name] = values.copy()
        extras[name][getting] = values[donors[groups[getting]]]
    return replace(rows, extras=extras)


def _call_tables(tables: Sequence[Path]) -> list[str]:
    """The folders' names, or numbers where two are called the same."""
    names = [os.path.basename(os.path.realpath(path)) for path in tables]
    return names if len(set(names)) == len(names) else [str(number) for number, _ in enumerate(names, start=1)]


def _name_apart(rows: Rows, called: Sequence[str], *, notes: list[str]) -> Rows:
    """People, and faces whose id another table has too, with the table's name before their own."""
    first: dict[str, int] = {}
    shared = {
        sample_id
        for sample_id, number in zip(rows.sample_ids, rows.source, strict=True)
        if first.setdefault(sample_id, number) != number
    }
    ids, subjects = rows.sample_ids.copy(), rows.subjects.copy()
    for row, number in enumerate(rows.source):
        if ids[row] in shared:
            ids[row] = f"{called[number]}/{ids[row]}"
        if subjects[row] is not None:
            subjects[row] = f"{called[number]}/{subjects[row]}"
    if shared:
        notes.append(f"{len(shared):,} ids stand in several tables; the table's name was put before them")
    return replace(rows, sample_ids=make_ids_unique(ids, notes=notes), subjects=subjects)


def _commonest_px(tables: Sequence[FaceTable]) -> int:
    """The side that most faces have; the larger one of equals."""
    counts: Counter[int] = Counter()
    for table in tables:
        counts[table.info.image_px] += sum(table.info.rows.values())
    return max(counts, key=lambda px: (counts[px], px))


def _iter_images(rows: Rows, splits: _Splits, px: int = 0) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    """Numbers of some rows and their images, in the order of the rows; batches that are small at `px` too."""
    for (number, place), split in splits.items():
        inside = np.flatnonzero((rows.source == number) & (rows.split == place))
        step = max(1, _BATCH_BYTES // (3 * max(px, split.images.shape[1]) ** 2))
        for start in range(0, len(inside), step):
            batch = inside[start : start + step]
            yield batch, split.images[rows.source_row[batch]]


def _iter_faces(
    rows: Rows, splits: _Splits, place: int, *, image_px: int, channels: int, report: Report
) -> Iterator[Faces]:
    done, total = int((rows.split < place).sum()), len(rows)
    part = rows.where(rows.split == place)
    for batch, images in _iter_images(part, splits, image_px):
        yield Faces(
            images=resample_images(match_channels(images, channels), image_px=image_px),
            expression=part.expression[batch],
            sample_ids=list(part.sample_ids[batch]),
            subjects=list(part.subjects[batch]),
            **{name: values[batch] for name, values in part.extras.items()},
        )
        done += len(batch)
        report(done, total)


def _say_sources(rows: Rows, tables: Sequence[Path]) -> dict[str, str]:
    said = {}
    for place, name in enumerate(SPLITS):
        counts = np.bincount(rows.source[rows.split == place], minlength=len(tables))
        said[name] = ", ".join(f"{path} ({count:,} faces)" for path, count in zip(tables, counts, strict=True) if count)
    return {name: text for name, text in said.items() if text}
