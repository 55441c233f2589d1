"""The final job: bags of the best configs, a selection among bags and trials, and an honest comparison."""

import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from search.candidates import Candidate, load_candidate, stack_probs, trial_candidates
from search.cluster import Resources, start_ray
from search.comparison import compare
from search.console import SearchConsole
from search.ensemble import selection_or_average
from search.ensemble.bagging import BagOutcome, affordable_bags, deadlines, train_bags
from search.final_records import ensemble_document, free_key, parent_key, run_key, summary_document, track_ensemble
from search.folder import SearchFolder, TrialRecord
from search.follow import resources_of
from search.gpu_sharing import share_gpus
from search.plan import EnsemblePlan
from search.prelaunch import open_same_table
from search.recorder import usable
from search.tracking import Tracker
from spaces.config import TrialConfig
from spaces.errors import SearchError
from trainables.data.table import FaceTable
from trainables.metrics import macro_f1
from trainables.run import TrialOrder

LEAST_BAGS_S = 60.0
MAX_BAG_RATIO = 0.8
"""A bag of a config that trains on everything sees this share, so that bags differ."""


def build_ensemble(folder: SearchFolder, plan: EnsemblePlan, *, screen_to_stderr: bool = False) -> dict[str, Any]:
    """Train bags, select members, compare, and write ensemble.json and summary.json.

    Args:
        folder: of a search with at least one scored trial.
        plan: what to build.
        screen_to_stderr: where stdout is for the result alone.

    Returns:
        The summary.

    Raises:
        SearchError: the search has no scored trial, or its face table has changed since.
        EnsembleError: nothing is left that could vote.
    """
    started_s = time.time()
    manifest, records = folder.read_manifest(), folder.read_records()
    if plan.time_budget_s is None:
        plan = replace(plan, time_budget_s=max(LEAST_BAGS_S, manifest.wall_s))
    table = open_same_table(manifest)
    ranked = usable(records)
    if not ranked:
        raise SearchError(f"search must have a scored trial, got {len(records)} without: {folder.path}")
    screen = SearchConsole(
        default=ranked[0].config,
        noun="bag",
        n_trials=plan.n_bags or None,
        time_budget_s=plan.time_budget_s,
        console=Console(stderr=screen_to_stderr),
    )
    tracker = Tracker(manifest.tracking_uri, manifest.name, folder.tracking_dir, on_trouble=screen.message)
    try:
        bags = _train_bags(folder, table, ranked, plan=plan, screen=screen, tracker=tracker)
        screen.close()
        candidates = [*trial_candidates(folder, records), *bags]
        members = select_members(candidates, max_members=plan.max_members, seed=plan.seed)
        comparison = compare(
            candidates, members, table, best_trial=best_trial(candidates), max_members=plan.max_members, seed=plan.seed
        )
        ensemble = ensemble_document(folder, candidates, members, comparison=comparison, plan=plan)
        ensemble["run_key"] = free_key("ensemble", tracker)
        folder.write_ensemble(ensemble)
        summary = summary_document(
            folder, manifest, records, ensemble, wall_s=manifest.wall_s + time.time() - started_s
        )
        folder.write_summary(summary)
        _clear_bags(folder, keep={candidate.key for candidate in candidates})
        track_ensemble(tracker, ensemble, folder, records)
    finally:
        screen.close()
        tracker.close(timeout_s=30.0)
    return summary


def select_members(candidates: Sequence[Candidate], *, max_members: int, seed: int) -> dict[str, float]:
    """Weights by candidate, chosen on the valid split: a bagged selection, or the plain average if that is as good.

    Raises:
        EnsembleError: there is no candidate.
    """
    chosen = selection_or_average(
        stack_probs(candidates),
        candidates[0].scores.labels,
        averageable=np.array([candidate.is_complete for candidate in candidates]),
        max_members=max_members,
        seed=seed,
    )
    weights = chosen.weights.tolist()
    return {candidate.key: w for candidate, w in zip(candidates, weights, strict=True) if w > 0}


def best_trial(candidates: Sequence[Candidate]) -> str:
    """The trial whose stored scores are the best; empty where bags alone are left.

    A trial that was interrupted may have stored an epoch that its record had not heard of.
    """
    trials = [candidate for candidate in candidates if candidate.key.startswith("t")]
    return max(trials, key=_stored_macro_f1).key if trials else ""


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


def _train_bags(
    folder: SearchFolder,
    table: FaceTable,
    ranked: Sequence[TrialRecord],
    *,
    plan: EnsemblePlan,
    screen: SearchConsole,
    tracker: Tracker,
) -> list[Candidate]:
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


def _stored_macro_f1(candidate: Candidate) -> float:
    scores = candidate.scores
    return macro_f1(scores.labels, scores.logits.argmax(axis=1), len(scores.classes))


def _first_free_number(folder: SearchFolder, tracker: Tracker) -> int:
    """Bags of an earlier final job stay until a new ensemble has taken the old one's place."""
    number = 0
    while (folder.ensemble_dir / f"b{number:03d}").exists() or tracker.is_known(run_key(f"b{number:03d}", tracker)):
        number += 1
    return number


def _clear_bags(folder: SearchFolder, *, keep: Collection[str]) -> None:
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
