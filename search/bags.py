"""The bags of a final job: which configs they repeat, on which subsamples and seeds, and what came of them."""

import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from search.bag_record import BagRecord, iter_bags, read_bag
from search.candidates import Candidate, late_epochs, load_candidate
from search.console import SearchConsole
from search.ensemble.bagging import BagJob, BagOutcome, affordable_bags, deadlines, scored_history, train_bags
from search.final_records import parent_key, run_key
from search.folder import SearchFolder, TrialRecord
from search.follow import resources_of
from search.gpu_sharing import share_gpus
from search.interrupts import gentle_signals
from search.lost_workers import Loss
from search.plan import EnsemblePlan
from search.ready_nodes import start_nodes
from search.resources import Resources
from search.state import epoch_metrics
from search.tracking import Tracker
from search.wanted_bags import wanted_bags
from spaces.config import TrialConfig
from trainables.data.table import FaceTable
from trainables.environment import read_environment
from trainables.run import TrialOrder
from trainables.shared_clock import clock_lead_s

LEAST_BAGS_S = 60.0


@dataclass(frozen=True)
class Place:
    """Where a wanted bag stands: its folder, None before it was begun, and its record there."""

    folder: Path | None
    record: BagRecord

    @property
    def is_over(self) -> bool:
        """Whether it is never trained again."""
        return self.folder is not None and self.record.end is not None


def bag_candidates(
    folder: SearchFolder,
    table: FaceTable,
    ranked: Sequence[TrialRecord],
    *,
    plan: EnsemblePlan,
    screen: SearchConsole,
    tracker: Tracker,
) -> list[Candidate]:
    """The bags of the best configs that came to their end. What is not there of them is trained.

    Args:
        folder: of the search.
        table: its face table.
        ranked: usable trials, the best first.
        plan: how many bags, of how many configs, in what time.
        screen: for a person.
        tracker: for MLflow.

    Returns:
        The first bags of all configs, the best config's first, then the second ones, and so on; each is followed by
        its late epochs.
    """
    wanted = wanted_bags(ranked, table.split("train"), plan=plan)
    there = list(iter_bags(folder.ensemble_dir))
    places = [find_bag(there, bag) for bag in wanted]
    missing = [number for number, place in enumerate(places) if not place.is_over]
    if missing:
        start_nodes(plan.address, folder, table)
        configs = [TrialConfig.from_flat(places[number].record.settings) for number in missing]
        resources = resources_of(plan, share_gpus(plan, configs, table.info))
        missing = missing[: _n_affordable(ranked, plan=plan, slots=resources.max_concurrent)]
    _say_what_is_there(places, n_trained=len(missing), screen=screen)
    if missing:
        ids = _free_ids(folder, tracker)
        for number in missing:
            place = places[number]
            places[number] = Place(place.folder or folder.ensemble_dir / next(ids), place.record)
        jobs = bag_jobs([places[number] for number in missing], plan=plan, table=table, resources=resources)
        _train(jobs, resources, screen=screen, tracker=tracker, silent_s=plan.silent_s)
    return [candidate for place in places for candidate in _load(place, n_snapshots=plan.n_snapshots)]


def find_bag(there: Sequence[tuple[Path, BagRecord]], wanted: BagRecord) -> Place:
    """Where a wanted bag stands: one that has ended goes before one that was begun; those that failed do not count.

    Args:
        there: folders and records of all bags of the search.
        wanted: by its settings.
    """
    alike = [Place(folder, record) for folder, record in there if record.serves(wanted)]
    usable = [place for place in alike if place.record.end != "failed" and not _is_broken(place)]
    return min(usable, key=lambda place: not place.is_over, default=Place(None, wanted))


def bag_jobs(places: Sequence[Place], *, plan: EnsemblePlan, table: FaceTable, resources: Resources) -> list[BagJob]:
    """What is to be done for bags, all waves of which have the same share of the time.

    Args:
        places: each with a folder.
        plan: its time is used.
        table: that they train on.
        resources: what each takes.
    """
    time_s = plan.time_budget_s or LEAST_BAGS_S
    ends = deadlines(len(places), slots=resources.max_concurrent, time_budget_s=time_s)
    jobs = []
    for place, deadline_s in zip(places, ends, strict=True):
        assert place.folder is not None
        own = resources.of(place.record.settings)
        order = TrialOrder(
            trial_id=place.folder.name,
            settings=place.record.settings,
            table=table.origin,
            content_hash=table.info.content_hash,
            environment=dict(read_environment()),
            folder=str(place.folder),
            device=own.device,
            n_threads=own.n_threads,
            n_workers=own.n_workers,
            deadline_s=deadline_s,
            gpu_share=own.gpu_share,
            asks_unseen=True,
            silent_s=plan.silent_s,
            clock_lead_s=clock_lead_s(place.folder),
        )
        jobs.append(BagJob(order, place.record))
    return jobs


def clear_bags(folder: SearchFolder, *, keep: Collection[str] = ()) -> None:
    """Forget the bags that failed. All others stay: a later final job may want them.

    Args:
        folder: of the search.
        keep: names of bags that stay whatever became of them.
    """
    for place, record in iter_bags(folder.ensemble_dir):
        if record.end == "failed" and place.name not in keep:
            shutil.rmtree(place, ignore_errors=True)


def settle_bags(folder: SearchFolder, tracker: Tracker) -> None:
    """Let MLflow know what it missed of bags whose job was killed, and close what that left open of them."""
    records = dict(iter_bags(folder.ensemble_dir))
    for key in tracker.unfinished():
        place = folder.ensemble_dir / key.rpartition("/")[2]
        if place in records:
            _settle_bag(key, place, tracker)


def _settle_bag(key: str, folder: Path, tracker: Tracker) -> None:
    record = read_bag(folder)
    end, error = (None, "") if record is None else (record.end, record.error)
    _track_history(key, folder, tracker)
    tracker.end_run(key, end or "preempted", note=error)


def _is_broken(place: Place) -> bool:
    """Whether a bag came to its end, but lacks what it left."""
    return place.record.end == "completed" and not _load(place, n_snapshots=0)


def _load(place: Place, *, n_snapshots: int) -> list[Candidate]:
    """A bag as a candidate, and its latest epochs, so many at most; nothing of one that did not come to its end."""
    record = None if place.folder is None else read_bag(place.folder)
    if place.folder is None or record is None or record.end != "completed":
        return []
    candidate = load_candidate(place.folder.name, place.folder, record.settings, is_complete=True)
    if candidate is None:
        return []
    late = late_epochs(candidate)
    return [candidate, *late[max(len(late) - n_snapshots, 0) :]]


def _n_affordable(ranked: Sequence[TrialRecord], *, plan: EnsemblePlan, slots: int) -> int | None:
    """How many of the missing bags are trained; all where the user named a number."""
    if plan.n_bags is not None:
        return None
    typical_s = max(record.wall_s for record in ranked[: plan.n_configs])
    return affordable_bags(slots=slots, time_budget_s=plan.time_budget_s or LEAST_BAGS_S, typical_s=typical_s)


def _say_what_is_there(places: Sequence[Place], *, n_trained: int, screen: SearchConsole) -> None:
    n_over = sum(place.is_over for place in places)
    n_begun = sum(place.folder is not None for place in places) - n_over
    if n_over or n_begun:
        screen.message(f"bags: {n_over} there already, {n_begun} to go on with, {n_trained} in training now")


def _free_ids(folder: SearchFolder, tracker: Tracker) -> Iterator[str]:
    """Names that no bag has had, on disk or in MLflow."""
    for number in count():
        bag_id = f"b{number:03d}"
        if not (folder.ensemble_dir / bag_id).exists() and not tracker.is_known(run_key(bag_id, tracker)):
            yield bag_id


def _train(
    jobs: Sequence[BagJob], resources: Resources, *, screen: SearchConsole, tracker: Tracker, silent_s: float
) -> None:
    """Train bags; those that this is interrupted in are preempted."""
    screen.expect(len(jobs))
    still_open: dict[str, Path] = {}

    def note_start(job: BagJob) -> None:
        still_open[job.bag_id] = job.folder
        _open_bag(job, screen, tracker)

    def note_epoch(bag_id: str, report: Mapping[str, Any]) -> None:
        screen.epoch(bag_id, report)
        _track_epoch(run_key(bag_id, tracker), report, tracker)

    def note_end(outcome: BagOutcome) -> None:
        del still_open[outcome.bag_id]
        _close_bag(outcome, screen, tracker)

    def note_loss(bag_id: str, loss: Loss) -> None:
        screen.message(f"{bag_id} lost its worker: {loss.words}; it goes on in another one")

    try:
        with gentle_signals():
            train_bags(
                jobs,
                resources,
                on_start=note_start,
                on_epoch=note_epoch,
                on_end=note_end,
                on_loss=note_loss,
                silent_s=silent_s,
            )
    finally:
        for bag_id in sorted(still_open):
            _settle_bag(run_key(bag_id, tracker), still_open[bag_id], tracker)


def _open_bag(job: BagJob, screen: SearchConsole, tracker: Tracker) -> None:
    """Show a bag, and open its run in MLflow, with the epochs that an earlier job ran of it."""
    screen.trial_started(TrialRecord(job.bag_id, job.record.number, values={}, config=job.order.settings))
    tracker.start_run(
        run_key(job.bag_id, tracker),
        parent_key=parent_key(tracker),
        name=f"{job.bag_id} of {job.record.trial_id}",
        params=job.order.settings,
        tags={"affectune.kind": "bag", "affectune.config_of": job.record.trial_id},
    )
    _track_history(run_key(job.bag_id, tracker), job.folder, tracker)


def _track_history(key: str, folder: Path, tracker: Tracker) -> None:
    for report in scored_history(folder):
        _track_epoch(key, report, tracker)


def _track_epoch(key: str, report: Mapping[str, Any], tracker: Tracker) -> None:
    step = int(report["epoch"])
    if step > tracker.last_step(key):  # else it ran this epoch before its worker was lost
        tracker.log_epoch(key, epoch_metrics(report), step=step)


def _close_bag(outcome: BagOutcome, screen: SearchConsole, tracker: Tracker) -> None:
    best = outcome.history[-1]["best/macro_f1"] if outcome.history else None
    screen.trial_ended(outcome.bag_id, outcome.end, best_macro_f1=best, error=outcome.error)
    tracker.end_run(run_key(outcome.bag_id, tracker), outcome.end, note=outcome.error)
