"""The command line's work in Python, for notebooks and scripts: a search is launched.

search/__init__.py says what is offered, docs/python.md how it goes together.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from search.api.own_process import OwnProcess
from search.api.searches import Search, log_of, options_of, storage_words

if TYPE_CHECKING:
    from spaces.space import SearchSpace


def launch_search(
    space: "SearchSpace | Path | str",
    *,
    data: Path | str,
    name: str | None = None,
    fix: Mapping[str, Any] | None = None,
    trials: int | None = None,
    time_budget: float | str | None = None,
    first: str | None = None,
    storage: Path | str | None = None,
    tracking_uri: str | None = None,
    seed: int = 0,
    max_concurrent: int | None = None,
    cpus_per_trial: float | None = None,
    gpus_per_trial: float | Literal["auto"] | None = None,
    resources: Mapping[str, float | str] | None = None,
    address: str | None = None,
    hang_after: float | str | None = None,
    let_finish: float | None = None,
    faces_in_mlflow: bool = True,
) -> Search:
    """Launch a search, in a process of its own.

    Args:
        space: a preset's name, a YAML file, or a space.
        data: a face table: its folder, or a URI (s3://..., gs://...).
        name: of the search; space, date and time if None.
        fix: settings that are fixed over the space.
        trials: at most; 30, or no limit beside a time budget, if None.
        time_budget: in seconds, or as text ("20m").
        first: `heads:N` trains N heads on frozen backbones first.
        storage: where searches are kept; AFFECTUNE_STORAGE, else `runs` here, if None.
        tracking_uri: of MLflow; a SQLite file in the storage if None.
        seed: of the sampler.
        max_concurrent: trials at once; all that fit if None.
        cpus_per_trial, gpus_per_trial: what a trial takes.
        resources: what a trial takes beside, by the cluster's names for it, such as {"memory": "8G"}.
        address: of a running Ray cluster; a local one is started if None.
        hang_after: a worker without a sign of life for so long is ended, and its trial goes on in another; in seconds,
            or as text; ten minutes if None.
        let_finish: of the trials to be stopped for being weak, the share that may finish; a twentieth if None.
        faces_in_mlflow: whether the pages of trials there show the faces that they got most wrong.

    Returns:
        The search, once its checks are passed and it has begun.

    Raises:
        SpaceError, ConfigError: the space makes no sense.
        SearchError: it can't begin; the reason is named.
    """
    from search.folder import MANIFEST_FILE
    from search.storage import default_name, default_storage

    space = _space_of(space).fix(dict(fix or {}))
    folder = (Path(storage) if storage is not None else default_storage()).absolute() / (name or default_name(space))
    was_there = (folder / MANIFEST_FILE).exists()
    with tempfile.TemporaryDirectory(prefix="affectune-") as held:
        file = Path(held) / "space.yaml"
        file.write_text(space.to_yaml(), encoding="utf-8")
        words = ["search", str(file), "--data", str(data), "--name", folder.name, *storage_words(folder.parent)]
        chosen = {"trials": trials, "time-budget": time_budget, "first": first, "tracking-uri": tracking_uri}
        chosen |= {"seed": seed, "max-concurrent": max_concurrent, "cpus-per-trial": cpus_per_trial}
        chosen |= {"gpus-per-trial": gpus_per_trial, "address": address, "hang-after": hang_after}
        chosen |= {"let-finish": let_finish, "no-faces": not faces_in_mlflow}
        words += [f"--resource={resource}={amount}" for resource, amount in (resources or {}).items()]
        process = OwnProcess([*words, *options_of(chosen)], log_of(folder))
        process.wait_for(lambda: not was_there and (folder / MANIFEST_FILE).exists())
    return Search(folder, process)


def _space_of(space: "SearchSpace | Path | str") -> "SearchSpace":
    from spaces.loading import load_space

    return load_space(str(space)) if isinstance(space, Path | str) else space
