"""MLflow's model registry: an artifact as the next version of a name, and the best version under an alias."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.artifact_files import MEMBERS_FILE
from search.champion_exam import Exam, IncomparableError, examine, first_line
from search.export import CARD_FILE, read_artifact_file
from search.tracking_server import check_server, default_artifact_root, hide_password, sqlite_path
from spaces.errors import TrackingError
from trainables.data.table import FaceTable

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

    members, card = json.loads(read_artifact_file(out, MEMBERS_FILE)), read_artifact_file(out, Path(CARD_FILE))
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
            judge=lambda rival: _judge(client, name, rival, newcomer, table=table, classes=members["classes"]),
        )
        if is_champion:
            client.set_registered_model_alias(name, CHAMPION, version)
    except (MlflowException, OSError) as error:
        where = hide_password(tracking_uri)
        raise TrackingError(f"model {name!r} could not be registered, {first_line(error)}: {where}") from error
    return Registration(version, is_champion, reason)


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
    newcomer: _Claim, champion: _Claim | None, *, force: bool, judge: Callable[[_Claim], Exam]
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
        bar, words = _bar_of(champion, newcomer, judge=judge)
    except IncomparableError as error:
        return False, f"{theirs} stays the champion, since {error}{advice}"
    figures = f"{ours} has {_in_words(newcomer.estimate)}, {theirs} has {words}"
    if newcomer.estimate["score"] > bar:
        return True, f"{ours} is the champion now: {figures}"
    return False, f"{theirs} stays the champion: {figures}{advice}"


def _bar_of(champion: _Claim, newcomer: _Claim, *, judge: Callable[[_Claim], Exam]) -> tuple[float, str]:
    """The score that a newcomer has to beat, and what it is."""
    if champion.data_hash is None or champion.data_hash != newcomer.data_hash:
        exam = judge(champion)
        doubt = ", of which it may know some" if exam.may_know_some else ""
        return exam.macro_f1, f"{exam.macro_f1:.3f} on {exam.n_faces:,} validation faces of the new data{doubt}"
    if champion.estimate is None:
        raise IncomparableError(f"version {champion.version} was chosen on the same data and has no honest estimate")
    return champion.estimate["score"], f"{_in_words(champion.estimate)} on the same data"


def _in_words(estimate: Mapping[str, float] | None) -> str:
    if estimate is None:
        return "no honest estimate"
    return f"an honest estimate of {estimate['score']:.3f} ({estimate['low']:.3f} to {estimate['high']:.3f})"


def _judge(
    client: Any, name: str, champion: _Claim, newcomer: _Claim, *, table: FaceTable | None, classes: list[str]
) -> Exam:
    """Examine a champion that was chosen on other data than the newcomer, on the newcomer's."""
    if table is None or table.info.content_hash != newcomer.data_hash:
        got = "there is none" if table is None else f"{table.path} holds other faces now"
        raise IncomparableError(f"it has to be scored on the data of version {newcomer.version}, and {got}")
    return examine(client, name, champion.version, table=table, newcomer=newcomer.version, classes=classes)
