"""A search goes on: after a crash, a Ctrl-C or a kill at any moment, or with more trials than were asked for first.

The folder of the search is the truth. Trials that did not end go on from their checkpoints, the sampler and the
scheduler learn again what they knew, and then new trials follow.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from search.closing import close_books, is_complete
from search.first_stage import is_unmeasured, measure_first, run_first
from search.folder import SearchFolder, SearchManifest
from search.folder_lock import only_driver
from search.follow import CLOSING_S, SearchOutcome, closing_s, follow, resources_of
from search.gpu_sharing import share_gpus
from search.plan import SearchPlan
from search.prelaunch import check_launch, iter_representatives, open_same_table
from search.privacy import take_login
from search.ready_nodes import start_nodes
from search.space_change import take_space, unchanged_space
from search.state import SearchState, load_state
from search.storage import open_folder
from search.tracking_server import check_server
from spaces.errors import UsageError
from spaces.space import SearchSpace
from trainables.data.table import FaceTable


@dataclass(frozen=True)
class More:
    """What a resumed search is asked for; without any, what it was asked for first.

    Attributes:
        n_trials: in all.
        n_more: beyond those asked for before.
        time_budget_s: from now.
    """

    n_trials: int | None = None
    n_more: int | None = None
    time_budget_s: float | None = None


def resume_search(
    storage: Path,
    name: str,
    more: More | None = None,
    *,
    space: SearchSpace | None = None,
    tracking_uri: str | None = None,
    resources: Mapping[str, Any] | None = None,
    screen_to_stderr: bool = False,
) -> SearchOutcome:
    """Go on with a search.

    Args:
        storage: where it is kept.
        name: its name.
        more: trials or time.
        space: another one that is searched from now on; as it was if None.
        tracking_uri: of MLflow, if it is another now.
        resources: fields of SearchPlan that are to be others now; None leaves one as it was.
        screen_to_stderr: where stdout is for the result alone.

    Raises:
        SearchError: there is no such search, another command works on it, its face table has changed, no trial could
            be scored.
        SpaceError: a trial so far is no point of the other space; space.yaml was changed, and no other space is given.
        UsageError: nothing is left of its time and no more is asked for.
        DeviceError: as for a new search.
        TrackingError: another tracking server is named, which does not answer, or the SQLite file can't be written.
    """
    folder, more = open_folder(storage, name), more or More()
    launched_s = time.time()
    with only_driver(folder):
        manifest = folder.read_manifest()
        table = open_same_table(manifest)
        manifest, space = _settle_space(folder, manifest, table, asked=space, to_stderr=screen_to_stderr)
        manifest = replace(manifest, tracking_uri=take_login(tracking_uri or manifest.tracking_uri))
        state = load_state(folder, space, seed=manifest.seed)
        n_trials = total_trials(manifest, more, n_begun=len(state.records))
        spent_s = folder.spent_s()
        plan = _plan_of(manifest, resources or {})
        is_owed = is_unmeasured(folder, state.records)
        if is_complete(state, n_trials) or (is_owed and is_time_up(manifest, more, spent_s=spent_s)):
            folder.update_manifest(tracking_uri=manifest.tracking_uri)
            outcome = _finish(folder, state, n_trials=n_trials)
            if is_owed:
                start_nodes(plan.address, folder, table)
                measure_first(outcome, table, resources=resources_of(plan), screen_to_stderr=screen_to_stderr)
            return outcome
        time_budget_s = time_left(manifest, more, spent_s=spent_s)
        if tracking_uri or manifest.tracking_uri.startswith("sqlite:"):
            check_server(manifest.tracking_uri)  # of a server that has been used, the tracker says that it is away
        check_launch(space, table)
        plan = replace(plan, n_trials=n_trials, time_budget_s=time_budget_s)
        start_nodes(plan.address, folder, table)
        available = resources_of(plan, share_gpus(plan, iter_representatives(space), table.info))
        total_s = None if time_budget_s is None else spent_s + time_budget_s
        folder.write_manifest(
            replace(
                manifest,
                status="running",
                n_trials=n_trials,
                time_budget_s=total_s,
                wall_s=spent_s,
                launched_s=launched_s,
                n_launches=manifest.n_launches + 1,
                plan=asdict(plan),
            )
        )
        if plan.first:
            stopped, space = run_first(
                folder, space, table, plan=plan, resources=available.whole(), screen_to_stderr=screen_to_stderr
            )
            if stopped is not None:
                return stopped
            state = load_state(folder, space, seed=manifest.seed)
        outcome = follow(state, folder, table, plan=plan, resources=available, screen_to_stderr=screen_to_stderr)
        if plan.first:
            measure_first(outcome, table, resources=available.whole(), screen_to_stderr=screen_to_stderr)
        return outcome


def _settle_space(
    folder: SearchFolder, manifest: SearchManifest, table: FaceTable, *, asked: SearchSpace | None, to_stderr: bool
) -> tuple[SearchManifest, SearchSpace]:
    """The space that is searched from now on, as it was or another one, and the manifest that knows it."""
    if asked is None:
        return manifest, unchanged_space(folder, manifest)
    check_launch(asked, table)
    manifest, said = take_space(folder, manifest, asked)
    Console(stderr=to_stderr, highlight=False, soft_wrap=True).print(said, markup=False)
    return manifest, asked


def total_trials(manifest: SearchManifest, more: More, *, n_begun: int) -> int | None:
    """How many trials the search shall have in all; None where time alone bounds it. Never fewer than were begun."""
    if more.n_more is not None:
        return (manifest.n_trials if manifest.n_trials is not None else n_begun) + more.n_more
    asked = more.n_trials if more.n_trials is not None else manifest.n_trials
    return None if asked is None else max(asked, n_begun)


def time_left(manifest: SearchManifest, more: More, *, spent_s: float) -> float | None:
    """Seconds that the launch may take: those asked for now, or else what is left; None where trials are asked for.

    Raises:
        UsageError: nothing is left, and nothing more is asked for.
    """
    if more != More() or manifest.time_budget_s is None:
        return more.time_budget_s
    left_s = manifest.time_budget_s - spent_s
    if is_time_up(manifest, more, spent_s=spent_s):
        raise UsageError(
            f"search {manifest.name!r} must have time left, got {max(0.0, left_s):.0f} s of its "
            f"{manifest.time_budget_s:.0f}; give --trials or --time-budget"
        )
    return left_s


def is_time_up(manifest: SearchManifest, more: More, *, spent_s: float) -> bool:
    """Whether too little is left of a search's time to begin a trial, and nothing more is asked for."""
    if more != More() or manifest.time_budget_s is None:
        return False
    return manifest.time_budget_s - spent_s <= CLOSING_S + closing_s(_plan_of(manifest, {}))


def _plan_of(manifest: SearchManifest, resources: Mapping[str, Any]) -> SearchPlan:
    """The plan as it was, but for resources that are others now."""
    known = {field.name for field in fields(SearchPlan)}
    before = {name: value for name, value in manifest.plan.items() if name in known}
    changed = {name: value for name, value in resources.items() if value is not None}
    return SearchPlan(**{**before, **changed, "seed": manifest.seed})


def _finish(folder: SearchFolder, state: SearchState, *, n_trials: int | None) -> SearchOutcome:
    """No trial is to begin: close what a killed driver left open; else leave everything as it is."""
    close_books(folder, state)
    has = "has all its" if is_complete(state, n_trials) else "had time for"
    note = f"search {folder.name!r} {has} {len(state.records)} trials; --trials +N asks for more"
    return SearchOutcome(folder=folder, records=list(state.records), interrupted=False, note=note)
