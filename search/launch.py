"""A search from its words to its first trial: check, open the folder, write down what was asked, follow it."""

import time
from dataclasses import asdict, replace
from pathlib import Path

from search.first import check_first, check_heads_folder
from search.first_stage import measure_first, run_first
from search.folder import SPACE_FILE, SearchManifest
from search.folder_lock import only_driver
from search.follow import SearchOutcome, follow, resources_of
from search.gpu_sharing import share_gpus
from search.named_table import open_named_table
from search.packs.space import check_heads_space
from search.plan import DEFAULT_TRIALS, SearchPlan
from search.prelaunch import check_launch, iter_representatives
from search.privacy import take_login
from search.ready_nodes import start_nodes
from search.sampler import StudySampler
from search.state import SearchState
from search.storage import create_folder
from search.tracking_server import check_server, default_tracking_uri
from spaces.space import SearchSpace
from trainables.data.opening import absolute_data
from trainables.outputs import write_text


def run_search(
    space: SearchSpace,
    *,
    data: str | Path,
    storage: Path,
    name: str,
    tracking_uri: str | None = None,
    plan: SearchPlan | None = None,
    screen_to_stderr: bool = False,
) -> SearchOutcome:
    """Search a space on a face table.

    Args:
        space: what may vary.
        data: folder of the face table, or a URI such as s3://BUCKET/PREFIX.
        storage: the search's folder becomes storage / name.
        name: of the search and of its MLflow experiment.
        tracking_uri: of MLflow; a SQLite file in the storage if None.
        plan: budget and resources.
        screen_to_stderr: where stdout is for the result alone.

    Raises:
        SpaceError, ConfigError, ModelError, DataError: the space does not fit the table.
        UsageError: the name can't be a folder's, or a URI is given where copies are switched off.
        OutputError: the copy of the table finds no room.
        SearchError: a search of this name, or of its heads, is there; no cluster answers; no trial could be scored.
        DeviceError: a GPU is asked for where there is none.
        TrackingError: the tracking server does not answer.
    """
    started_s = time.time()
    plan = plan or SearchPlan()
    if plan.n_trials is None and plan.time_budget_s is None:
        plan = replace(plan, n_trials=DEFAULT_TRIALS)
    table = open_named_table(data)
    check_heads_space(space)
    check_launch(space, table)
    check_first(space, plan.first)
    folder = create_folder(storage, name)
    if plan.first:
        check_heads_folder(folder)
    uri = take_login(tracking_uri) if tracking_uri else default_tracking_uri(storage)
    check_server(uri)
    manifest = SearchManifest(
        name=name,
        data=absolute_data(data),
        content_hash=table.info.content_hash,
        classes=tuple(table.info.classes),
        seed=plan.seed,
        n_trials=plan.n_trials,
        time_budget_s=plan.time_budget_s,
        tracking_uri=uri,
        launched_s=started_s,
        plan=asdict(plan),
    )
    with only_driver(folder):
        start_nodes(plan.address, folder, table)
        resources = resources_of(plan, share_gpus(plan, iter_representatives(space), table.info))
        write_text(folder.path / SPACE_FILE, space.to_yaml())
        folder.write_manifest(manifest)  # from here on there is a search, which can be resumed
        if plan.first:
            stopped, space = run_first(
                folder, space, table, plan=plan, resources=resources.whole(), screen_to_stderr=screen_to_stderr
            )
            if stopped is not None:
                return stopped
        state = SearchState(StudySampler(space, seed=plan.seed))
        outcome = follow(state, folder, table, plan=plan, resources=resources, screen_to_stderr=screen_to_stderr)
        if plan.first:
            measure_first(outcome, table, resources=resources.whole(), screen_to_stderr=screen_to_stderr)
        return outcome
