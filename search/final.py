"""The final job: bags of the best configs, a selection among bags and trials, and an honest comparison."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from rich.console import Console

from search.bags import LEAST_BAGS_S, bag_candidates, clear_bags
from search.candidates import Candidate, stack_probs, trial_candidates
from search.comparison import compare
from search.console import SearchConsole
from search.ensemble import selection_or_average
from search.final_records import ensemble_document, free_key, summary_document, track_ensemble
from search.folder import SearchFolder
from search.plan import EnsemblePlan
from search.prelaunch import open_same_table
from search.recorder import usable
from search.tracking import Tracker
from spaces.errors import SearchError
from trainables.metrics import macro_f1


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
        bags = bag_candidates(folder, table, ranked, plan=plan, screen=screen, tracker=tracker)
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
        clear_bags(folder, keep={candidate.key for candidate in candidates})
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


def _stored_macro_f1(candidate: Candidate) -> float:
    scores = candidate.scores
    return macro_f1(scores.labels, scores.logits.argmax(axis=1), len(scores.classes))
