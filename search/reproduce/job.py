"""A table's rows from their settings to the page: one search, answers of all rows, scores, files, MLflow."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from search.folder import SPACE_FILE, SearchFolder, TrialRecord
from search.launch import run_search
from search.named_table import open_named_table
from search.plan import SearchPlan
from search.ranking import usable
from search.reproduce.answers import other_faces, partner_answers, trial_answers, unlike, valid_faces
from search.reproduce.document import Evidence, page_document
from search.reproduce.page import to_markdown
from search.reproduce.rows import Answers, Told, answer_rows
from search.reproduce.space import RowSpace, Wishes, build_row_space
from search.reproduce.tables import Paper, Table
from search.resume import More, resume_search
from search.tracking import Tracker
from spaces.errors import SearchError, UsageError
from spaces.loading import parse_space
from trainables.data.table import FaceTable
from trainables.models.partner import check_partner
from trainables.outputs import write_text

JSON_FILE = "reproduce.json"
PAGE_FILE = "reproduce.md"

ALL_EPOCHS = 1000
"""The most epochs that a config may have: a search that grants so many stops no row early."""


@dataclass(frozen=True)
class Order:
    """What is to be reproduced, on what.

    Attributes:
        paper: whose table it is.
        table: one of its tables.
        data: folder of the face table, or a URI such as s3://BUCKET/PREFIX.
        also: a second face table, whose valid split every row is scored on too.
        partner: a saved model, trained before.
        wishes: settings, repetitions, start.
        name: of the search.
        storage: where it is kept.
        tracking_uri: of MLflow; a SQLite file in the storage if None.
        plan: time and resources; the number of trials and of epochs before a stop are the table's.
        screen_to_stderr: where stdout is for the result alone.
    """

    paper: Paper
    table: Table
    data: str | Path
    storage: Path
    name: str
    also: str | Path | None = None
    partner: Path | None = None
    wishes: Wishes = field(default_factory=Wishes)
    tracking_uri: str | None = None
    plan: SearchPlan = field(default_factory=SearchPlan)
    screen_to_stderr: bool = False


@dataclass(frozen=True)
class _Run:
    folder: SearchFolder
    records: list[TrialRecord]
    interrupted: bool


def reproduce(order: Order) -> dict[str, Any]:
    """Run a table's rows and compare; a search of the same name and the same rows is gone on with.

    Returns:
        The content of reproduce.json.

    Raises:
        UsageError: an option is of no use to the table.
        SpaceError, ConfigError: settings make no config.
        ModelError, DataError: no row can be run, or a model or table does not fit.
        SearchError: another search has the name.
        DeviceError, TrackingError: as for any search.
    """
    faces = open_named_table(order.data)
    other = None if order.also is None else open_named_table(order.also)
    if other is not None:
        _check_other(other, faces)
    if order.partner is not None:
        _check_partner(order, order.partner, faces)
    row_space = build_row_space(
        order.table,
        faces,
        order.wishes,
        name=f"paper{order.paper.number}-{order.table.number}",
        description=f"rows of table {order.table.number} of paper {order.paper.number}",
    )
    # Before the trials: a model that can't be loaded is not to be found out after hours of training.
    also = None if other is None else other.split("valid")
    given = None if order.partner is None else partner_answers(order.partner, faces, also=also)
    run = _run(order, row_space, faces)
    evidence = _evidence(order, row_space, run, given=given, faces=faces, other=other)
    document = page_document(order.paper, order.table, order.wishes, row_space, evidence)
    document |= {
        "search": run.folder.name,
        "folder": str(run.folder.path),
        "tracking_uri": run.folder.read_manifest().tracking_uri,
        "interrupted": run.interrupted,
    }
    _keep(run.folder, document, markdown=to_markdown(document))
    return document


def _check_other(other: FaceTable, faces: FaceTable) -> None:
    """What can't be compared is said before anything is trained."""
    if other.info.content_hash == faces.info.content_hash:
        raise UsageError(f"--also must have other faces than --data, got the same: {other.path}; leave it out")
    other_faces(other, faces)


def _check_partner(order: Order, partner: Path, faces: FaceTable) -> None:
    check_partner(partner, faces.info.classes)
    wanted = [row.partner for row in order.table.rows if row.partner]
    reasons = [unlike(partner, each) for each in wanted]
    if not all(reasons):
        return
    rule = f"--partner must be of use to a row of table {order.table.number}"
    if not wanted:
        raise UsageError(f"{rule}, got {partner}; leave it out")
    needed = sorted({reason.removeprefix("not run: ") for reason in reasons})
    raise UsageError(f"{rule}, got {partner}: {'; '.join(needed)}")


def _run(order: Order, row_space: RowSpace, faces: FaceTable) -> _Run:
    folder = SearchFolder(order.storage.absolute() / order.name)
    n_trials = row_space.n_trials
    plan = replace(
        order.plan, n_trials=n_trials, grace_epochs=ALL_EPOCHS, keep_weights=n_trials, seed=order.wishes.seed
    )
    try:
        if _is_same(folder, row_space, faces):
            resources = {name: getattr(plan, name) for name in _RESOURCES}
            more = More(time_budget_s=plan.time_budget_s)
            outcome = resume_search(
                order.storage,
                order.name,
                more,
                tracking_uri=order.tracking_uri,
                resources=resources,
                screen_to_stderr=order.screen_to_stderr,
            )
        else:
            outcome = run_search(
                row_space.space,
                data=order.data,
                storage=order.storage,
                name=order.name,
                tracking_uri=order.tracking_uri,
                plan=plan,
                screen_to_stderr=order.screen_to_stderr,
            )
    except SearchError:
        if not _ended_without_scores(folder, row_space, faces):
            raise
        records = folder.read_records()  # the page says what went wrong in each row
        return _Run(folder, records, interrupted=any(record.end == "preempted" for record in records))
    return _Run(outcome.folder, outcome.records, outcome.interrupted)


_RESOURCES = ("max_concurrent", "cpus_per_trial", "gpus_per_trial", "resources", "address")


def _is_same(folder: SearchFolder, row_space: RowSpace, faces: FaceTable) -> bool:
    """Whether there is a search of these very rows on these very faces."""
    if not (folder.path / "search.json").is_file() or not (folder.path / SPACE_FILE).is_file():
        return False
    there = parse_space((folder.path / SPACE_FILE).read_text(encoding="utf-8"), where=str(folder.path / SPACE_FILE))
    same_faces = folder.read_manifest().content_hash == faces.info.content_hash
    return same_faces and there.content_hash() == row_space.space.content_hash()


def _ended_without_scores(folder: SearchFolder, row_space: RowSpace, faces: FaceTable) -> bool:
    if not _is_same(folder, row_space, faces) or folder.read_manifest().status == "running":
        return False
    records = folder.read_records()
    return bool(records) and not usable(records)


def _evidence(
    order: Order,
    row_space: RowSpace,
    run: _Run,
    *,
    given: Answers | None,
    faces: FaceTable,
    other: FaceTable | None,
) -> Evidence:
    """Answers of every row in every repetition; `given` are those of the model of --partner."""
    also = None if other is None else other.split("valid")
    by_values = {_key(record.values): record for record in run.records}
    trials: dict[str, Told] = {}
    valid = valid_faces(faces)
    told = []
    for repetition in range(order.wishes.n_seeds):
        known: dict[str, Told] = dict(row_space.not_run)
        for row in order.table.rows:
            if row.partner and order.partner is not None and given is not None:
                known[row.key] = unlike(order.partner, row.partner) or given
            if (row.key, repetition) in row_space.values:
                record = by_values.get(_key(row_space.values[row.key, repetition]))
                trial_id = record.trial_id if record else ""
                if trial_id not in trials:
                    trials[trial_id] = trial_answers(run.folder, record, also=also)
                known[row.key] = trials[trial_id]
        told.append(answer_rows(order.table, known, valid))
    return Evidence(
        told=told, valid=valid, also=None if other is None else other_faces(other, faces), faces=faces, other=other
    )


def _key(values: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(values.items()))


def _keep(folder: SearchFolder, document: Mapping[str, Any], *, markdown: str) -> None:
    """Write both files, and hand them to MLflow; what a server that is away does not take waits in the journal."""
    write_text(folder.path / JSON_FILE, json.dumps(document, indent=2) + "\n")
    write_text(folder.path / PAGE_FILE, markdown)
    manifest = folder.read_manifest()
    tracker = Tracker(manifest.tracking_uri, folder.name, folder.tracking_dir)
    try:
        key = tracker.launch_key
        assert key is not None, "a search that ran has a launch"
        scores = {f"reproduce/{row['key']}": row["ours"]["score"] for row in document["rows"] if row["ours"]}
        tracker.log_summary(key, scores)
        tracker.set_tags(key, {"affectune.reproduces": f"{document['paper']}:{document['table']}"})
        for name in (JSON_FILE, PAGE_FILE):
            tracker.log_artifact(key, folder.path / name)
    finally:
        tracker.close(timeout_s=30.0)
