"""The bags of a final job: which configs they repeat, on which subsamples and seeds, and what came of them."""

import shutil
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from search.candidates import Candidate, load_candidate
from search.cluster import Resources, start_ray
from search.console import SearchConsole
from search.ensemble.bagging import BagOutcome, affordable_bags, deadlines, train_bags
from search.final_records import parent_key, run_key
from search.folder import SearchFolder, TrialRecord
from search.follow import resources_of
from search.gpu_sharing import share_gpus
from search.plan import EnsemblePlan
from search.tracking import Tracker
from spaces.config import TrialConfig
from trainables.data.table import FaceTable
from trainables.run import TrialOrder

LEAST_BAGS_S = 60.0
MAX_BAG_RATIO = 0.8
"""A bag of a config that trains on everything sees this share, so that bags differ."""


def bag_candidates(
    folder: SearchFolder,
    table: FaceTable,
    ranked: Sequence[TrialRecord],
    *,
    plan: EnsemblePlan,
    screen: SearchConsole,
    tracker: Tracker,
) -> list[Candidate]:
    """Train the bags of the best configs; those that were trained to their end.

    Args:
        folder: of the search.
        table: its face table.
        ranked: usable trials, the best first.
        plan: how many bags, of how many configs, in what time.
        screen: for a person.
        tracker: for MLflow.
    """
    if plan.n_bags == 0:
        return []
    start_ray(plan.address)
    first = _first_free_number(folder, tracker)
    parents = ranked[: plan.n_configs]
    configs = [TrialConfig.from_flat(parent.config) for parent in parents]
    resources = resources_of(plan, share_gpus(plan, configs, table.info))
    slots, time_s = resources.max_concurrent, plan.time_budget_s or LEAST_BAGS_S
    typical_s = max(parent.wall_s for parent in parents)
    n_bags = plan.n_bags or affordable_bags(slots=slots, time_budget_s=time_s, typical_s=typical_s)
    ends = deadlines(n_bags, slots=slots, time_budget_s=time_s)
    orders = [
        bag_order(
            parents[i % len(parents)], number=first + i, folder=folder, table=table, resources=resources,
            deadline_s=ends[i], seed=plan.seed,
        )
        for i in range(n_bags)
    ]  # fmt: skip
    for i, order in enumerate(orders):
        screen.trial_started(TrialRecord(order.trial_id, i, values={}, config=order.settings))
        key = run_key(order.trial_id, tracker)
        tags = {"affectune.kind": "bag", "affectune.config_of": parents[i % len(parents)].trial_id}
        name = f"{order.trial_id} of {parents[i % len(parents)].trial_id}"
        tracker.start_run(key, parent_key=parent_key(tracker), name=name, params=order.settings, tags=tags)

    try:
        outcomes = train_bags(orders, resources, on_epoch=partial(_note_epoch, screen=screen, tracker=tracker))
    except BaseException:
        for order in orders:
            tracker.end_run(run_key(order.trial_id, tracker), "preempted")
        raise
    found = []
    for order, outcome in zip(orders, outcomes, strict=True):
        _close_bag(outcome, screen, tracker)
        whole = outcome.end == "completed"
        candidate = load_candidate(order.trial_id, Path(order.folder), order.settings, is_complete=whole)
        if whole and candidate is not None:
            found.append(candidate)
    return found


def bag_order(
    record: TrialRecord,
    *,
    number: int,
    folder: SearchFolder,
    table: FaceTable,
    resources: Resources,
    deadline_s: float | None,
    seed: int,
) -> TrialOrder:
    """A trial's config once more, on another subsample with another seed."""
    config = TrialConfig.from_flat(record.config)
    ratio = min(config.data.subsample_ratio, MAX_BAG_RATIO)
    config = config.with_settings({"data.subsample_ratio": ratio, "train.seed": 1 + 1000 * (seed + 1) + number})
    bag_id, own = f"b{number:03d}", resources.of(config.to_flat())
    return TrialOrder(
        trial_id=bag_id,
        settings=config.to_flat(),
        table=str(table.path.absolute()),
        folder=str(folder.ensemble_dir / bag_id),
        device=own.device,
        n_threads=own.n_threads,
        n_workers=own.n_workers,
        deadline_s=deadline_s,
        gpu_share=own.gpu_share,
    )


def _first_free_number(folder: SearchFolder, tracker: Tracker) -> int:
    """Bags of an earlier final job stay until a new ensemble has taken the old one's place."""
    number = 0
    while (folder.ensemble_dir / f"b{number:03d}").exists() or tracker.is_known(run_key(f"b{number:03d}", tracker)):
        number += 1
    return number


def clear_bags(folder: SearchFolder, *, keep: Collection[str]) -> None:
    """Forget the bags of earlier final jobs, and those that failed."""
    for old in folder.ensemble_dir.glob("b[0-9]*"):
        if old.name not in keep:
            shutil.rmtree(old, ignore_errors=True)


def _note_epoch(bag_id: str, report: Mapping[str, Any], *, screen: SearchConsole, tracker: Tracker) -> None:
    screen.epoch(bag_id, report)
    key, step = run_key(bag_id, tracker), int(report["epoch"])
    if step > tracker.last_step(key):  # else it ran this epoch before its worker was lost
        tracker.log_epoch(key, {name: value for name, value in report.items() if name != "epoch"}, step=step)


def _close_bag(outcome: BagOutcome, screen: SearchConsole, tracker: Tracker) -> None:
    best = outcome.history[-1]["best/macro_f1"] if outcome.history else None
    screen.trial_ended(outcome.bag_id, outcome.end, best_macro_f1=best, error=outcome.error)
    key = run_key(outcome.bag_id, tracker)
    if best is not None:
        tracker.log_summary(key, {"best/macro_f1": best})
    tracker.end_run(key, outcome.end, note=outcome.error)
