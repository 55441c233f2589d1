"""Where a search stands: the sampler with all it has learned, and the trials so far. Read from the search's folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from search.folder import STUDY_FILE, SearchFolder, TrialRecord
from search.launch_note import describe_launch
from search.leaderboard import NOTE_TAG
from search.run_log import RunLog
from search.sampler import StudySampler
from search.settings_text import run_name
from search.study_journal import asks_in, merge, read_events
from search.tracking import Tracker
from spaces.config import TrialConfig
from spaces.space import SearchSpace

NO_CURVES = frozenset({"epoch", "best/epoch", "head/embedded", "unmoved/macro_f1"})
"""Numbers of a trial's report that stay in its record."""


@dataclass(frozen=True)
class SearchState:
    """Where a launch begins.

    Attributes:
        sampler: has been told of everything before.
        records: of trials that were started; one with no end goes on.
        proposed: trials that were asked for and never started.
    """

    sampler: StudySampler
    records: Sequence[TrialRecord] = ()
    proposed: Sequence[TrialRecord] = field(default=())

    @property
    def unfinished(self) -> list[TrialRecord]:
        """Trials to be run before any new one, by number."""
        still_open = [record for record in self.records if record.end is None]
        return sorted([*still_open, *self.proposed], key=lambda record: record.number)

    @property
    def is_open(self) -> bool:
        """Whether a trial was begun that has no end."""
        return any(record.end is None for record in self.records)

    @property
    def n_trials(self) -> int:
        """All that were proposed."""
        return len(self.records) + len(self.proposed)

    @property
    def next_number(self) -> int:
        """Of the next new trial; no trial's number comes twice."""
        asked = [event["trial_id"] for event in self.sampler.events if event["event"] == "ask"]
        return 1 + max((_number_of(trial_id) for trial_id in asked), default=-1)


def load_state(folder: SearchFolder, space: SearchSpace, *, seed: int) -> SearchState:
    """Where the search of a folder stands, whatever moment its driver ended at.

    Raises:
        SearchError: the journal is of no search.
        SpaceError: a trial so far is no point of the space.
    """
    records = folder.read_records()
    events = merge(read_events(folder.path / STUDY_FILE), records)
    sampler = StudySampler.replay(space, seed, asks_in(space, events, records))
    for record in records:
        if record.end == "preempted":
            record.end = None
    known = {record.trial_id for record in records}
    proposed = [new_record(sampler, trial_id) for trial_id in sampler.running() if trial_id not in known]
    return SearchState(sampler=sampler, records=records, proposed=proposed)


def new_record(sampler: StudySampler, trial_id: str) -> TrialRecord:
    """The record of a trial that the sampler has proposed."""
    config = TrialConfig.from_flat(sampler.settings(trial_id))
    return TrialRecord(
        trial_id=trial_id, number=_number_of(trial_id), values=sampler.ask(trial_id), config=config.to_flat()
    )


def settle_runs(tracker: Tracker, records: Sequence[TrialRecord]) -> None:
    """Let MLflow know what it missed of launches whose driver was killed, and close what they left open."""
    by_id = {record.trial_id: record for record in records}
    for key in tracker.unfinished():
        record = by_id.get(key)
        if record is None and "/" in key:
            tracker.end_run(key, "preempted")
            continue
        if record is None:
            _end_launch(tracker, key, records)
            continue
        for epoch in record.history:
            if epoch["epoch"] > tracker.last_step(key):
                tracker.log_epoch(key, epoch_metrics(epoch), step=int(epoch["epoch"]))
        end_trial_run(tracker, record)


def _end_launch(tracker: Tracker, key: str, records: Sequence[TrialRecord]) -> None:
    """Close the run of a launch whose driver was killed; its page says what there was by then."""
    tracker.set_tags(key, {NOTE_TAG: describe_launch(tracker, records, state="interrupted")})
    tracker.end_run(key, "interrupted")


def start_trial_run(tracker: RunLog, record: TrialRecord, *, parent_key: str, default: Mapping[str, Any]) -> None:
    """Open a trial's run below that of its launch; its name says how it differs from the default's config, flat."""
    tracker.start_run(
        record.trial_id,
        parent_key=parent_key,
        name=run_name(record.trial_id, record.config, default),
        params=record.config,
        tags={"affectune.number": record.number},
    )


def end_trial_run(tracker: RunLog, record: TrialRecord) -> None:
    """Close a trial's run with the numbers that MLflow's table shows; one without an end was preempted."""
    if record.best_macro_f1 is not None:
        log_news(tracker, record.trial_id, {"best/macro_f1": record.best_macro_f1}, record.history)
    if record.spared is not None:
        tracker.set_tags(record.trial_id, {"affectune.spared": record.spared})
    tracker.end_run(record.trial_id, record.end or "preempted", note=record.error)


def log_news(tracker: RunLog, key: str, summary: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> None:
    """A summary without what the last epoch's report has said already: a metric has one value a step."""
    said = history[-1] if history else {}
    news = {name: value for name, value in summary.items() if name not in said or said[name] != value}
    if news:
        tracker.log_summary(key, news)


def epoch_metrics(epoch: Mapping[str, Any]) -> dict[str, Any]:
    """What MLflow is told of an epoch's report: what makes a curve, of which its pages draw one each."""
    return {name: value for name, value in epoch.items() if name not in NO_CURVES}


def _number_of(trial_id: str) -> int:
    return int(trial_id.removeprefix("t"))
