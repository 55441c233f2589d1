"""Which runs MLflow's lists show, in which order and with which columns, where our links open them.

MLflow's pages keep a view that is shared as a tag of the experiment, and open it by its key; a plain address can name
runs and their order, but no columns, and without a word there are no scores among those. Ours are written as the pages
write theirs, but for their compression, which they do not insist on.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Literal
from urllib.parse import quote

from search.tracking_records import MAX_TAG
from spaces.domains import Bundle, Choice
from spaces.parameters import Parameter
from spaces.space import SearchSpace

Kind = Literal["trial", "ensemble"]

OUR_SIDE = "workflowType=machine_learning"
"""MLflow's pages have two sides; without a word it is the one of language models."""
VIEW_TAG = "mlflow.sharedViewState."
ORDER = "metrics.`best/macro_f1`"
N_SETTINGS = 6
"""Columns of settings, at most: so many are seen without scrolling. More are a click away."""
ENSEMBLE_COLUMNS = (
    "metrics.`ensemble/estimate_macro_f1`",
    "metrics.`ensemble/valid_macro_f1`",
    "metrics.`ensemble/test_macro_f1`",
    "metrics.`default/estimate_macro_f1`",
    "metrics.`calibration/error`",
)


def search_views(search_id: str, space: SearchSpace) -> dict[str, str]:
    """Views of a search's trials and ensembles, as tags of its experiment.

    Args:
        search_id: the mark of the search, which all of its runs bear.
        space: whose settings are shown.
    """
    settings = [f"params.`{name}`" for name in _varying(space)[:N_SETTINGS]]
    columns: Mapping[Kind, list[str]] = {
        "trial": [ORDER, "tags.`affectune.end`", "attributes.`Duration`", *settings],
        "ensemble": list(ENSEMBLE_COLUMNS),
    }
    return {VIEW_TAG + _key(search_id, kind): _state(search_id, kind, shown) for kind, shown in columns.items()}


def runs_link(base: str, experiment_id: str, *, search_id: str, kind: Kind = "trial") -> str:
    """The UI's page with one search's runs of a kind, best first, with their scores and settings.

    Args:
        base: address of the UI, `http://127.0.0.1:5000`.
        experiment_id: MLflow's number of the experiment, which has the views of the search.
        search_id: the mark of the search.
        kind: of the runs.
    """
    key = quote(_key(search_id, kind), safe="")
    page = f"{base.rstrip('/')}/#/experiments/{experiment_id}/runs"
    return f"{page}?viewStateShareKey={key}&{OUR_SIDE}"


def charts_link(base: str, experiment_id: str, *, search_id: str) -> str:
    """The UI's page with charts of one search's trials.

    Args:
        base, experiment_id, search_id: as for `runs_link`.
    """
    return f"{runs_link(base, experiment_id, search_id=search_id)}&compareRunsMode=CHART"


def run_link(base: str, experiment_id: str, run_id: str) -> str:
    """The UI's page of one run.

    Args:
        base, experiment_id: as for `runs_link`.
        run_id: MLflow's name of the run.
    """
    return f"{base.rstrip('/')}/#/experiments/{experiment_id}/runs/{run_id}?{OUR_SIDE}"


def artifact_link(base: str, experiment_id: str, run_id: str, path: str) -> str:
    """The UI's page that shows one artifact of a run.

    Args:
        base, experiment_id, run_id: as for `run_link`.
        path: of the artifact.
    """
    page = f"{base.rstrip('/')}/#/experiments/{experiment_id}/runs/{run_id}"
    return f"{page}/artifacts/{quote(path)}?{OUR_SIDE}"


def _runs_filter(search_id: str, kind: Kind) -> str:
    """One search's runs of a kind, in the language of MLflow's filters."""
    return f"tags.\"affectune.search_id\" = '{search_id}' and tags.\"affectune.kind\" = '{kind}'"


def _state(search_id: str, kind: Kind, columns: list[str]) -> str:
    state = {
        "searchFilter": _runs_filter(search_id, kind),
        "orderByKey": ORDER,
        "orderByAsc": False,
        "selectedColumns": columns,
        "runsHiddenMode": "FIRST_20_RUNS",
    }
    text = json.dumps(state)
    assert len(text) <= MAX_TAG, "names of settings are short, and there are few"
    return text


def _key(search_id: str, kind: Kind) -> str:
    return f"affectune-{search_id}-{kind}"


def _varying(space: SearchSpace) -> list[str]:
    """Settings that vary in all trials of a space; of a choice among bundles the first in which they differ, last."""
    always = [parameter for parameter in space.parameters if not parameter.when]
    plain = [each.name for each in always if not _bundles(each)]
    return plain + [found for each in always if (found := _first_difference(_bundles(each)))]


def _bundles(parameter: Parameter) -> Sequence[Bundle]:
    return parameter.domain.bundles if isinstance(parameter.domain, Choice) else ()


def _first_difference(bundles: Sequence[Bundle]) -> str | None:
    settings = [bundle.to_dict() for bundle in bundles]
    names = dict.fromkeys(name for each in settings for name in each)
    return next((name for name in names if len({repr(each.get(name)) for each in settings}) > 1), None)
