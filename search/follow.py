"""A search from where it stands to its end: start workers, follow the trials, close the books."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NamedTuple

from ray import tune
from rich.console import Console

from search.callbacks import RecordingCallback
from search.cluster import Resources, plan_resources
from search.console import SearchConsole
from search.folder import STUDY_FILE, SearchFolder, TrialRecord
from search.gpu_sharing import GpuSharing
from search.interrupts import gentle_signals
from search.packs.callbacks import PackCallback
from search.packs.console import PackConsole
from search.packs.runs import PackRuns
from search.packs.searcher import Pack, PackSearcher
from search.packs.space import is_packed
from search.plan import EnsemblePlan, SearchPlan
from search.prelaunch import iter_extremes
from search.recorder import Recorder, count_ends, usable
from search.run_log import NoRuns
from search.scheduler import StratifiedHalving, constant_macro_f1
from search.searcher import SpaceSearcher
from search.state import SearchState, settle_runs
from search.stopping import Stopping, in_words, measure_stopping
from search.strata import epoch_faces, named_ratios
from search.study_journal import METRIC, StudyJournal
from search.tracking import Tracker
from spaces.errors import SearchError
from spaces.space import SearchSpace
from trainables.data.table import FaceTable
from trainables.heads.pack_run import PackedTrial, PackOrder
from trainables.run import TrialOrder
from trainables.trial import PackTrial, Trial

MAX_LOST_WORKERS = 3
CLOSING_S = 6.0
"""Kept from a time budget for ending trials and closing the books."""
FIDELITY_S = 20.0
"""Kept for asking heads about full trials, where heads came first."""


@dataclass(frozen=True)
class SearchOutcome:
    """What a search left. `note` is a sentence for the user, where there was nothing to do."""

    folder: SearchFolder
    records: list[TrialRecord]
    interrupted: bool
    note: str = ""


def resources_of(plan: SearchPlan | EnsemblePlan, sharing: GpuSharing | None = None) -> Resources:
    """What a plan's trials take of the cluster as it stands, by what was measured for it. Raises DeviceError."""
    return plan_resources(
        cpus_per_trial=plan.cpus_per_trial,
        gpus_per_trial=plan.gpus_per_trial,
        max_concurrent=plan.max_concurrent,
        sharing=sharing,
    )


def follow(
    state: SearchState,
    folder: SearchFolder,
    table: FaceTable,
    *,
    plan: SearchPlan,
    resources: Resources,
    screen_to_stderr: bool = False,
    worker: type[Trial] = Trial,
) -> SearchOutcome:
    """Run a search from where it stands to its end. Its manifest names the launch; Ray runs; the folder is held.

    Args:
        state: what is unfinished in it is run first.
        folder: of the search.
        table: the face table.
        plan: `n_trials` counts all trials, the state's too; `time_budget_s` counts from the manifest's `launched_s`.
        resources: of one trial.
        screen_to_stderr: where stdout is for the result alone.
        worker: what runs trials that are not packed.

    Raises:
        SearchError: no trial could be scored.
    """
    manifest = folder.read_manifest()
    space, started_s = state.sampler.space, manifest.launched_s
    is_in_packs = is_packed(space)
    screen = (PackConsole if is_in_packs else SearchConsole)(
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
        tracker=NoRuns() if is_in_packs else tracker,
        parent_key=parent,
        screen=screen,
        keep_weights=plan.keep_weights,
        earlier=state.records,
    )
    journal = StudyJournal(folder.path / STUDY_FILE, state.sampler.events)
    bounds = {
        "n_trials": plan.n_trials,
        "deadline_s": None if plan.time_budget_s is None else started_s + plan.time_budget_s - closing_s(plan),
        "budget_s": plan.time_budget_s,
        "max_concurrent": resources.max_concurrent,
    }
    pack_runs = PackRuns(tracker, parent, folder)
    work = _Work(folder, table, resources, recorder, ends_s=bounds["deadline_s"])
    interrupted = True
    try:
        if is_in_packs:
            drive = _drive_packs(state, journal, work, runs=pack_runs, bounds=bounds, keep_weights=plan.keep_weights)
        else:
            scheduler = _scheduler(space, table, plan, state.records)
            drive = _drive_trials(state, journal, work, worker=worker, scheduler=scheduler, bounds=bounds)
        _fit(drive, folder, resources=resources, n_launches=manifest.n_launches)
        interrupted = not drive.searcher.is_through
        if is_in_packs:
            pack_runs.publish_best(list(recorder.records.values()))
    finally:
        try:
            recorder.close_open_trials()
            journal.close()
            pack_runs.close_open_packs()
        finally:
            screen.close()
            records = list(recorder.records.values())
            stopping = measure_stopping(records, vars(plan))
            wall_s = manifest.wall_s + time.time() - started_s
            _close(folder, tracker, parent, records, interrupted=interrupted, stopping=stopping, wall_s=wall_s)
    if not interrupted and not usable(records):
        raise SearchError(_why_nothing(records, folder))
    if said := in_words(stopping, vars(plan)):
        screen.message(said)
    return SearchOutcome(folder=folder, records=records, interrupted=interrupted)


def _scheduler(
    space: SearchSpace, table: FaceTable, plan: SearchPlan, records: Sequence[TrialRecord]
) -> StratifiedHalving | None:
    """ASHA with earlier trials on its rungs; none where all epochs are granted anyway."""
    if _most_epochs(space) <= plan.grace_epochs:
        return None
    counts = table.info.class_counts
    scheduler = StratifiedHalving(
        metric=METRIC,
        epoch_faces=partial(epoch_faces, class_counts=counts["train"], ratios=named_ratios(space)),
        grace_epochs=plan.grace_epochs,
        reduction_factor=plan.reduction_factor,
        min_rung_trials=plan.min_rung_trials,
        protected=frozenset({"t0000"}),
        floor=constant_macro_f1(counts["valid"]),
        reprieve_share=plan.reprieve_share,
        seed=plan.seed,
    )
    for record in records:
        scheduler.remember(record)
    return scheduler


class _Work(NamedTuple):
    """What trials work on, and with."""

    folder: SearchFolder
    table: FaceTable
    resources: Resources
    recorder: Recorder
    ends_s: float | None


class _Drive(NamedTuple):
    """What Ray Tune drives: workers of a kind, and who orders, judges and notes what they do."""

    trainable: type[tune.Trainable]
    searcher: SpaceSearcher
    callback: RecordingCallback
    scheduler: StratifiedHalving | None = None


def _drive_trials(
    state: SearchState,
    journal: StudyJournal,
    work: _Work,
    *,
    worker: type[Trial],
    scheduler: StratifiedHalving | None,
    bounds: dict[str, Any],
) -> _Drive:
    """A worker takes one trial at a time."""
    searcher = SpaceSearcher(state, journal, order=lambda record, ends_s: _order(record, work, ends_s), **bounds)
    spared = scheduler.spared if scheduler else None
    callback = RecordingCallback(work.recorder, searcher.records, halt=searcher.halt, spared=spared)
    return _Drive(worker, searcher, callback, scheduler)


def _drive_packs(
    state: SearchState,
    journal: StudyJournal,
    work: _Work,
    *,
    runs: PackRuns,
    bounds: dict[str, Any],
    keep_weights: int,
) -> _Drive:
    """A worker takes a pack of heads at a time."""

    def order(pack: Pack, ends_s: float | None) -> dict[str, Any]:
        kept = usable(list(work.recorder.records.values()))[keep_weights - 1 : keep_weights] if keep_weights else []
        return PackOrder(
            pack_id=pack.pack_id,
            trials=tuple(
                PackedTrial(record.trial_id, record.config, str(work.folder.trial_dir(record.trial_id)))
                for record in pack.records
            ),
            table=str(work.table.path.absolute()),
            device=work.resources.device,
            n_threads=work.resources.n_threads,
            keep_weights=keep_weights,
            weights_above=kept[0].best_macro_f1 or -1.0 if kept else -1.0,
            keep_always=("t0000",),
            deadline_s=ends_s,
            gpu_share=work.resources.gpu_share,
        ).to_dict()

    runs.keep_lost_trials(state.records)
    searcher = PackSearcher(state, journal, order=order, last_pack=runs.last_pack, **bounds)
    callback = PackCallback(work.recorder, searcher.packs, runs=runs, halt=searcher.halt)
    return _Drive(PackTrial, searcher, callback)


def _fit(drive: _Drive, folder: SearchFolder, *, resources: Resources, n_launches: int) -> None:
    folder.remove_tune_dirs()
    trainable: Any = tune.with_resources(drive.trainable, resources.request())
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=drive.searcher,
            scheduler=drive.scheduler,
            num_samples=-1,  # the searcher says when there are enough
            max_concurrent_trials=resources.max_concurrent,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=f"tune-{n_launches}",  # the workers of a killed driver may still write into theirs
            storage_path=str(folder.path),
            callbacks=[drive.callback],
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
    if drive.callback.trouble:
        raise drive.callback.trouble


def _order(record: TrialRecord, work: _Work, deadline_s: float | None) -> dict[str, Any]:
    resources = work.resources.of(record.config)
    return TrialOrder(
        trial_id=record.trial_id,
        settings=record.config,
        table=str(work.table.path.absolute()),
        folder=str(work.folder.trial_dir(record.trial_id)),
        device=resources.device,
        n_threads=resources.n_threads,
        n_workers=resources.n_workers,
        deadline_s=deadline_s,
        search_ends_s=work.ends_s,
        gpu_share=resources.gpu_share,
    ).to_dict()


def closing_s(plan: SearchPlan) -> float:
    """Seconds kept from a time budget, in which no trial may run."""
    return CLOSING_S + (FIDELITY_S if plan.first else 0.0)


def _most_epochs(space: SearchSpace) -> int:
    return max(config.train.epochs for config in iter_extremes(space))


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


def _close(
    folder: SearchFolder,
    tracker: Tracker,
    parent: str,
    records: list[TrialRecord],
    *,
    interrupted: bool,
    stopping: Stopping,
    wall_s: float,
) -> None:
    best = usable(records)[:1]
    if best:
        told = {f"stopping/{name}": count for name, count in asdict(stopping).items()}
        tracker.log_summary(parent, {"best/macro_f1": best[0].best_macro_f1, "n_trials": len(records), **told})
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
