"""MLflow's model registry: an artifact as the next version of a name, and the best version under an alias."""

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from search.evaluate import LoadedEnsemble, load_ensemble
from search.evaluation import Tally
from search.export import CARD_FILE, MEMBERS_FILE
from search.tracking_server import check_server, default_artifact_root, hide_password, sqlite_path
from spaces.errors import AffectuneError, DataError, ModelError, TrackingError
from trainables.data.table import FaceTable, Split, open_table
from trainables.metrics import macro_f1

CHAMPION = "champion"
"""The alias of the best version, which pipelines load: `models:/NAME@champion`."""

ESTIMATE_TAGS = {
    "score": "affectune.estimate",
    "low": "affectune.estimate_low",
    "high": "affectune.estimate_high",
}
HASH_TAG = "affectune.data_hash"

LONGEST_DESCRIPTION = 5000
"""Characters; MLflow's database has room for no more."""


@dataclass(frozen=True)
class Registration:
    """What became of an artifact in the registry.

    Attributes:
        version: its number.
        is_champion: whether the alias `champion` is its own now.
        reason: why, in a sentence with the figures.
    """

    version: str
    is_champion: bool
    reason: str


@dataclass(frozen=True)
class _Claim:
    """What a version says of itself.

    Attributes:
        version: its number.
        estimate: the honest macro-F1 with its interval, `score`, `low` and `high`; None where it has none.
        data_hash: content hash of the face table that it was chosen on; None where it does not say.
    """

    version: str
    estimate: dict[str, float] | None
    data_hash: str | None


@dataclass(frozen=True)
class _Exam:
    """How a version did on another's validation faces.

    Attributes:
        macro_f1: its score.
        n_faces: how many it was judged on.
        may_know_some: whether some of them may have had a part in its making.
    """

    macro_f1: float
    n_faces: int
    may_know_some: bool


class _IncomparableError(AffectuneError):
    """Two versions can't be compared, and why."""


def register_artifact(
    out: Path,
    name: str,
    tracking_uri: str,
    *,
    run_id: str | None = None,
    table: FaceTable | None = None,
    force: bool = False,
) -> Registration:
    """Put an artifact into the model registry as the next version of a name, and make it the champion if it is better.

    The alias `champion` moves to the new version where nobody has it yet, and where the new version's honest estimate
    is above the champion's on the same data. A champion that was chosen on other data is scored on the validation
    split of the new version's table: on the faces that it does not know, or on all of them where its own table is
    gone, which can only flatter it. Where the two can't be compared, the alias stays. A crash in between leaves a
    version without the alias, which does no harm.

    Args:
        out: folder of `write_artifact`; the provenance in its members.json has `estimate` and `data_hash`.
        name: of the registered model.
        tracking_uri: whose registry.
        run_id: the run that gets the files; a run of its own, in an experiment of the model's name, when omitted.
        table: the face table that the artifact was chosen on.
        force: make it the champion whatever the scores say.

    Raises:
        ModelError: `out` is no artifact of ours.
        TrackingError: the server does not answer or refuses.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    members, card = json.loads(_read(out, MEMBERS_FILE)), _read(out, Path(CARD_FILE))
    check_server(tracking_uri)
    client = mlflow.MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
    tags = _tags_of(members["provenance"])
    try:
        version = _add_version(client, out, name, run_id=run_id, tags=tags, description=_first_section(card))
        newcomer, champion = _claim_of(version, tags), _find_champion(client, name)
        is_champion, reason = _decide(
            newcomer,
            champion,
            force=force,
            examine=lambda rival: _examine(client, name, rival, newcomer, table=table, classes=members["classes"]),
        )
        if is_champion:
            client.set_registered_model_alias(name, CHAMPION, version)
    except (MlflowException, OSError) as error:
        where = hide_password(tracking_uri)
        raise TrackingError(f"model {name!r} could not be registered, {_first_line(error)}: {where}") from error
    return Registration(version, is_champion, reason)


def _read(folder: Path, file: Path) -> str:
    if not (folder / file).is_file():
        raise ModelError(f"model must be a folder that 'affectune export' wrote, got one without {file}: {folder}")
    return (folder / file).read_text(encoding="utf-8")


def _first_section(card: str) -> str:
    """What a card says below its title, up to the next heading."""
    return card.partition("\n## ")[0].partition("\n")[2].strip()[:LONGEST_DESCRIPTION]


def _tags_of(provenance: Mapping[str, Any]) -> dict[str, str]:
    estimate, data_hash = provenance.get("estimate"), provenance.get("data_hash")
    tags = {tag: repr(float(estimate[key])) for key, tag in ESTIMATE_TAGS.items()} if estimate else {}
    return {**tags, HASH_TAG: data_hash} if data_hash else tags


def _claim_of(version: str, tags: Mapping[str, str]) -> _Claim:
    has_estimate = tags.keys() >= set(ESTIMATE_TAGS.values())
    estimate = {key: float(tags[tag]) for key, tag in ESTIMATE_TAGS.items()} if has_estimate else None
    return _Claim(version, estimate, tags.get(HASH_TAG))


def _add_version(
    client: Any, out: Path, name: str, *, run_id: str | None, tags: dict[str, str], description: str
) -> str:
    """The new version's number."""
    _ensure_model(client, name)
    if run_id is None:
        run_id = _export_run(client, name)
    client.log_artifacts(run_id, str(out), "model")
    source = f"{client.get_run(run_id).info.artifact_uri}/model"
    return str(client.create_model_version(name, source, run_id, tags=tags, description=description).version)


def _ensure_model(client: Any, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _export_run(client: Any, name: str) -> str:
    """A finished run to hold the files, in the experiment of the model's name."""
    uri, experiment = client.tracking_uri, client.get_experiment_by_name(name)
    if experiment:
        experiment_id = experiment.experiment_id
    else:
        # Without a server, MLflow would put the files into ./mlruns of whatever folder this runs in.
        beside = default_artifact_root(sqlite_path(uri).parent) if uri.startswith("sqlite") else None
        experiment_id = client.create_experiment(name, artifact_location=(beside / name).as_uri() if beside else None)
    run_id = str(client.create_run(experiment_id, run_name="export").info.run_id)
    client.set_terminated(run_id)
    return run_id


def _find_champion(client: Any, name: str) -> _Claim | None:
    version = client.get_registered_model(name).aliases.get(CHAMPION)
    return None if version is None else _claim_of(str(version), client.get_model_version(name, version).tags)


def _decide(
    newcomer: _Claim, champion: _Claim | None, *, force: bool, examine: Callable[[_Claim], _Exam]
) -> tuple[bool, str]:
    """Whether the newcomer is to be the champion, and why."""
    ours = f"version {newcomer.version}"
    if champion is None:
        return True, f"{ours} is the first champion, with {_in_words(newcomer.estimate)}"
    theirs, advice = f"version {champion.version}", f"; --force makes {ours} the champion"
    if force:
        return True, f"{ours} is the champion now instead of {theirs}, by force, with {_in_words(newcomer.estimate)}"
    if newcomer.estimate is None:
        return False, f"{theirs} stays the champion, since {ours} has no honest estimate{advice}"
    try:
        bar, words = _bar_of(champion, newcomer, examine=examine)
    except _IncomparableError as error:
        return False, f"{theirs} stays the champion, since {error}{advice}"
    figures = f"{ours} has {_in_words(newcomer.estimate)}, {theirs} has {words}"
    if newcomer.estimate["score"] > bar:
        return True, f"{ours} is the champion now: {figures}"
    return False, f"{theirs} stays the champion: {figures}{advice}"


def _bar_of(champion: _Claim, newcomer: _Claim, *, examine: Callable[[_Claim], _Exam]) -> tuple[float, str]:
    """The score that a newcomer has to beat, and what it is."""
    if champion.data_hash is None or champion.data_hash != newcomer.data_hash:
        exam = examine(champion)
        doubt = ", of which it may know some" if exam.may_know_some else ""
        return exam.macro_f1, f"{exam.macro_f1:.3f} on {exam.n_faces:,} validation faces of the new data{doubt}"
    if champion.estimate is None:
        raise _IncomparableError(f"version {champion.version} was chosen on the same data and has no honest estimate")
    return champion.estimate["score"], f"{_in_words(champion.estimate)} on the same data"


def _in_words(estimate: Mapping[str, float] | None) -> str:
    if estimate is None:
        return "no honest estimate"
    return f"an honest estimate of {estimate['score']:.3f} ({estimate['low']:.3f} to {estimate['high']:.3f})"


def _examine(
    client: Any, name: str, champion: _Claim, newcomer: _Claim, *, table: FaceTable | None, classes: list[str]
) -> _Exam:
    """Score a champion that was chosen on other data on the newcomer's validation faces.

    Raises:
        _IncomparableError: the table is missing or another, the champion can't be loaded or has other classes, or it
            knows all faces of a class.
    """
    if table is None or table.info.content_hash != newcomer.data_hash:
        got = "there is none" if table is None else f"{table.path} holds other faces now"
        raise _IncomparableError(f"it has to be scored on the data of version {newcomer.version}, and {got}")
    with tempfile.TemporaryDirectory(prefix="affectune-champion-") as folder:
        ensemble, provenance = _fetch(client, name, champion.version, Path(folder))
        if set(ensemble.classes) != set(classes):
            theirs, ours = (", ".join(sorted(names)) for names in (ensemble.classes, classes))
            raise _IncomparableError(f"its classes are {theirs}, and those of version {newcomer.version} are {ours}")
        own = _own_table(provenance)
        rows = _new_rows(table, own)
        is_sure = own is not None and _shape(own) == _shape(table)
        return _Exam(_macro_f1(ensemble, table, rows), n_faces=len(rows), may_know_some=not is_sure)


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
        return load_ensemble(path), json.loads(_read(path, MEMBERS_FILE))["provenance"]
    except (MlflowException, OSError, ModelError) as error:
        raise _IncomparableError(f"it could not be loaded, {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".:")


def _own_table(provenance: Mapping[str, Any]) -> FaceTable | None:
    """The table that an ensemble was chosen on, if it is still there and the same."""
    try:
        table = open_table(Path(provenance["data"]))
    except (KeyError, DataError):
        return None
    return table if table.info.content_hash == provenance.get("data_hash") else None


def _shape(table: FaceTable) -> tuple[int, int]:
    """Faces are told apart by their pixels, which takes tables of one shape."""
    return table.info.image_px, table.info.channels


def _new_rows(table: FaceTable, own: FaceTable | None) -> npt.NDArray[np.intp]:
    """Labelled rows of a table's validation split of whose person another has no face in train or valid.

    Raises:
        _IncomparableError: no row of some class is left.
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
        raise _IncomparableError(f"it knows all validation faces of {names} already")
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
