"""A search from its words to its end: check, open the folder, start workers, follow the trials, close the books."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ray import tune
from rich.console import Console

from search.callbacks import RecordingCallback
from search.cluster import Resources, plan_resources, start_ray
from search.console import SearchConsole
from search.folder import SPACE_FILE, STUDY_FILE, SearchFolder, SearchManifest, TrialRecord, create_folder
from search.folder_lock import only_driver
from search.interrupts import gentle_signals
from search.plan import DEFAULT_TRIALS, SearchPlan
from search.prelaunch import check_launch
from search.recorder import Recorder, count_ends, usable
from search.sampler import StudySampler
from search.scheduler import EpochHalving, build_scheduler
from search.searcher import SpaceSearcher
from search.state import SearchState, settle_runs
from search.study_journal import METRIC, StudyJournal, scores_of
from search.tracking import Tracker
from search.tracking_server import check_server, default_tracking_uri
from spaces.errors import SearchError
from spaces.space import SearchSpace
from trainables.data.table import FaceTable, open_table
from trainables.outputs import write_text
from trainables.run import TrialOrder
from trainables.trial import Trial

MAX_LOST_WORKERS = 3
CLOSING_S = 6.0
"""Kept from a time budget for ending trials and closing the books."""


@dataclass(frozen=True)
class SearchOutcome:
    """What a search left. `note` is a sentence for the user, where there was nothing to do."""

    folder: SearchFolder
    records: list[TrialRecord]
    interrupted: bool
    note: str = ""


def run_search(
    space: SearchSpace,
    *,
    data: Path,
    storage: Path,
    name: str,
    tracking_uri: str | None = None,
    plan: SearchPlan | None = None,
    screen_to_stderr: bool = False,
) -> SearchOutcome:
    """Search a space on a face table.

    Args:
        space: what may vary.
        data: folder of the face table.
        storage: the search's folder becomes storage / name.
        name: of the search and of its MLflow experiment.
        tracking_uri: of MLflow; a SQLite file in the storage if None.
        plan: budget and resources.
        screen_to_stderr: where stdout is for the result alone.

    Raises:
        SpaceError, ConfigError, ModelError, DataError: the space does not fit the table.
        SearchError: a search of this name is there; no cluster answers; no trial could be scored.
        DeviceError: a GPU is asked for where there is none.
        TrackingError: the tracking server does not answer.
    """
    started_s = time.time()
    plan = plan or SearchPlan()
    if plan.n_trials is None and plan.time_budget_s is None:
        plan = replace(plan, n_trials=DEFAULT_TRIALS)
    table = open_table(data)
    check_launch(space, table)
    folder = create_folder(storage, name)
    uri = tracking_uri or default_tracking_uri(storage)
    check_server(uri)
    manifest = SearchManifest(
        name=name,
        data=str(data.absolute()),
        content_hash=table.info.content_hash,
        classes=tuple(table.info.classes),
        seed=plan.seed,
        n_trials=plan.n_trials,
        time_budget_s=plan.time_budget_s,
        tracking_uri=uri,
        launched_s=started_s,
        plan=asdict(plan),
    )
    with only_driver(folder):
        start_ray(plan.address)
        resources = resources_of(plan)
        write_text(folder.path / SPACE_FILE, space.to_yaml())
        folder.write_manifest(manifest)  # from here on there is a search, which can be resumed
        state = SearchState(StudySampler(space, seed=plan.seed))
        return follow(state, folder, table, plan=plan, resources=resources, screen_to_stderr=screen_to_stderr)


def resources_of(plan: SearchPlan) -> Resources:
    """What a plan's trials take of the cluster as it stands. Raises DeviceError."""
    return plan_resources(
        cpus_per_trial=plan.cpus_per_trial, gpus_per_trial=plan.gpus_per_trial, max_concurrent=plan.max_concurrent
    )


def follow(
    state: SearchState,
    folder: SearchFolder,
    table: FaceTable,
    *,
    plan: SearchPlan,
    resources: Resources,
    screen_to_stderr: bool = False,
) -> SearchOutcome:
    """Run a search from where it stands to its end. Its manifest names the launch; Ray runs; the folder is held.

    Args:
        state: what is unfinished in it is run first.
        folder: of the search.
        table: the face table.
        plan: `n_trials` counts all trials, the state's too; `time_budget_s` counts from the manifest's `launched_s`.
        resources: of one trial.
        screen_to_stderr: where stdout is for the result alone.

    Raises:
        SearchError: no trial could be scored.
    """
    manifest = folder.read_manifest()
    space, started_s = state.sampler.space, manifest.launched_s
    screen = SearchConsole(
        default=space.to_config(space.default()).to_flat(),
        n_trials=plan.n_trials,
        time_budget_s=plan.time_budget_s,
        earlier=state.records,
        console=Console(stderr=screen_to_stderr),
    )
    tracker = Tracker(manifest.tracking_uri, folder.name, folder.tracking_dir, on_trouble=screen.message)
    settle_runs(tracker, state.records)
    parent = tracker.start_search(name=folder.name, params=_launch_params(space, table, plan, resources))
    recorder = Recorder(
        folder,
        tracker=tracker,
        parent_key=parent,
        screen=screen,
        keep_weights=plan.keep_weights,
        earlier=state.records,
    )
    deadline_s = None if plan.time_budget_s is None else started_s + plan.time_budget_s - CLOSING_S
    journal = StudyJournal(folder.path / STUDY_FILE, state.sampler.events)
    searcher = SpaceSearcher(
        state,
        journal,
        order=lambda record, ends_s: _order(record, folder, table, resources, ends_s),
        n_trials=plan.n_trials,
        deadline_s=deadline_s,
        budget_s=plan.time_budget_s,
        max_concurrent=resources.max_concurrent,
    )
    try:
        scheduler = _scheduler(plan, state.records, max_epochs=_most_epochs(space))
        _fit(searcher, scheduler, recorder, folder, resources=resources, n_launches=manifest.n_launches)
    finally:
        try:
            recorder.close_open_trials()
            journal.close()
        finally:
            screen.close()
            records = list(recorder.records.values())
            _close(folder, tracker, parent, records, wall_s=manifest.wall_s + time.time() - started_s)
    if not usable(records):
        raise SearchError(_why_nothing(records, folder))
    interrupted = any(record.end == "preempted" for record in records)
    return SearchOutcome(folder=folder, records=records, interrupted=interrupted)


def _scheduler(plan: SearchPlan, records: Sequence[TrialRecord], *, max_epochs: int) -> EpochHalving | None:
    """ASHA with earlier trials on its rungs; none where all epochs are granted anyway."""
    if max_epochs <= plan.grace_epochs:
        return None
    scheduler = build_scheduler(
        metric=METRIC,
        max_epochs=max_epochs,
        grace_epochs=plan.grace_epochs,
        reduction_factor=plan.reduction_factor,
        min_rung_trials=plan.min_rung_trials,
        protected=frozenset({"t0000"}),
    )
    for record in records:
        scheduler.remember(record.trial_id, scores_of(record))
    return scheduler


def _fit(
    searcher: SpaceSearcher,
    scheduler: EpochHalving | None,
    recorder: Recorder,
    folder: SearchFolder,
    *,
    resources: Resources,
    n_launches: int,
) -> None:
    folder.remove_tune_dirs()
    trainable: Any = tune.with_resources(Trial, {"cpu": resources.cpus, "gpu": resources.gpus})
    callback = RecordingCallback(recorder, searcher.records, halt=searcher.halt)
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=-1,  # the searcher says when there are enough
            max_concurrent_trials=resources.max_concurrent,
            reuse_actors=resources.gpus == 0,  # a GPU's memory is only sure to be free when its process has gone
        ),
        run_config=tune.RunConfig(
            name=f"tune-{n_launches}",  # the workers of a killed driver may still write into theirs
            storage_path=str(folder.path),
            callbacks=[callback],
            checkpoint_config=tune.CheckpointConfig(
                checkpoint_frequency=0, checkpoint_at_end=False
            ),  # a trial keeps its own
            failure_config=tune.FailureConfig(max_failures=MAX_LOST_WORKERS),
            verbose=0,
        ),
    )
    with gentle_signals():
        tuner.fit()
    folder.remove_tune_dirs()
    if callback.trouble:
        raise callback.trouble


def _order(
    record: TrialRecord, folder: SearchFolder, table: FaceTable, resources: Resources, deadline_s: float | None
) -> dict[str, Any]:
    return TrialOrder(
        trial_id=record.trial_id,
        settings=record.config,
        table=str(table.path.absolute()),
        folder=str(folder.trial_dir(record.trial_id)),
        device=resources.device,
        n_threads=resources.n_threads,
        n_workers=resources.n_workers,
        deadline_s=deadline_s,
    ).to_dict()


def _most_epochs(space: SearchSpace) -> int:
    epochs = [space.to_config(values).train.epochs for values in space.initial_points()]
    for parameter in space.parameters:
        if parameter.name == "train.epochs":
            epochs += [int(value) for value in parameter.domain.probes() if isinstance(value, int | float)]
    return max(epochs)


def _launch_params(space: SearchSpace, table: FaceTable, plan: SearchPlan, resources: Resources) -> dict[str, Any]:
    return {
        "space": space.name,
        "space_hash": space.content_hash(),
        "data": str(table.path),
        "data_hash": table.info.content_hash,
        "classes": ",".join(table.info.classes),
        **{f"plan.{name}": value for name, value in vars(plan).items()},
        "cpus_per_trial": resources.cpus,
        "gpus_per_trial": resources.gpus,
        "max_concurrent": resources.max_concurrent,
    }


def _close(folder: SearchFolder, tracker: Tracker, parent: str, records: list[TrialRecord], *, wall_s: float) -> None:
    best = usable(records)[:1]
    if best:
        tracker.log_summary(parent, {"best/macro_f1": best[0].best_macro_f1, "n_trials": len(records)})
    interrupted = any(record.end == "preempted" for record in records)
    tracker.end_run(parent, "interrupted" if interrupted else "completed" if best else "failed")
    status = "interrupted" if interrupted else "ended"
    try:
        folder.update_manifest(status=status, wall_s=wall_s)
    finally:
        tracker.close(timeout_s=30.0)
    folder.update_manifest(experiment_id=tracker.experiment_id, parent_run_id=tracker.run_id(parent))


def _why_nothing(records: list[TrialRecord], folder: SearchFolder) -> str:
    errors = Counter(record.error for record in records if record.error)
    if errors:
        error, n_same = errors.most_common(1)[0]
        return f"no trial could be scored, {errors.total()} failed, {n_same} of them with: {error}: {folder.path}"
    n_diverged = count_ends(records)["diverged"]
    if n_diverged:
        return f"no trial could be scored, {n_diverged} diverged: {folder.path}; try lower learning rates"
    return f"no trial was scored before the search ended: {folder.path}; give it more time"
