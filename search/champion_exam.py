"""A champion of the registry that was chosen on other data, judged on the faces of a newcomer's table."""

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from search.artifact_files import MEMBERS_FILE
from search.evaluate import LoadedEnsemble, load_ensemble
from search.evaluation import Tally
from search.export import read_artifact_file
from search.named_table import open_named_table
from spaces.errors import AffectuneError, DataError, ModelError, OutputError, UsageError
from trainables.data.table import FaceTable, Split
from trainables.metrics import macro_f1


@dataclass(frozen=True)
class Exam:
    """How a version did on another's validation faces.

    Attributes:
        macro_f1: its score.
        n_faces: how many it was judged on.
        may_know_some: whether some of them may have had a part in its making.
    """

    macro_f1: float
    n_faces: int
    may_know_some: bool


class IncomparableError(AffectuneError):
    """Two versions can't be compared, and why."""


def examine(client: Any, name: str, version: str, *, table: FaceTable, newcomer: str, classes: Sequence[str]) -> Exam:
    """Score a version on the validation faces of a table that it was not chosen on.

    Args:
        client: of MLflow, with tracking and registry.
        name: of the registered model.
        version: to be judged.
        table: whose validation split it is judged on.
        newcomer: version that was chosen on that table.
        classes: of the newcomer, which it has to know.

    Raises:
        IncomparableError: the version can't be loaded or has other classes, or it knows all faces of a class.
    """
    with tempfile.TemporaryDirectory(prefix="affectune-champion-") as folder:
        ensemble, provenance = _fetch(client, name, version, Path(folder))
        if set(ensemble.classes) != set(classes):
            theirs, ours = (", ".join(sorted(names)) for names in (ensemble.classes, classes))
            raise IncomparableError(f"its classes are {theirs}, and those of version {newcomer} are {ours}")
        own = _own_table(provenance)
        rows = _new_rows(table, own)
        is_sure = own is not None and _shape(own) == _shape(table)
        return Exam(_macro_f1(ensemble, table, rows), n_faces=len(rows), may_know_some=not is_sure)


def _fetch(client: Any, name: str, version: str, folder: Path) -> tuple[LoadedEnsemble, dict[str, Any]]:
    """A version in memory, and its provenance; `folder` gets its files."""
    import mlflow
    from mlflow.exceptions import MlflowException

    uri = client.tracking_uri
    try:
        source = client.get_model_version_download_uri(name, version)
        path = Path(
            mlflow.artifacts.download_artifacts(
                artifact_uri=source, dst_path=str(folder), tracking_uri=uri, registry_uri=uri
            )
        )
        return load_ensemble(path), json.loads(read_artifact_file(path, MEMBERS_FILE))["provenance"]
    except (MlflowException, OSError, ModelError) as error:
        raise IncomparableError(f"it could not be loaded, {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """What an error says first, without its full stop."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".:")


def _own_table(provenance: Mapping[str, Any]) -> FaceTable | None:
    """The table that an ensemble was chosen on, if it is still there and the same."""
    try:
        table = open_named_table(provenance["data"], content_hash=provenance.get("data_hash") or "")
    except (KeyError, DataError, OutputError, UsageError):
        return None
    return table if table.info.content_hash == provenance.get("data_hash") else None


def _shape(table: FaceTable) -> tuple[int, int]:
    """Faces are told apart by their pixels, which takes tables of one shape."""
    return table.info.image_px, table.info.channels


def _new_rows(table: FaceTable, own: FaceTable | None) -> npt.NDArray[np.intp]:
    """Labelled rows of a table's validation split of whose person another has no face in train or valid.

    Raises:
        IncomparableError: no row of some class is left.
    """
    split = table.split("valid")
    is_labelled = split.expression >= 0
    is_known = np.zeros(split.n_rows, dtype=bool)
    if own is not None:
        known = {digest for name in ("train", "valid") for digest in _iter_digests(own.split(name))}
        is_known = np.array([digest in known for digest in _iter_digests(split)], dtype=bool)
    people = {split.subjects[row] for row in np.flatnonzero(is_known).tolist()} - {None}
    is_known |= np.array([subject in people for subject in split.subjects], dtype=bool)
    rows = np.flatnonzero(is_labelled & ~is_known)
    if lost := sorted(set(split.expression[is_labelled].tolist()) - set(split.expression[rows].tolist())):
        names = ", ".join(table.info.classes[index] for index in lost)
        raise IncomparableError(f"it knows all validation faces of {names} already")
    assert len(rows), "an honest estimate has labelled faces"
    return rows


def _iter_digests(split: Split) -> Iterator[bytes]:
    return (hashlib.blake2b(face.data, digest_size=16).digest() for face in split.images)


def _macro_f1(ensemble: LoadedEnsemble, table: FaceTable, rows: npt.NDArray[np.intp]) -> float:
    """On rows of the validation split; faces of a class that the ensemble does not have are left out."""
    split, lookup = table.split("valid"), Tally(ensemble.classes)
    labels = lookup.indices_of([table.info.classes[index] for index in split.expression[rows].tolist()])
    preds = ensemble.predict_decoded(split.images[rows]).argmax(axis=1)
    return macro_f1(labels, preds, len(ensemble.classes))
