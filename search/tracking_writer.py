"""Applies a journal's operations to MLflow. MLflow is imported here alone, when first used: that takes seconds."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from search.privacy import keep_private
from search.tracking_journal import Journal
from search.tracking_records import MAX_METRICS_PER_BATCH, MAX_TEXTS_PER_BATCH, batches
from search.tracking_server import create_database, sqlite_path

Operation = Mapping[str, Any]

SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""Short waits, since the journal is what retries; and no chatter on the console. What a user has set stays."""

_GONE = "RESOURCE_DOES_NOT_EXIST"
_REFUSALS = ("INVALID_PARAMETER_VALUE", _GONE, "INVALID_STATE")
RUNS_PER_PAGE = 1000
_PARENT_TAG = "mlflow.parentRunId"


class RunWriter:
    """Writes operations to one server. Whatever is written twice stands there once.

    A run is found again by its tags `affectune.search_id` and `affectune.key`; a metric's point by its time, step and
    value, which the journal keeps.
    """

    def __init__(self, uri: str, journal: Journal, *, artifact_root: Path | None) -> None:
        keep_private()
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        for noisy in ("alembic", "mlflow.store.db.utils"):  # a full disk is told by us
            logging.getLogger(noisy).setLevel(logging.CRITICAL)
        self._journal = journal
        self._uri = uri
        self._artifact_root = artifact_root or sqlite_path(uri).parent / "mlartifacts" if _is_sqlite(uri) else None
        if self._artifact_root is not None:
            create_database(sqlite_path(uri), artifact_root=self._artifact_root)
        self._client: Any = MlflowClient(tracking_uri=uri)
        self._perhaps_created = journal.progress.offset < journal.size_at_opening

    def recognise_server(self) -> bool:
        """Whether the server still has what was sent to it; where not, all of the journal is to be sent again.

        A database may have been replaced, by an empty one or one where other searches have our numbers. The run that
        was opened last tells; of a server that has an older state, the runs that it does have are taken up.

        Raises:
            MlflowException, OSError: the server is away.
        """
        if self._has_latest_run():
            return True
        progress = self._journal.progress
        was_sent = bool(progress.runs) or progress.offset > 0
        self._journal.forget_sent()
        if was_sent or self._perhaps_created:
            self._take_up_runs()
            self._perhaps_created = False
        return not was_sent

    def _has_latest_run(self) -> bool:
        run_id = next(reversed(self._journal.progress.runs.values()), None)
        if run_id is None:
            return False
        try:
            self._client.get_run(run_id)
        except Exception as error:
            if getattr(error, "error_code", None) != _GONE:
                raise
            return False
        return True

    def _take_up_runs(self) -> None:
        mine, token = f"tags.`affectune.search_id` = '{self._journal.search_id}'", None
        while True:
            page = self._client.search_runs(
                [self._experiment_id()], mine, max_results=RUNS_PER_PAGE, order_by=["start_time ASC"], page_token=token
            )
            for run in page:
                self._journal.progress.set_run(run.data.tags["affectune.key"], str(run.info.run_id))
            token = page.token
            if not token:
                return

    def apply(self, operations: Sequence[Operation]) -> None:
        """Write operations in their order, run by run.

        Raises:
            MlflowException, OSError: the server is away; applying the same operations again is then right.
        """
        by_key: dict[str, list[Operation]] = {}
        for operation in operations:
            by_key.setdefault(operation["key"], []).append(operation)
        try:
            for key, mine in by_key.items():
                self._apply_to_run(key, mine)
        except Exception:
            self._perhaps_created = True
            raise
        self._perhaps_created = False

    def _apply_to_run(self, key: str, operations: Sequence[Operation]) -> None:
        run_id = self._journal.progress.runs.get(key)
        is_new = False
        if run_id is None:
            with self._refusals(operations):
                run_id, is_new = self._open_run(key, operations)
        if run_id is None:
            self._reject(operations, "no run was opened under this key")
            return
        if not self._write_at_once(run_id, operations, is_new=is_new):
            for write in (self._write_params, self._write_tags, self._write_metrics):
                with self._refusals(operations):
                    write(run_id, operations)
        for write in (self._write_dataset, self._write_views, self._write_artifacts, self._write_status):
            with self._refusals(operations):
                write(run_id, operations)

    @contextmanager
    def _refusals(self, operations: Sequence[Operation]) -> Iterator[None]:
        """Keep aside what the server understood and will never take: trying again would hold up all that follows.

        That something is not there is a refusal only by a server that has what it was sent before.
        """
        try:
            yield
        except Exception as error:
            code = getattr(error, "error_code", None)
            if code not in _REFUSALS or (code == _GONE and not self._has_latest_run()):
                raise
            self._reject(operations, str(error))

    def _open_run(self, key: str, operations: Sequence[Operation]) -> tuple[str | None, bool]:
        """The run of a key that has none yet, and whether it is new; none where nothing opens it."""
        start = next((operation for operation in operations if operation["op"] == "start"), None)
        if start is None:
            return None, False
        found = self._find_run(key) if self._perhaps_created else None
        run_id = found or self._create_run(start)
        self._journal.progress.set_run(key, run_id)
        return run_id, found is None

    def _create_run(self, start: Operation) -> str:
        run = self._client.create_run(
            self._experiment_id(), start_time=start["t"], tags=self._start_tags(start), run_name=start["name"]
        )
        return str(run.info.run_id)

    def _start_tags(self, start: Operation) -> dict[str, str]:
        tags = {
            **start["tags"],
            "affectune.key": start["key"],
            "affectune.search_id": self._journal.search_id,
            "mlflow.source.name": "affectune",
        }
        parent_id = self._journal.progress.runs.get(start["parent"] or "")
        return {**tags, _PARENT_TAG: parent_id} if parent_id else tags

    def _find_run(self, key: str) -> str | None:
        found = self._client.search_runs(
            [self._experiment_id()],
            f"tags.`affectune.search_id` = '{self._journal.search_id}' and tags.`affectune.key` = '{key}'",
            max_results=1,
        )
        return str(found[0].info.run_id) if found else None

    def _experiment_id(self) -> str:
        progress = self._journal.progress
        if progress.experiment_id is None:
            progress.set_experiment(self._open_experiment(self._journal.identity["experiment"]))
        return str(progress.experiment_id)

    def _open_experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is None:
            folder = self._artifact_root / name if self._artifact_root else None
            location = folder.absolute().as_uri() if folder else None
            tags = {"mlflow.experimentKind": "custom_model_development"}
            return str(self._client.create_experiment(name, artifact_location=location, tags=tags))
        if found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _write_at_once(self, run_id: str, operations: Sequence[Operation], *, is_new: bool) -> bool:
        """All of a run's parameters, tags and metrics in one request, which costs a third of three.

        Returns:
            whether it was done; not where there is too much for one request, or something in it is refused.
        """
        params, points = _params_of(operations), _metrics_of(operations)
        told = [o for o in operations if not (is_new and o["op"] == "start" and not o.get("again"))]
        tags = self._tags_of(told)  # the run was created with those of its start
        if not (params or tags or points):
            return True
        if max(len(params), len(tags)) > MAX_TEXTS_PER_BATCH:
            return False
        if len(params) + len(tags) + len(points) > MAX_METRICS_PER_BATCH:
            return False
        try:
            self._client.log_batch(run_id, metrics=points, params=params, tags=tags, synchronous=True)
        except Exception as error:
            if getattr(error, "error_code", None) not in _REFUSALS:
                raise
            return False
        return True

    def _write_params(self, run_id: str, operations: Sequence[Operation]) -> None:
        for some in batches(_params_of(operations), MAX_TEXTS_PER_BATCH):
            self._client.log_batch(run_id, params=some, synchronous=True)

    def _write_tags(self, run_id: str, operations: Sequence[Operation]) -> None:
        for some in batches(self._tags_of(operations), MAX_TEXTS_PER_BATCH):
            self._client.log_batch(run_id, tags=some, synchronous=True)

    def _write_metrics(self, run_id: str, operations: Sequence[Operation]) -> None:
        for some in batches(_metrics_of(operations), MAX_METRICS_PER_BATCH):
            self._client.log_batch(run_id, metrics=some, synchronous=True)

    def _tags_of(self, operations: Sequence[Operation]) -> list[Any]:
        from mlflow.entities import RunTag

        tags: dict[str, str] = {}
        for operation in operations:
            tags |= self._start_tags(operation) if operation["op"] == "start" else operation.get("tags", {})
        return [RunTag(*item) for item in tags.items()]

    def _write_dataset(self, run_id: str, operations: Sequence[Operation]) -> None:
        """What a run works on; a run that is told so twice has it once."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        told = [operation["dataset"] for operation in operations if operation.get("dataset")]
        if told:
            tag = InputTag("mlflow.data.context", "training")
            self._client.log_inputs(run_id, [DatasetInput(Dataset(**told[-1]), [tag])])

    def _write_views(self, run_id: str, operations: Sequence[Operation]) -> None:
        for operation in operations:
            if operation["op"] != "views":
                continue
            try:
                for tag, view in operation["views"].items():
                    self._client.set_experiment_tag(self._experiment_id(), tag, view)
            except Exception as error:  # whoever may not arrange an experiment may well record in it
                self._client.get_run(run_id)  # raises where it is the server, or its database, that is away
                self._reject([operation], f"{type(error).__name__}: {error}")

    def _write_artifacts(self, run_id: str, operations: Sequence[Operation]) -> None:
        for operation in operations:
            if operation["op"] != "artifact":
                continue
            try:
                self._write_artifact(run_id, Path(operation["path"]), folder=operation["folder"])
            except Exception as error:  # a broken artifact store must not hold up the numbers
                self._client.get_run(run_id)  # raises where it is the server, or its database, that is away
                self._reject([operation], f"{type(error).__name__}: {error}")

    def _write_artifact(self, run_id: str, path: Path, *, folder: str | None) -> None:
        if path.is_dir():
            self._client.log_artifacts(run_id, str(path), folder)
        else:
            self._client.log_artifact(run_id, str(path), folder)

    def _write_status(self, run_id: str, operations: Sequence[Operation]) -> None:
        turns = [operation for operation in operations if operation["op"] in ("start", "end")]
        if not turns:
            return
        if turns[-1]["op"] == "end":
            self._client.set_terminated(run_id, status=turns[-1]["status"], end_time=turns[-1]["t"])
        elif turns[-1].get("again"):
            self._client.update_run(run_id, status="RUNNING")

    def _reject(self, operations: Sequence[Operation], reason: str) -> None:
        for operation in operations:
            self._journal.reject(operation, reason)


def _params_of(operations: Sequence[Operation]) -> list[Any]:
    from mlflow.entities import Param

    params: dict[str, str] = {}
    for operation in operations:
        params |= operation.get("params", {})
    return [Param(*item) for item in params.items()]


def _metrics_of(operations: Sequence[Operation]) -> list[Any]:
    from mlflow.entities import Metric

    return [
        Metric(name, value, operation["t"], operation["step"])
        for operation in operations
        if operation["op"] == "metrics"
        for name, value in operation["values"].items()
    ]


def _is_sqlite(uri: str) -> bool:
    return uri.startswith("sqlite:")
