"""Where the time went, by how trials ended; and what went wrong, grouped by its cause."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from search.ends import TRIAL_ENDS, TrialEnd
from search.folder import TrialRecord

_NUMBER = re.compile(r"\d+(\.\d+)?(e[+-]?\d+)?")
_WORDS: dict[TrialEnd, str] = {
    "diverged": "the loss was no finite number any more",
    "failed": "an error without words",
    "preempted": "its machine went away, or the search ended first",
}


@dataclass(frozen=True)
class TimeSpent:
    """Of the trials that came to one end.

    Attributes:
        end: which.
        n_trials: how many.
        seconds: of training and scoring.
    """

    end: TrialEnd
    n_trials: int
    seconds: float


@dataclass(frozen=True)
class Trouble:
    """Trials that came to grief alike.

    Attributes:
        end: diverged, failed or preempted.
        cause: a sentence, that of the first of them.
        trials: which.
        shared: settings that all of them have, and less than half of the scored trials.
        seconds: that were spent on them.
    """

    end: TrialEnd
    cause: str
    trials: tuple[str, ...]
    shared: tuple[tuple[str, str], ...]
    seconds: float


def time_by_end(records: Sequence[TrialRecord]) -> list[TimeSpent]:
    """Each end that was met, in their usual order; a trial without one counts as preempted."""
    found = []
    for end in TRIAL_ENDS:
        own = [record for record in records if (record.end or "preempted") == end]
        if own:
            found.append(TimeSpent(end, len(own), sum(record.wall_s for record in own)))
    return found


def group_troubles(records: Sequence[TrialRecord]) -> list[Trouble]:
    """Trials that diverged, failed or were preempted, by cause, most frequent first; numbers tell no causes apart."""
    groups: dict[tuple[TrialEnd, str], list[TrialRecord]] = {}
    for record in records:
        if record.end in _WORDS:
            sentence = record.error.strip().split("\n")[0] or _WORDS[record.end]
            groups.setdefault((record.end, _NUMBER.sub("#", sentence)), []).append(record)
    scored = [record for record in records if record.end not in _WORDS]
    troubles = [_trouble(end, own, scored) for (end, _), own in groups.items()]
    return sorted(troubles, key=lambda trouble: (-len(trouble.trials), trouble.trials))


def _trouble(end: TrialEnd, own: Sequence[TrialRecord], scored: Sequence[TrialRecord]) -> Trouble:
    cause = own[0].error.strip().split("\n")[0] or _WORDS[end]
    ids = tuple(record.trial_id for record in own)
    return Trouble(end, cause, ids, _shared(own, scored), sum(record.wall_s for record in own))


def _shared(own: Sequence[TrialRecord], scored: Sequence[TrialRecord]) -> tuple[tuple[str, str], ...]:
    if len(own) < 2 or not scored:  # what one trial has tells nothing
        return ()
    first = own[0].values
    return tuple(
        (name, str(value))
        for name, value in first.items()
        if all(record.values.get(name) == value for record in own)
        and 2 * sum(record.values.get(name) == value for record in scored) < len(scored)
    )
