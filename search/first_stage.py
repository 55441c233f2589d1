"""The stage before a search, in which heads alone are trained: a search of its own beside it, begun or gone on with."""

import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import ray
from ray.exceptions import RayError
from rich.console import Console

from search.closing import close_books, is_complete
from search.fidelity import Fidelity, in_words, measure_fidelity, to_document
from search.first import (
    HEAD_ONLY,
    TIME_SHARE,
    First,
    HandedOver,
    choose_points,
    heads_space,
    parse_first,
    read_handed,
    with_points,
    write_handed,
)
from search.folder import MANIFEST_FILE, SPACE_FILE, SearchFolder, SearchManifest, TrialRecord
from search.folder_lock import only_driver
from search.follow import FIDELITY_S, SearchOutcome, follow
from search.plan import SearchPlan
from search.ranking import usable
from search.resources import Resources
from search.state import load_state
from search.storage import create_folder
from search.study_journal import scores_of
from search.tracking import Tracker
from spaces.config import TrialConfig
from spaces.errors import ConfigError, SearchError
from spaces.space import SearchSpace
from trainables.data.table import FaceTable
from trainables.heads import why_not_packable
from trainables.heads.pack_run import PackedTrial, PackOrder, score_pack
from trainables.outputs import write_text
from trainables.shared_clock import clock_lead_s

UNHURRIED_S = 300.0
ANSWER_S = 3.0
"""Of the time to ask heads about full trials, what is kept for telling what they scored."""
TWINS_DIR = "twins"
"""Where heads that are asked about full trials write their scores, for as long as that takes."""


def run_first(
    folder: SearchFolder,
    space: SearchSpace,
    table: FaceTable,
    *,
    plan: SearchPlan,
    resources: Resources,
    screen_to_stderr: bool = False,
) -> tuple[SearchOutcome | None, SearchSpace]:
    """Train heads alone, unless that is done, and hand their best settings over as the space's first points.

    Args:
        folder: of the full search; it is held, and has its manifest.
        space: as it was launched; where it has the points already they are not added twice.
        table: the face table.
        plan: of the full search; `first` says how many heads.
        resources: of one trial.
        screen_to_stderr: where stdout is for the result alone.

    Returns:
        an outcome without trials where the stage was interrupted, else None; and the space with its new points.

    Raises:
        SearchError: no head could be scored, and not for lack of time; another search has the heads' name.
    """
    handed = read_handed(folder)
    if handed is None:
        console = Console(stderr=screen_to_stderr, highlight=False, soft_wrap=True)
        first, heads = parse_first(plan.first), heads_space(space)
        console.print(f"first, {first.n_trials} heads on frozen backbones: search {folder.heads.name}", markup=False)
        outcome = _run_heads(
            folder, heads, table, plan=_heads_plan(plan, first), resources=resources, screen_to_stderr=screen_to_stderr
        )
        if outcome.interrupted:
            return _interrupted(folder), space
        handed = replace(choose_points(space, heads, outcome.records, n=first.n_handed), search=outcome.folder.name)
        write_handed(folder, handed)
        console.print(_told(handed, outcome.records), markup=False)
    space = with_points(space, handed)
    write_text(folder.path / SPACE_FILE, space.to_yaml())
    return None, space


def measure_first(
    outcome: SearchOutcome, table: FaceTable, *, resources: Resources, screen_to_stderr: bool = False
) -> None:
    """After the full search: ask heads about every full trial, and say and keep how far the two agree.

    A head with a trial's settings is trained on the frozen backbone; its embeddings are cached already. What can't be
    had in time is left out: it is a report, and no trial depends on it.
    """
    folder, handed = outcome.folder, read_handed(outcome.folder)
    if handed is None or outcome.interrupted:
        return
    console = Console(stderr=screen_to_stderr, highlight=False, soft_wrap=True)
    scored = [record for record in outcome.records if scores_of(record)]
    is_in_a_hurry = folder.read_manifest().time_budget_s is not None
    limit_s = FIDELITY_S if is_in_a_hurry else UNHURRIED_S
    twins = _twins(scored, folder)
    heads = _ask_heads(twins, table, folder, resources, limit_s=limit_s) if twins else {}
    found = measure_fidelity(scored, heads)
    fidelity = to_document(found) or handed.fidelity
    write_handed(folder, replace(handed, fidelity=fidelity, n_asked=len(outcome.records)))
    if not found:
        why = "no head was scored in time" if twins else "no full trial can be trained as a head alone"
        console.print(f"whether heads told the truth: not measured, {why}", markup=False)
        return
    console.print("whether heads told the truth (rank correlation with full training):")
    for line in in_words(found):
        console.print(f"  {line}", markup=False)
    _track(folder, found)


def is_unmeasured(folder: SearchFolder, records: Sequence[TrialRecord]) -> bool:
    """Whether all trials of a full search have ended, and heads went before it and were not yet asked about them."""
    handed = read_handed(folder)
    return handed is not None and handed.n_asked < len(records) and all(record.end for record in records)


def _twins(records: Sequence[TrialRecord], folder: SearchFolder) -> list[PackedTrial]:
    """Heads with the settings of full trials; none for what can't be trained as a head beside others."""
    twins = []
    for record in records:
        settings = {**record.config, **HEAD_ONLY}
        with suppress(ConfigError):  # a full trial may hold what makes no sense for a head
            if why_not_packable(TrialConfig.from_flat(settings)) == "":
                twins.append(PackedTrial(record.trial_id, settings, str(folder.path / TWINS_DIR / record.trial_id)))
    return twins


def _ask_heads(
    twins: Sequence[PackedTrial],
    table: FaceTable,
    folder: SearchFolder,
    resources: Resources,
    *,
    limit_s: float,
) -> dict[str, float]:
    """Macro-F1 of a head with each trial's settings, by trial; those that were there in time."""
    order = _order(twins, table, resources, deadline_s=time.time() + limit_s - ANSWER_S)
    task = ray.remote(**resources.of_task())(score_pack).remote(order.to_dict())
    try:
        scores: dict[str, float] = ray.get(task, timeout=limit_s)
    except RayError:  # too late, or lost
        ray.cancel(task, force=True)
        return {}
    finally:
        shutil.rmtree(folder.path / TWINS_DIR, ignore_errors=True)
    return scores


def _order(twins: Sequence[PackedTrial], table: FaceTable, resources: Resources, *, deadline_s: float) -> PackOrder:
    return PackOrder(
        pack_id=TWINS_DIR,
        trials=tuple(twins),
        table=table.origin,
        content_hash=table.info.content_hash,
        device=resources.device,
        n_threads=resources.n_threads,
        keep_weights=0,
        deadline_s=deadline_s,
        clock_lead_s=clock_lead_s(Path(twins[0].folder)),
    )


def _track(folder: SearchFolder, found: Mapping[str, Fidelity]) -> None:
    """The correlations stand with the launch's run in MLflow."""
    manifest = folder.read_manifest()
    tracker = Tracker(manifest.tracking_uri, folder.name, folder.tracking_dir)
    key = tracker.launch_key
    known = {name: one.rank_correlation for name, one in found.items() if one.rank_correlation is not None}
    if key and known:
        tracker.log_summary(key, {f"first/rank_correlation/{name}": value for name, value in known.items()})
    tracker.close(timeout_s=10.0)


def _run_heads(
    folder: SearchFolder,
    heads: SearchSpace,
    table: FaceTable,
    *,
    plan: SearchPlan,
    resources: Resources,
    screen_to_stderr: bool,
) -> SearchOutcome:
    """The head-only search, from where it stands; without trials that were scored where it had no time for any."""
    full, begun = folder.read_manifest(), (folder.heads.path / MANIFEST_FILE).exists()
    own = folder.heads if begun else create_folder(folder.path.parent, folder.heads.name)
    with only_driver(own):
        if begun:
            _check_same(own, heads, full)
            own.update_manifest(tracking_uri=full.tracking_uri)
        state = load_state(own, heads, seed=full.seed)
        if begun and is_complete(state, plan.n_trials):
            close_books(own, state)
            return SearchOutcome(folder=own, records=list(state.records), interrupted=False)
        if begun:
            _note_next_launch(own, plan)
        else:
            _note_first_launch(own, heads, plan, full)
        try:
            return follow(state, own, table, plan=plan, resources=resources, screen_to_stderr=screen_to_stderr)
        except SearchError:
            records = own.read_records()
            if not _had_no_time(own.read_manifest(), records):
                raise
            return SearchOutcome(folder=own, records=records, interrupted=False)


def _check_same(own: SearchFolder, heads: SearchSpace, full: SearchManifest) -> None:
    """Refuse heads that are not those of the full search, from which its points would be wrong. Raises SearchError."""
    before = own.read_manifest()
    different = {
        "face table": before.content_hash != full.content_hash,
        "space": own.read_space().content_hash() != heads.content_hash(),
        "seed": before.seed != full.seed,
    }
    if any(different.values()):
        what = " and ".join(name for name, differs in different.items() if differs)
        raise SearchError(
            f"search {own.name!r} must be of the heads of {full.name!r}, got another {what}: {own.path}; "
            "move it elsewhere, and resume"
        )


def _note_first_launch(own: SearchFolder, heads: SearchSpace, plan: SearchPlan, full: SearchManifest) -> None:
    write_text(own.path / SPACE_FILE, heads.to_yaml())
    own.write_manifest(
        SearchManifest(
            name=own.name,
            data=full.data,
            content_hash=full.content_hash,
            classes=full.classes,
            seed=full.seed,
            n_trials=plan.n_trials,
            time_budget_s=plan.time_budget_s,
            tracking_uri=full.tracking_uri,
            launched_s=time.time(),
            plan=asdict(plan),
        )
    )


def _note_next_launch(own: SearchFolder, plan: SearchPlan) -> None:
    own.update_manifest(
        status="running",
        time_budget_s=plan.time_budget_s,
        wall_s=own.spent_s(),
        launched_s=time.time(),
        n_launches=own.read_manifest().n_launches + 1,
    )


def _had_no_time(manifest: SearchManifest, records: Sequence[TrialRecord]) -> bool:
    """Whether a search that ended without a score was only too short for one."""
    ended = manifest.status == "ended" and manifest.time_budget_s is not None
    return ended and not _came_to_grief(records)


def _came_to_grief(records: Sequence[TrialRecord]) -> bool:
    return any(record.end in ("diverged", "failed") for record in records)


def _heads_plan(plan: SearchPlan, first: First) -> SearchPlan:
    budget_s = None if plan.time_budget_s is None else TIME_SHARE * plan.time_budget_s
    return replace(plan, n_trials=first.n_trials, time_budget_s=budget_s, first="")


def _interrupted(folder: SearchFolder) -> SearchOutcome:
    manifest = folder.read_manifest()
    folder.update_manifest(status="interrupted", wall_s=manifest.wall_s + time.time() - manifest.launched_s)
    return SearchOutcome(folder=folder, records=[], interrupted=True)


def _told(handed: HandedOver, records: Sequence[TrialRecord]) -> str:
    if not usable(records):
        why = "failed or diverged" if _came_to_grief(records) else "had too little time"
        return f"heads {why}: nothing is handed over"
    if not handed.points:
        return "heads found nothing beyond the default to hand over"
    named = ", ".join(f"{point['trial']} {point['macro_f1']:.4f}" for point in handed.points)
    return f"handed over to full training, best head of each backbone first: {named}"
