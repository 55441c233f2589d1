"""The final job: bags of the best configs, a choice among bags and trials, and what to expect of it."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from rich.console import Console

from search.bags import LEAST_BAGS_S, bag_candidates, clear_bags, settle_bags
from search.candidate_library import make_library
from search.candidates import Candidate, trial_candidates, unreadable_trials
from search.comparison import (
    Choice,
    add_test_scores,
    choose_ensemble,
    on_joined_faces,
    on_other_faces,
    towards_average,
)
from search.console import SearchConsole
from search.ensemble.model_library import make_kind
from search.final_records import Finished, ensemble_document, free_key, summary_document, track_ensemble
from search.folder import DEFAULT_TRIAL, SearchFolder
from search.options import list_options
from search.other_faces import OtherFaces, probs_on_others, read_other_faces
from search.people import score_people
from search.plan import EnsemblePlan
from search.prelaunch import open_same_table
from search.progress import Told, progress_bars, waiting
from search.ranking import usable
from search.shortlist import notes_on_faces, notes_on_scores, shortlist
from search.soup import clear_soups, make_soups
from search.state import settle_runs
from search.tracking import Tracker
from search.tracking_records import describe_table
from spaces.errors import SearchError
from trainables.data.table import FaceTable
from trainables.out_of_bag import out_of_bag


def build_ensemble(folder: SearchFolder, plan: EnsemblePlan, *, screen_to_stderr: bool = False) -> dict[str, Any]:
    """Train bags, choose members, estimate, and write ensemble.json and summary.json.

    Args:
        folder: of a search with at least one scored trial.
        plan: what to build.
        screen_to_stderr: where stdout is for the result alone.

    Returns:
        The summary.

    Raises:
        SearchError: the search has no scored trial, or its face table has changed since.
        DataError: the faces of another kind can't be used.
        EnsembleError: nothing is left that could vote.
    """
    started_s = time.time()
    folder.read_summary()  # one that is broken is to be known before the work, not after it
    manifest, records = folder.read_manifest(), folder.read_records()
    if plan.time_budget_s is None:
        plan = replace(plan, time_budget_s=max(LEAST_BAGS_S, manifest.wall_s))
    table = open_same_table(manifest)
    others = None if plan.also is None else read_other_faces(plan.also, table)
    ranked = usable(records)
    if not ranked:
        raise SearchError(f"search must have a scored trial, got {len(records)} without: {folder.path}")
    screen = SearchConsole(
        default=ranked[0].config,
        noun="bag",
        time_budget_s=plan.time_budget_s,
        console=Console(stderr=screen_to_stderr),
    )
    tracker = Tracker(
        manifest.tracking_uri,
        manifest.name,
        folder.tracking_dir,
        dataset=describe_table(table),
        on_trouble=screen.message,
    )
    try:
        settle_bags(folder, tracker)
        settle_runs(tracker, records)
        bags = bag_candidates(folder, table, ranked, plan=plan, screen=screen, tracker=tracker)
        screen.close()
        trials = trial_candidates(folder, records)
        found = _choose(folder, table, [*trials, *bags], plan=plan, others=others)
        found = replace(found, notes=[*unreadable_trials(folder, records, trials), *found.notes])
        for note in found.notes:
            screen.message(note)
        ensemble = ensemble_document(folder, found, plan=plan)
        ensemble["run_key"] = free_key("ensemble", tracker)
        folder.write_ensemble(ensemble)
        wall_s = manifest.wall_s + time.time() - started_s
        summary = summary_document(folder, manifest, records, ensemble, wall_s=wall_s)
        folder.write_summary(summary)
        keys = {candidate.key for candidate in found.candidates}
        clear_bags(folder, keep=keys)
        clear_soups(folder, keep=keys)
        track_ensemble(tracker, ensemble, folder, records)
    finally:
        screen.close()
        with waiting("sending the last records to MLflow"):
            tracker.close(timeout_s=30.0)
    return summary


def _choose(
    folder: SearchFolder,
    table: FaceTable,
    candidates: Sequence[Candidate],
    *,
    plan: EnsemblePlan,
    others: OtherFaces | None,
) -> Finished:
    """Who votes, what to expect of it, and what it costs."""
    with progress_bars() as told:
        listed, notes = shortlist(candidates, table)
        if plan.soup:
            listed += make_soups(folder, table, listed, seed=plan.seed, progress=told("cooking soups"))
        objective = None if plan.objective == "own" else plan.objective
        joined = []
        if others is not None and objective is not None:
            joined = [(others, probs_on_others(folder, listed, others, progress=told("asking about the other faces")))]
        library = make_library(listed, n_configs=plan.n_configs, others=joined, objective=objective)
        notes += notes_on_faces(library.kinds[0], table.info.classes)
        notes += notes_on_scores(listed, library.kinds[0].faces.macro_f1_alone().tolist(), DEFAULT_TRIAL)
        choice = choose_ensemble(
            library, max_members=plan.max_members, seed=plan.seed, told=told("cross-fitting the ways to choose")
        )
        told_of_others = None
        if others is not None:
            told_of_others = _score_others(folder, listed, choice, others, told=told, is_joined=bool(joined))
        n_test_rows = add_test_scores(choice, listed, table, told=told("the sealed test"))
        options = list_options(listed, library, choice, table, seed=plan.seed, told=told)
    return Finished(
        candidates=listed,
        choice=choice,
        curve=towards_average(library, choice),
        people=score_people(choice, library, _labelled_subjects(listed[0])),
        options=options,
        others=told_of_others,
        out_of_bag=out_of_bag([candidate.folder for candidate in listed if candidate.is_bag]),
        notes=notes,
        n_test_rows=n_test_rows,
    )


def _labelled_subjects(candidate: Candidate) -> list[str | None]:
    scores = candidate.scores
    return [name for name, label in zip(scores.subjects, scores.labels.tolist(), strict=True) if label >= 0]


def _score_others(
    folder: SearchFolder,
    candidates: Sequence[Candidate],
    choice: Choice,
    others: OtherFaces,
    *,
    told: Told,
    is_joined: bool,
) -> dict[str, Any]:
    """The rows on faces of another kind; but for the average of all, where those had no part in choosing."""
    facts = {"faces": others.name, "n": len(others.labels), "left_out": others.left_out, "is_joined": is_joined}
    if is_joined and choice.judgement is not None:
        return {**facts, **on_joined_faces(choice, 1)}
    rows = {row: weights for row, weights in choice.rows.items() if row != "uniform"}
    needed = np.flatnonzero(np.any([weights > 0 for weights in rows.values()], axis=0))
    voters = [candidates[index] for index in needed.tolist()]
    probs = probs_on_others(folder, voters, others, progress=told("asking about the other faces"))
    kind = make_kind(probs, others.labels, others.subjects)
    return {**facts, **on_other_faces(kind, {row: weights[needed] for row, weights in rows.items()})}
