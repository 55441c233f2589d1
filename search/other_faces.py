"""A second kind of faces (`--also`): read as the search's own were, and what each candidate says of them."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from search.candidates import Candidate, FloatArray, Voter
from search.evaluation import Tally
from search.folder import SearchFolder
from search.named_table import is_table, open_named_table
from spaces.errors import DataError
from trainables.data.decode import decode_chunk
from trainables.data.resampling import match_channels, resample_images
from trainables.data.sources import read_source
from trainables.data.table import FaceTable
from trainables.scores import Scores, load_scores, save_scores

OTHERS_DIR = "other_faces"
FEWEST_CLASSES = 2
DIGITS = 12


@dataclass(frozen=True, eq=False)
class OtherFaces:
    """Labelled faces of another kind than those of the search.

    Attributes:
        name: the path that was given.
        digest: of pixels and labels.
        images: uint8 [samples, px, px, channels], as a face of the search's table would be.
        labels: int64 [samples], indices into the search's classes.
        subjects: [samples], the person or None.
        left_out: faces of other classes, or that could not be read.
    """

    name: str
    digest: str
    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    subjects: tuple[str | None, ...]
    left_out: int


def read_other_faces(named: str | Path, table: FaceTable) -> OtherFaces:
    """All faces of a source, or those of a face table that are not sealed, by the classes of the search.

    Args:
        named: a face table or a URI of one, of which train and valid are taken; or class folders, Parquet, or a CSV.
        table: of the search.

    Raises:
        DataError: its faces are of fewer than two classes of the search, it can't be read, or it is the search's own
            table.
    """
    if is_table(named):
        images, names, subjects = _of_table(open_named_table(named), table)
    else:
        images, names, subjects = _of_source(Path(named), table)
    labels = Tally(table.info.classes).indices_of(names)
    known = np.flatnonzero(labels >= 0)
    if len(np.unique(labels[known])) < FEWEST_CLASSES:
        raise DataError(
            f"--also must have faces of two classes of the search or more ({', '.join(table.info.classes)}), "
            f"got {len(known)} faces of {len(np.unique(labels[known]))}: {named}"
        )
    images, labels = np.ascontiguousarray(images[known]), labels[known]
    digest = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()[:DIGITS]
    people = tuple(subjects[row] for row in known.tolist())
    return OtherFaces(str(named), digest, images, labels, people, len(names) - len(known))


def _of_table(other: FaceTable, table: FaceTable) -> tuple[npt.NDArray[np.uint8], list[str | None], list[str | None]]:
    if other.info.content_hash == table.info.content_hash:
        raise DataError(f"--also must have other faces than the search, got its own table: {other.path}")
    images, names, subjects = [], [], []
    for split in (other.split("train"), other.split("valid")):
        resized = resample_images(np.asarray(split.images), image_px=table.info.image_px)
        images.append(match_channels(resized, table.info.channels))
        names += [None if index < 0 else other.info.classes[index] for index in split.expression.tolist()]
        subjects += split.subjects
    return np.concatenate(images), names, subjects


def _of_source(path: Path, table: FaceTable) -> tuple[npt.NDArray[np.uint8], list[str | None], list[str | None]]:
    source = read_source(path)
    encoded = list(source.iter_images(np.arange(len(source))))
    decoded = decode_chunk(encoded, image_px=table.info.image_px, channels=table.info.channels)
    names = [name if reason is None else None for name, reason in zip(source.labels, decoded.reasons, strict=True)]
    return decoded.images, names, source.subjects


def probs_on_others(
    folder: SearchFolder,
    candidates: Sequence[Candidate],
    faces: OtherFaces,
    *,
    progress: Callable[[float], None] | None = None,
) -> FloatArray:
    """What each candidate says of other faces; each is asked once, and its answer kept.

    Args:
        folder: of the search.
        candidates: to ask.
        faces: of another kind.
        progress: told the share done.

    Returns:
        [candidates, samples, classes].
    """
    kept = folder.ensemble_dir / OTHERS_DIR / faces.digest
    answers = []
    for number, candidate in enumerate(candidates, start=1):
        file = kept / f"{candidate.key}-{_digest(candidate.voters)}.arrow"
        probs = _kept_probs(file, n_samples=len(faces.labels))
        if probs is None:
            probs = candidate.probs_on(faces.images)
            _keep(file, probs, candidate, faces)
        answers.append(probs)
        if progress:
            progress(number / len(candidates))
    return np.stack(answers)


def _digest(voters: Sequence[Voter]) -> str:
    """Of the networks' files and their shares: a resumed trial has other weights than it had."""
    hashed = hashlib.sha256()
    for voter in voters:
        hashed.update(voter.path.read_bytes() + str(voter.weight).encode())
    return hashed.hexdigest()[:DIGITS]


def _kept_probs(file: Path, *, n_samples: int) -> FloatArray | None:
    try:
        probs = load_scores(file).probs
    except DataError:
        return None
    return probs if len(probs) == n_samples else None


def _keep(file: Path, probs: FloatArray, candidate: Candidate, faces: OtherFaces) -> None:
    logits = np.log(np.maximum(probs, 1e-12)).astype(np.float32)
    names = tuple(str(row) for row in range(len(faces.labels)))
    save_scores(file, Scores(names, faces.subjects, faces.labels.astype(np.int8), logits, candidate.scores.classes))
