"""Ingest: sources of faces in, a face table out. Either the whole table, or a sentence and nothing."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spaces.errors import DataError, UsageError, cut
from trainables.data.columns import ColumnNames
from trainables.data.decode import looks_grey, read_encoded
from trainables.data.decoding import Decoded, Report, decode_rows
from trainables.data.duplicates import OnBad, drop_contradictions, drop_duplicates, group_equal, make_ids_unique
from trainables.data.rows import Rows, check_class_counts, gather_rows
from trainables.data.source import Source
from trainables.data.sources import read_source
from trainables.data.splits import cut_splits, keep_subjects_apart, note_absent_classes
from trainables.data.table import SPLITS, Faces, FaceTable, SplitName, fill_table, open_table
from trainables.outputs import check_new_folder, new_folder

MAX_DEFAULT_PX = 224
PX_RANGE = (16, 1024)

_SAMPLED_IMAGES = 256
_BATCH_BYTES = 1 << 26


@dataclass(frozen=True)
class IngestRequest:
    """What to ingest, and how. Whatever is None is found out from the sources.

    `image_px` is by default the most common size of the sources' images, at most 224; `channels` 1 where none has
    colour. `valid_ratio` and `test_ratio` are shares of train, used where there is no such source; a `test_ratio` of
    0 makes a table without a test split.
    """

    train: Path
    out: Path
    valid: Path | None = None
    test: Path | None = None
    classes: tuple[str, ...] | None = None
    image_px: int | None = None
    channels: int | None = None
    columns: ColumnNames = field(default_factory=ColumnNames)
    on_bad: OnBad = "fail"
    valid_ratio: float = 0.15
    test_ratio: float = 0.1
    seed: int = 0
    workers: int | None = None


def ingest(request: IngestRequest, *, report: Report = lambda done, total: None) -> FaceTable:
    """Read the sources, decode their images, leave out what can't count, split, and write.

    A face counts once: of exact copies of an image one stays, in test before valid before train. An image that has
    two labels is left out where that is rare, and stops everything where it is not. Nobody stands in two splits.

    Args:
        report: told how many images of how many are decoded.

    Raises:
        UsageError: a setting is out of its range.
        DataError: the sources are not as they should be.
        OutputError: `request.out` holds something already, or can't be written.
    """
    _check_request(request)
    check_new_folder(request.out)
    sources = _read_sources(request)
    notes: list[str] = []
    rows, classes = gather_rows(sources, wanted=request.classes, notes=notes)
    ratios = _ratios(rows, request)
    check_class_counts(rows, classes, n_cut=len(ratios), where=str(request.train))
    image_px, channels = _choose_shape(rows, list(sources.values()), request)
    with new_folder(request.out) as staging:
        file = staging / "decoded.pixels"
        decoded = decode_rows(
            rows,
            list(sources.values()),
            image_px=image_px,
            channels=channels,
            file=file,
            workers=request.workers,
            report=report,
        )
        rows = _clean(rows, decoded, sources=list(sources.values()), classes=classes, request=request, notes=notes)
        rows = _split(rows, ratios, classes=classes, request=request, notes=notes)
        pixels = np.memmap(file, np.uint8, "r").reshape(-1, image_px, image_px, channels)
        fill_table(
            staging,
            splits={name: _iter_faces(rows.where(rows.split == i), pixels) for i, name in enumerate(SPLITS)},
            classes=classes,
            sources={name: str(source.path) for name, source in sources.items()},
            notes=notes,
        )
        file.unlink()
    return open_table(request.out)


def _check_request(request: IngestRequest) -> None:
    if request.image_px is not None and not PX_RANGE[0] <= request.image_px <= PX_RANGE[1]:
        raise UsageError(f"--image-px must be within {PX_RANGE[0]}..{PX_RANGE[1]}, got {request.image_px}")
    if request.workers is not None and request.workers < 1:
        raise UsageError(f"--workers must be at least 1, got {request.workers}")
    if not 0 < request.valid_ratio < 1 or not 0 <= request.test_ratio < 1:
        got = f"{request.valid_ratio:g} and {request.test_ratio:g}"
        raise UsageError(f"--valid-ratio must be within 0..1 and above 0, --test-ratio within 0..1, got {got}")
    if request.valid_ratio + request.test_ratio > 0.9:
        total = request.valid_ratio + request.test_ratio
        raise UsageError(f"--valid-ratio and --test-ratio must leave a tenth to train, got {total:g} together")
    given = [Path(os.path.realpath(path)) for path in (request.train, request.valid, request.test) if path is not None]
    for path, count in Counter(given).items():
        if count > 1:
            raise UsageError(f"--train, --valid and --test must be different sources, got {str(path)!r} twice")


def _read_sources(request: IngestRequest) -> dict[SplitName, Source]:
    paths: dict[SplitName, Path | None] = {"train": request.train, "valid": request.valid, "test": request.test}
    return {name: read_source(path, request.columns) for name, path in paths.items() if path is not None}


def _ratios(rows: Rows, request: IngestRequest) -> dict[SplitName, float]:
    """The splits that have no source and no face of their own, to the share of train they are to get."""
    ratios: dict[SplitName, float] = {}
    if request.valid is None and not (rows.split == SPLITS.index("valid")).any():
        ratios["valid"] = request.valid_ratio
    if request.test is None and request.test_ratio and not (rows.split == SPLITS.index("test")).any():
        ratios["test"] = request.test_ratio
    return ratios


def _choose_shape(rows: Rows, sources: Sequence[Source], request: IngestRequest) -> tuple[int, int]:
    """Side in pixels and channels: as asked for, else as a sample of the images has them."""
    if request.image_px is not None and request.channels is not None:
        return request.image_px, request.channels
    sides: Counter[int] = Counter()
    grey = True
    for index, source in enumerate(sources):
        inside = rows.source_row[rows.source == index]
        for item in islice(source.iter_images(_spread(inside)), _SAMPLED_IMAGES):
            try:
                size, image_is_grey = looks_grey(read_encoded(item))
            except DataError:
                continue  # decoding will name it
            sides[min(size)] += 1
            grey &= image_is_grey
    side = sides.most_common(1)[0][0] if sides else 64
    channels = 1 if grey else 3
    return request.image_px or min(MAX_DEFAULT_PX, max(PX_RANGE[0], side)), request.channels or channels


def _spread(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Up to so many rows, in eight runs over all of them: a Parquet file is read in runs."""
    if len(rows) <= _SAMPLED_IMAGES:
        return rows
    run = _SAMPLED_IMAGES // 8
    starts = np.linspace(0, len(rows) - run, 8).astype(np.int64)
    return np.unique(np.concatenate([rows[start : start + run] for start in starts]))


def _clean(
    rows: Rows,
    decoded: Decoded,
    *,
    sources: Sequence[Source],
    classes: Sequence[str],
    request: IngestRequest,
    notes: list[str],
) -> Rows:
    """The rows whose image could be read, once each, with a label that can be believed."""
    rows = replace(rows, stored=np.arange(len(rows)))
    rows = _scale_landmarks(rows, decoded.sizes, n_sources=len(sources), notes=notes)
    rows = rows.where(_is_readable(rows, decoded.reasons, sources=sources, on_bad=request.on_bad, notes=notes))
    groups = group_equal(decoded.digests[rows.stored])
    keep = drop_contradictions(rows, groups, classes=classes, sources=sources, on_bad=request.on_bad, notes=notes)
    rows, groups = rows.where(keep), groups[keep]
    rows = rows.where(drop_duplicates(rows, groups, notes=notes))
    return replace(rows, sample_ids=make_ids_unique(rows.sample_ids, notes=notes))


def _is_readable(
    rows: Rows, reasons: Mapping[int, str], *, sources: Sequence[Source], on_bad: OnBad, notes: list[str]
) -> NDArray[np.bool_]:
    keep = np.ones(len(rows), bool)
    keep[list(reasons)] = False
    if not reasons:
        return keep
    first = min(reasons)
    path = sources[rows.source[first]].path
    what = f"{len(reasons):,} of {len(rows):,} images could not be read, first {cut(rows.sample_ids[first])}"
    sentence = f"{what} ({cut(reasons[first])}): {path}"
    if not keep.any():
        raise DataError(sentence)
    if on_bad == "fail":
        raise DataError(f"{sentence}; --on-bad skip leaves them out")
    notes.append(f"warning: {sentence}; left out")
    return keep


def _scale_landmarks(rows: Rows, sizes: NDArray[np.int32], *, n_sources: int, notes: list[str]) -> Rows:
    """Landmarks in 0..1 of the image; a source that gives any above 2 gives them in pixels of its own images."""
    if "landmarks" not in rows.extras:
        return rows
    points = rows.extras["landmarks"].copy()
    for index in range(n_sources):
        inside = rows.source == index
        if np.nanmax(points[inside], initial=0) > 2:
            points[inside] /= np.tile(np.maximum(sizes[inside], 1), points.shape[1] // 2)
    outside = ((points < 0) | (points > 1)).any(axis=1)
    if outside.any():
        notes.append(f"{int(outside.sum()):,} faces have landmarks outside the image, moved to its edge")
    return replace(rows, extras={**rows.extras, "landmarks": np.clip(points, 0, 1)})


def _split(
    rows: Rows,
    ratios: Mapping[SplitName, float],
    *,
    classes: Sequence[str],
    request: IngestRequest,
    notes: list[str],
) -> Rows:
    rows = rows.where(keep_subjects_apart(rows, on_bad=request.on_bad, notes=notes))
    check_class_counts(rows, classes, n_cut=len(ratios), where=str(request.train))
    if ratios:
        split = cut_splits(rows, ratios=ratios, n_classes=len(classes), seed=request.seed, notes=notes)
        rows = rows.with_split(split)
    may_be_empty = request.test is None and "test" not in ratios
    for name in SPLITS[: 2 if may_be_empty else 3]:
        if not (rows.split == SPLITS.index(name)).any():
            raise DataError(_empty_split(name, rows, request))
    note_absent_classes(rows, classes, notes=notes)
    return rows


def _empty_split(name: SplitName, rows: Rows, request: IngestRequest) -> str:
    given = {"train": request.train, "valid": request.valid, "test": request.test}[name]
    if given is not None:
        return f"{name} must have faces of the classes that are no copies of others, got 0: {given}"
    n_people = len({subject for subject in rows.subjects if subject is not None})
    got = f"0 of {len(rows):,}, which show {n_people:,} subjects"
    return f"{name} must have faces, got {got}: {request.train}; give a source for {name}"


def _iter_faces(rows: Rows, pixels: NDArray[np.uint8]) -> Iterator[Faces]:
    step = max(1, _BATCH_BYTES // int(np.prod(pixels.shape[1:])))
    for start in range(0, len(rows), step):
        inside = np.zeros(len(rows), bool)
        inside[start : start + step] = True
        batch = rows.where(inside)
        yield Faces(
            images=pixels[batch.stored],
            expression=batch.expression,
            sample_ids=list(batch.sample_ids),
            subjects=list(batch.subjects),
            **batch.extras,
        )
