"""What MLflow's page of a launch says: how the search stands, its best trials, what searching gained, where to look."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from search.folder import TrialRecord
from search.leaderboard import NOTE_TAG, State, describe_search
from search.run_views import charts_link, run_link, runs_link
from search.tracking import Tracker

EVERY_S = 30.0
"""Between two notes of a search that runs."""


class LaunchNote:
    """Keeps the description of a launch's run true while the search runs.

    Args:
        tracker: of the search.
        key: of the launch's run.
        default: the space's default config, flat.
        n_trials: asked for; None where time alone bounds the search.
        clock: seconds from any start.
    """

    def __init__(
        self,
        tracker: Tracker,
        key: str,
        *,
        default: Mapping[str, Any],
        n_trials: int | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tracker, self._key = tracker, key
        self._default, self._n_trials = default, n_trials
        self._clock = clock
        self._told_s = -EVERY_S

    def keep_up(self, records: Sequence[TrialRecord]) -> None:
        """Tell how the search stands, unless that was told a moment ago."""
        if self._clock() - self._told_s >= EVERY_S:
            self.tell(records, "running")

    def tell(self, records: Sequence[TrialRecord], state: State) -> None:
        """Tell how the search stands."""
        self._told_s = self._clock()
        text = describe_launch(self._tracker, records, state=state, n_trials=self._n_trials, default=self._default)
        self._tracker.set_tags(self._key, {NOTE_TAG: text})


def describe_launch(
    tracker: Tracker,
    records: Sequence[TrialRecord],
    *,
    state: State,
    n_trials: int | None = None,
    default: Mapping[str, Any] | None = None,
    ensemble: str = "",
) -> str:
    """What a launch's page says, as Markdown.

    Args:
        tracker: of the search; once its server was reached, there are links to pages of the search.
        records: of all trials so far.
        state: of the search.
        n_trials: asked for; None where time alone bounds the search, or that is not known.
        default: the space's default config, flat; trial 0's if None.
        ensemble: what to expect of the ensemble, where there is one.

    MLflow shows the first lines of a description at once: the links, and how the search stands.
    """
    if default is None:
        default = next((record.config for record in records if record.number == 0), {})
    text = describe_search(
        records,
        state=state,
        n_trials=n_trials,
        default=default,
        link=lambda trial_id: _page_of(trial_id, tracker),
        ensemble=ensemble,
    )
    return f"{_links(tracker)}\n\n{text}" if tracker.experiment_id else text


def _page_of(trial_id: str, tracker: Tracker) -> str:
    run_id = tracker.run_id(trial_id) if tracker.experiment_id else None
    return run_link("", tracker.experiment_id, run_id) if tracker.experiment_id and run_id else ""


def _links(tracker: Tracker) -> str:
    """Pages of MLflow that show this search alone."""
    experiment_id, search_id = tracker.experiment_id or "", tracker.search_id
    trials = runs_link("", experiment_id, search_id=search_id)
    ensembles = runs_link("", experiment_id, search_id=search_id, kind="ensemble")
    charts = charts_link("", experiment_id, search_id=search_id)
    return f"[All trials, best first]({trials}) - [as charts]({charts}) - [ensembles]({ensembles})"
