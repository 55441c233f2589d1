"""The sampler as Ray Tune asks for it where a worker takes many trials at once: it proposes packs of them."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search.ends import TrialEnd
from search.folder import TrialRecord
from search.pace import NEW_TRIAL_SHARE
from search.searcher import SpaceSearcher
from search.state import SearchState
from search.study_journal import METRIC, StudyJournal

LARGEST_PACK = 64
SMALLEST_PACK = 8
ROUNDS = 4
"""Packs that a worker takes in a search of a given number: the sampler learns between packs, not within one."""

Reports = dict[str, dict[str, Any]]
"""A trial's id to its report."""


@dataclass(frozen=True)
class Pack:
    """Trials that one worker takes together."""

    pack_id: str
    records: Sequence[TrialRecord]


PackOrderer = Callable[[Pack, float | None], dict[str, Any]]
"""From a pack and the Unix time by which it must have ended to the worker's order."""


class PackSearcher(SpaceSearcher):
    """Orders trials by the pack: those that an earlier launch left unfinished, then what the sampler proposes.

    To Tune a pack is one trial; `packs` maps Tune's ids to packs. Each trial of a pack is asked for, reported and told
    in the study by itself.
    """

    def __init__(
        self,
        state: SearchState,
        journal: StudyJournal,
        *,
        order: PackOrderer,
        n_trials: int | None,
        deadline_s: float | None,
        budget_s: float | None,
        max_concurrent: int = 1,
        last_pack: int = 0,
    ) -> None:
        """
        Args:
            state: where the search stands.
            journal: of the study.
            order: makes a worker's order.
            n_trials: in all, those of the state too; None where time alone bounds the search.
            deadline_s: Unix time by which all must have ended.
            budget_s: of the whole search.
            max_concurrent: packs at once.
            last_pack: number of earlier launches' last, after which new ones are numbered.
        """
        super().__init__(
            state,
            journal,
            order=lambda record, ends_s: {},
            n_trials=n_trials,
            deadline_s=deadline_s,
            budget_s=budget_s,
            max_concurrent=max_concurrent,
        )
        self.packs: dict[str, Pack] = {}
        self._order_pack = order
        self._last_pack = last_pack
        self._pack_size = pack_size(n_trials, max_concurrent=max_concurrent)
        self._begun_s: dict[str, float] = {}
        self._durations_s: list[float] = []

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        """A pack's config; FINISHED where no further one should begin, and None where a trial may have to once more."""
        records = [] if self._is_halted or self._is_too_late() else self._next_records()
        if not records:
            return self._no_more()
        self._last_pack += 1
        pack = Pack(pack_id_of(self._last_pack), records)
        self.packs[trial_id] = pack
        self._begun_s[trial_id] = time.monotonic()
        return {"trial_id": pack.pack_id, "order": self._order_pack(pack, self._deadline_s)}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Tell the sampler the scores of the trials that have ended."""
        for ours, report in reports_of(result).items():
            self._sampler.report(ours, int(report["epoch"]), float(report[METRIC]))
        self._journal.follow(self._sampler.events)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell the sampler how each trial of the pack ended; of an error, as of a trial's, others say what becomes."""
        if error:
            return
        last = reports_of(result or {})
        for record in self.packs[trial_id].records:
            report = last.get(record.trial_id, {})
            end: TrialEnd = record.end or report.get("end") or "preempted"
            value = report.get(METRIC, record.best_macro_f1)
            self._sampler.tell(record.trial_id, end, value=value, epoch=int(report.get("epoch", record.epochs)) or None)
        self._durations_s.append(time.monotonic() - self._begun_s[trial_id])
        self._journal.follow(self._sampler.events)

    def _records_of(self, trial_id: str) -> list[TrialRecord]:
        return list(self.packs[trial_id].records)

    def _next_records(self) -> list[TrialRecord]:
        found: list[TrialRecord] = []
        while len(found) < self._pack_size:
            record = self._next_record()
            if record is None:
                break
            found.append(record)
            self._begun.add(record.trial_id)
        self._open += found
        return found

    def _is_too_late(self) -> bool:
        """Whether a pack could not end in time, by the shortest so far."""
        if self._deadline_s is None or self._budget_s is None:
            return False
        least_s = min(self._durations_s) if self._durations_s else NEW_TRIAL_SHARE * self._budget_s
        return time.time() + least_s > self._deadline_s


def pack_id_of(number: int) -> str:
    """A pack's name, from 1 on."""
    return f"pack-{number:04d}"


def pack_size(n_trials: int | None, *, max_concurrent: int) -> int:
    """Trials a pack: so many that overhead is small, so few that the sampler learns a few times on the way."""
    if n_trials is None:
        return LARGEST_PACK
    return min(LARGEST_PACK, max(SMALLEST_PACK, -(-n_trials // (ROUNDS * max_concurrent))))


def reports_of(result: Mapping[str, Any]) -> Reports:
    """The reports of trials in what a pack's worker told Tune; see `trainables.trial.PackTrial`."""
    reports: Reports = json.loads(result.get("reports", "{}"))
    return reports
