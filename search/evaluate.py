"""What an exported ensemble says about faces, and how often it is right."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from search.artifact_files import check_artifact_files
from search.evaluation import Evaluation, Tally
from search.storage import default_storage
from search.tracking_server import check_server, default_tracking_uri
from search.tracking_ui import check_database
from spaces.errors import DataError, ModelError, cut
from trainables.data.classes import is_coded, name_codes
from trainables.data.decode import read_encoded
from trainables.data.source import Source
from trainables.data.table import FaceTable

FloatArray = npt.NDArray[np.float64]
Progress = Callable[[int], None]

FACES_AT_ONCE = 64

_PICKLES = "MLFLOW_ALLOW_PICKLE_DESERIALIZATION"

_FLAVOR = {"loader_module": "mlflow.pyfunc.loaders.code_model", "model_code_path": "predictor.py", "code": None}
"""What an export of ours says in its MLmodel of how it is loaded."""


class LoadedEnsemble:
    """An exported ensemble in memory, loaded by MLflow as any user would."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._predictor = model.unwrap_python_model()
        self.classes: tuple[str, ...] = tuple(self._predictor.classes)

    def predict_encoded(self, images: Sequence[bytes]) -> tuple[FloatArray, list[int]]:
        """Class probabilities of encoded images.

        Returns:
            [images, classes], and the rows that are no image (all zero).

        Raises:
            ModelError: a probability is no number.
        """
        probs, unreadable = np.zeros((len(images), len(self.classes))), []
        for start in range(0, len(images), FACES_AT_ONCE):
            rows = list(range(start, min(start + FACES_AT_ONCE, len(images))))
            try:
                probs[rows] = self._ask([images[row] for row in rows])
            except ValueError:
                for row in rows:
                    try:
                        probs[row] = self._ask([images[row]])[0]
                    except ValueError:
                        unreadable.append(row)
        return _finite(probs), unreadable

    def predict_decoded(self, faces: npt.NDArray[np.uint8], *, progress: Progress | None = None) -> FloatArray:
        """Class probabilities of faces that are arrays, uint8 [n, px, px, 1 or 3] to [n, classes].

        Raises:
            ModelError: a probability is no number.
        """
        batches = [np.zeros((0, len(self.classes)))]
        for start in range(0, len(faces), FACES_AT_ONCE):
            batches.append(self._predictor.predict_decoded(faces[start : start + FACES_AT_ONCE]))
            if progress:
                progress(min(start + FACES_AT_ONCE, len(faces)))
        return _finite(np.concatenate(batches))

    def _ask(self, images: list[bytes]) -> FloatArray:
        import pandas as pd

        answer = self._model.predict(pd.DataFrame({"image": images}))
        return np.asarray(answer[list(self.classes)].to_numpy(), dtype=np.float64)


def _finite(probs: FloatArray) -> FloatArray:
    if not np.isfinite(probs).all():
        raise ModelError("probabilities must be numbers, got others: the model's weights are damaged; export it again")
    return probs


def load_ensemble(model: Path | str) -> LoadedEnsemble:
    """Load an exported ensemble.

    Args:
        model: its folder, or a URI of MLflow's (`models:/faces/1`), looked up at MLFLOW_TRACKING_URI or, where that is
            not set, in the default storage's records.

    Raises:
        TrackingError: the records can't be reached.
        SearchError: there are no records in the default storage.
        ModelError: there is no model, or none of ours, or it is broken.
    """
    import mlflow

    is_uri = ":/" in str(model)
    if is_uri:
        uri = os.environ.get("MLFLOW_TRACKING_URI") or default_tracking_uri(default_storage())
        check_server(uri)
        if uri.startswith("sqlite:"):
            check_database(uri)  # MLflow would make one
        mlflow.set_tracking_uri(uri)
    else:
        _check_folder(Path(model))
    try:
        with _no_pickles():
            return LoadedEnsemble(mlflow.pyfunc.load_model(str(model)))
    except ModelError:
        raise
    except AttributeError as error:
        raise ModelError(f"model must be an ensemble that 'affectune export' wrote, got another: {model}") from error
    except Exception as error:  # mlflow, yaml, torch and timm each raise their own kinds on a broken folder
        lines = str(error).strip().splitlines()
        reason = lines[0] if lines else type(error).__name__
        advice = "" if is_uri else "; export it again"
        raise ModelError(f"model could not be loaded, {reason}: {model}{advice}") from error


@contextmanager
def _no_pickles() -> Iterator[None]:
    """MLflow loads nothing that could run code on being read, whatever a MLmodel says."""
    before = os.environ.get(_PICKLES)
    os.environ[_PICKLES] = "false"
    try:
        yield
    finally:
        os.environ.pop(_PICKLES)
        if before is not None:
            os.environ[_PICKLES] = before


def predict_files(ensemble: LoadedEnsemble, files: Sequence[Path], *, progress: Progress | None = None) -> FloatArray:
    """Class probabilities of image files, [files, classes].

    Raises:
        DataError: a file can't be read, or is no image.
    """
    batches = [np.zeros((0, len(ensemble.classes)))]
    for start in range(0, len(files), FACES_AT_ONCE):
        names = files[start : start + FACES_AT_ONCE]
        probs, unreadable = ensemble.predict_encoded([read_image_file(file) for file in names])
        if unreadable:
            raise DataError(f"image must be a picture such as JPEG or PNG, got none: {names[unreadable[0]]}")
        batches.append(probs)
        if progress:
            progress(start + len(names))
    return np.concatenate(batches)


def evaluate_source(
    model: Path | str,
    source: Source,
    *,
    classes: Sequence[str] | None = None,
    split: str | None = None,
    on_bad: Literal["fail", "skip"] = "fail",
    progress: Progress | None = None,
) -> Evaluation:
    """Judge an ensemble on a source of encoded images; equal images count as often as they are there.

    Args:
        model: folder or URI of an exported ensemble.
        source: rows whose label is none of the ensemble's classes are left out and counted.
        classes: names of the labels, in the order of their numbers, where the source gives numbers.
        split: take only the rows that the source says are train, valid or test; all when omitted.
        on_bad: whether an image that can't be read ends it, or is left out and counted.
        progress: told the number of faces done.

    Raises:
        ModelError: there is no such model.
        DataError: an image can't be read, labels are numbers without names, or no face is of the model's classes.
    """
    ensemble = load_ensemble(model)
    tally = Tally(ensemble.classes)
    asked = _rows_of_split(source, split)
    names = _named_labels(source, classes=classes, known=ensemble.classes)
    labels = np.full(len(source), -1)
    labels[asked] = tally.indices_of([names[row] for row in asked.tolist()])
    rows = np.flatnonzero(labels >= 0)
    for start, images in _iter_batches(source, rows):
        here = rows[start : start + len(images)]
        probs, unreadable = ensemble.predict_encoded(images)
        if unreadable and on_bad == "fail":
            name = cut(source.sample_ids[int(here[unreadable[0]])])
            raise DataError(f"image must be readable, got none: {name} of {source.path}; --on-bad skip leaves it out")
        for _ in unreadable:
            tally.leave_out("no image")
        good = np.setdiff1d(np.arange(len(here)), unreadable)
        people = [source.subjects[row] for row in here[good].tolist()]
        tally.add(labels[here[good]], probs[good].argmax(axis=1), people)
        if progress:
            progress(int(here[-1]) + 1)
    return tally.evaluation()


def evaluate_table(model: Path | str, table: FaceTable, *, progress: Progress | None = None) -> Evaluation:
    """Judge an ensemble on a face table's sealed test split.

    Args:
        model: folder or URI of an exported ensemble.
        table: whose test split is read.
        progress: told the number of faces done.

    Raises:
        ModelError: there is no such model.
        DataError: the table has no test split, or no face of it is of the model's classes.
    """
    split = table.sealed_test()
    if split is None or split.n_rows == 0:
        raise DataError(f"face table must have a test split to evaluate on, got none: {table.path}")
    ensemble = load_ensemble(model)
    tally = Tally(ensemble.classes)
    names = [None if index < 0 else table.info.classes[index] for index in split.expression.tolist()]
    known = tally.indices_of(names)
    rows = np.flatnonzero(known >= 0)
    faces = split.images if len(rows) == split.n_rows else split.images[rows]
    probs = ensemble.predict_decoded(faces, progress=progress)
    tally.add(known[rows], probs.argmax(axis=1), [split.subjects[row] for row in rows.tolist()])
    return tally.evaluation()


def read_image_file(path: Path) -> bytes:
    """The encoded image in a file. Raises DataError where it can't be read; the file is named."""
    try:
        return read_encoded(path)
    except DataError as error:
        raise DataError(f"{error}: {path}") from error


def _iter_batches(source: Source, rows: npt.NDArray[np.intp]) -> Iterator[tuple[int, list[bytes]]]:
    """The wanted rows' images, some at once, and which of `rows` is the first; empty bytes where a file is missing."""
    images: list[bytes] = []
    start = 0
    for image in source.iter_images(rows.astype(np.int64)):
        try:
            images.append(read_encoded(image))
        except DataError:
            images.append(b"")
        if len(images) == FACES_AT_ONCE:
            yield start, images
            start, images = start + len(images), []
    if images:
        yield start, images


def _rows_of_split(source: Source, split: str | None) -> npt.NDArray[np.intp]:
    if split is None:
        return np.arange(len(source))
    if source.splits is None:
        raise DataError(f"source must say which rows are {split}, got no split column: {source.path}")
    rows = np.flatnonzero(np.array(source.splits) == split)
    if not len(rows):
        raise DataError(f"split {split!r} must have faces, got 0: {source.path}")
    return rows


def _named_labels(source: Source, *, classes: Sequence[str] | None, known: Sequence[str]) -> list[str | None]:
    if is_coded(source.labels) and not is_coded(list(known)) and classes is None:
        raise DataError(
            f"labels must be names, as the model's classes are ({', '.join(known)}), got numbers: {source.path}; "
            "--classes names them in the order of the numbers"
        )
    return name_codes(source.labels, wanted=classes, where=str(source.path))


def _check_folder(path: Path) -> None:
    wanted = "model must be a folder that 'affectune export' wrote"
    if not path.exists():
        raise ModelError(f"{wanted}, got a path that does not exist: {path}")
    if not path.is_dir():
        raise ModelError(f"{wanted}, got a file: {path}")
    if not (path / "MLmodel").is_file():
        raise ModelError(f"{wanted}, got a folder without MLmodel: {path}")
    for part in path.rglob("*"):
        if not part.is_file() and not part.is_dir():
            raise ModelError(f"{wanted}, got something in it that is no file: {part}")
    check_artifact_files(path)
    if not _is_our_flavor(path):
        raise ModelError(f"{wanted}, got one whose MLmodel says otherwise: {path}; export it again")


def _is_our_flavor(path: Path) -> bool:
    """Whether the MLmodel of a folder is as exports of ours have it: it loads the code and the ensemble beside it."""
    from mlflow.models import Model, ModelSignature

    try:
        model = Model.load(str(path))
        ours = model.flavors["python_function"]
        is_inside = ours["artifacts"]["ensemble"]["path"] == "artifacts/ensemble"
        is_whole = list(model.flavors) == ["python_function"] and isinstance(model.signature, ModelSignature)
        return is_inside and is_whole and _FLAVOR.items() <= ours.items()
    except Exception:  # what MLflow and YAML raise on a broken one
        return False
