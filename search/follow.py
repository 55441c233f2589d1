"""A search from where it stands to its end: start workers, follow the trials, close the books."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console

from search.console import SearchConsole
from search.driving import Work, build_scheduler, drive_packs, drive_trials, run_drive
from search.folder import STUDY_FILE, SearchFolder, TrialRecord
from search.gpu_sharing import GpuSharing
from search.launch_pages import LaunchPages, describe_table
from search.packs.console import PackConsole
from search.packs.runs import PackRuns
from search.packs.space import is_packed
from search.plan import EnsemblePlan, SearchPlan
from search.progress import waiting
from search.ranking import count_ends, usable
from search.recorder import Recorder
from search.resources import Resources, plan_resources
from search.run_log import NoRuns
from search.state import SearchState, settle_runs
from search.stopping import Stopping, in_words, measure_stopping
from search.study_file import OPTUNA_FILE, write_study
from search.study_journal import StudyJournal
from search.tracking import Tracker
from spaces.errors import SearchError
from spaces.space import SearchSpace
from trainables.data.table import FaceTable
from trainables.outputs import sweep_leftovers
from trainables.patience import Patience
from trainables.shared_clock import clock_lead_s
from trainables.trial import Trial

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
        others=plan.resources,
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
    default = space.to_config(space.default()).to_flat()
    screen = _screen(state, plan, resources, default, is_in_packs=is_in_packs, to_stderr=screen_to_stderr)
    folder.patience = Patience(screen.message)
    tracker = Tracker(
        manifest.tracking_uri,
        folder.name,
        folder.tracking_dir,
        dataset=describe_table(table),
        on_trouble=screen.message,
    )
    settle_runs(tracker, state.records)
    parent = tracker.start_search(name=folder.name, params=_launch_params(space, table, plan, resources))
    pages = LaunchPages(tracker, parent, folder, default=default, plan=plan, has_pictures=not is_in_packs)
    recorder = Recorder(
        folder,
        tracker=NoRuns() if is_in_packs else tracker,
        parent_key=parent,
        screen=screen,
        keep_weights=plan.keep_weights,
        earlier=state.records,
        on_end=pages.trial_ended,
    )
    journal = StudyJournal(folder.path / STUDY_FILE, state.sampler.events, patience=folder.patience)
    bounds = _bounds(plan, started_s, max_concurrent=resources.max_concurrent)
    pack_runs = PackRuns(tracker, parent, folder)
    work = Work(
        folder,
        table,
        resources,
        recorder,
        ends_s=bounds["deadline_s"],
        silent_s=plan.silent_s,
        clock_lead_s=clock_lead_s(folder.path),
        say=screen.message,
    )
    interrupted = True
    try:
        pages.open(state.records)
        if is_in_packs:
            drive = drive_packs(state, journal, work, runs=pack_runs, bounds=bounds, keep_weights=plan.keep_weights)
        else:
            scheduler = build_scheduler(space, table, plan, state.records)
            drive = drive_trials(state, journal, work, worker=worker, scheduler=scheduler, bounds=bounds)
        run_drive(drive, folder, resources=resources, n_launches=manifest.n_launches)
        interrupted = not drive.searcher.is_through
        if is_in_packs:
            pack_runs.publish_best(list(recorder.records.values()))
    finally:
        try:
            sweep_leftovers(folder.path, everywhere=True)
            recorder.close_open_trials()
            journal.close()
            pack_runs.close_open_packs()
            folder.patience(lambda: write_study(state.sampler.study, folder.path / OPTUNA_FILE, name=folder.name))
        finally:
            screen.close()
            records = list(recorder.records.values())
            stopping = measure_stopping(records, vars(plan))
            wall_s = manifest.wall_s + time.time() - started_s
            pages.close(records, "interrupted" if interrupted else "ended")
            _close(folder, tracker, parent, records, interrupted=interrupted, stopping=stopping, wall_s=wall_s)
    if not interrupted and not usable(records):
        raise SearchError(_why_nothing(records, folder))
    if said := in_words(stopping, vars(plan)):
        screen.message(said)
    return SearchOutcome(folder=folder, records=records, interrupted=interrupted)


def closing_s(plan: SearchPlan) -> float:
    """Seconds kept from a time budget, in which no trial may run."""
    return CLOSING_S + (FIDELITY_S if plan.first else 0.0)


def _screen(
    state: SearchState,
    plan: SearchPlan,
    resources: Resources,
    default: Mapping[str, Any],
    *,
    is_in_packs: bool,
    to_stderr: bool,
) -> SearchConsole:
    return (PackConsole if is_in_packs else SearchConsole)(
        default=default,
        n_trials=plan.n_trials,
        time_budget_s=plan.time_budget_s,
        n_slots=resources.max_concurrent,
        earlier=state.records,
        console=Console(stderr=to_stderr),
    )


def _bounds(plan: SearchPlan, started_s: float, *, max_concurrent: int) -> dict[str, Any]:
    """Where a searcher ends."""
    ends_s = None if plan.time_budget_s is None else started_s + plan.time_budget_s - closing_s(plan)
    return {
        "n_trials": plan.n_trials,
        "deadline_s": ends_s,
        "budget_s": plan.time_budget_s,
        "max_concurrent": max_concurrent,
    }


def _launch_params(space: SearchSpace, table: FaceTable, plan: SearchPlan, resources: Resources) -> dict[str, Any]:
    return {
        "space": space.name,
        "space_hash": space.content_hash(),
        "data": table.origin,
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
        with waiting("sending the last records to MLflow"):
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
