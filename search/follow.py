"""A search from where it stands to its end: start workers, follow the trials, close the books."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from search.driving import Drive, Work, build_scheduler, drive_packs, drive_trials, run_drive
from search.folder import SearchFolder, TrialRecord
from search.gpu_sharing import GpuSharing
from search.launch_books import LaunchBooks
from search.plan import EnsemblePlan, SearchPlan
from search.ranking import count_ends, usable
from search.resources import Resources, plan_resources
from search.state import SearchState
from spaces.errors import SearchError
from trainables.data.table import FaceTable
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
    books = LaunchBooks(state, folder, table, plan=plan, resources=resources, screen_to_stderr=screen_to_stderr)
    bounds = _bounds(plan, manifest.launched_s, max_concurrent=resources.max_concurrent)
    interrupted = True
    try:
        books.open_pages()
        drive = _drive(state, books, folder, table, plan=plan, resources=resources, bounds=bounds, worker=worker)
        run_drive(drive, folder, resources=resources, n_launches=manifest.n_launches)
        interrupted = not drive.searcher.is_through
        books.publish_best_packed()
    finally:
        stopping = books.close(interrupted=interrupted)
    records = list(books.recorder.records.values())
    if not interrupted and not usable(records):
        raise SearchError(_why_nothing(records, folder))
    books.say_stopping(stopping)
    return SearchOutcome(folder=folder, records=records, interrupted=interrupted)


def closing_s(plan: SearchPlan) -> float:
    """Seconds kept from a time budget, in which no trial may run."""
    return CLOSING_S + (FIDELITY_S if plan.first else 0.0)


def _drive(
    state: SearchState,
    books: LaunchBooks,
    folder: SearchFolder,
    table: FaceTable,
    *,
    plan: SearchPlan,
    resources: Resources,
    bounds: dict[str, Any],
    worker: type[Trial],
) -> Drive:
    """What Ray Tune is given: packs of heads, or trials one at a time."""
    work = Work(
        folder,
        table,
        resources,
        books.recorder,
        ends_s=bounds["deadline_s"],
        silent_s=plan.silent_s,
        clock_lead_s=clock_lead_s(folder.path),
        say=books.screen.message,
    )
    journal, keep_weights = books.journal, plan.keep_weights
    if books.is_in_packs:
        return drive_packs(state, journal, work, runs=books.pack_runs, bounds=bounds, keep_weights=keep_weights)
    scheduler = build_scheduler(state.sampler.space, table, plan, state.records)
    return drive_trials(state, journal, work, worker=worker, scheduler=scheduler, bounds=bounds)


def _bounds(plan: SearchPlan, started_s: float, *, max_concurrent: int) -> dict[str, Any]:
    """Where a searcher ends."""
    ends_s = None if plan.time_budget_s is None else started_s + plan.time_budget_s - closing_s(plan)
    return {
        "n_trials": plan.n_trials,
        "deadline_s": ends_s,
        "budget_s": plan.time_budget_s,
        "max_concurrent": max_concurrent,
    }


def _why_nothing(records: list[TrialRecord], folder: SearchFolder) -> str:
    errors = Counter(record.error for record in records if record.error)
    if errors:
        error, n_same = errors.most_common(1)[0]
        return f"no trial could be scored, {errors.total()} failed, {n_same} of them with: {error}: {folder.path}"
    n_diverged = count_ends(records)["diverged"]
    if n_diverged:
        return f"no trial could be scored, {n_diverged} diverged: {folder.path}; try lower learning rates"
    return f"no trial was scored before the search ended: {folder.path}; give it more time"
