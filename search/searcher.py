"""The sampler as Ray Tune asks for it: proposes trials until they or the time run out, and hears how each ends."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from search.ends import TrialEnd
from search.folder import TrialRecord
from search.pace import needed_s, trial_deadline_s
from search.state import SearchState, new_record
from search.study_journal import METRIC, StudyJournal
from trainables.outputs import write_text


class SpaceSearcher(Searcher):
    """Orders what an earlier launch left unfinished, then asks the sampler; tells it epochs and ends.

    Trial ids here are Tune's; `records` maps them to ours. Every event is in the journal before Tune hears of it.

    When a trial enters its last epoch, the sampler is asked for the one that will take its place, so that no worker
    waits for a proposal; no earlier, since the sampler would know less. A proposal that finds no place, for lack of
    time, stays in the journal: whoever resumes the search begins with it.
    """

    def __init__(
        self,
        state: SearchState,
        journal: StudyJournal,
        *,
        order: Callable[[TrialRecord, float | None], dict[str, Any]],
        n_trials: int | None,
        deadline_s: float | None,
        budget_s: float | None,
        max_concurrent: int = 1,
    ) -> None:
        super().__init__(metric=METRIC, mode="max")
        self.records: dict[str, TrialRecord] = {}
        self._sampler = state.sampler
        self._journal = journal
        self._again = state.unfinished
        self._n_known = state.n_trials
        self._begun = {record.trial_id for record in state.records}
        self._next_number = state.next_number
        self._order = order
        self._n_trials = n_trials
        self._deadline_s = deadline_s
        self._budget_s = budget_s
        self._max_concurrent = max_concurrent
        self._is_halted = False
        self._is_last_ordered = False
        self._ahead: TrialRecord | None = None
        self._open = list(state.records)
        self._shortest_s: list[float] = []

    @property
    def is_through(self) -> bool:
        """Whether all has ended that was to begin. Where Tune stops before, it was interrupted."""
        return self._is_last_ordered and all(record.end is not None for record in self._open)

    def halt(self) -> None:
        """Propose nothing more; what runs may end."""
        self._is_halted = True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        """A trial's config; FINISHED where no further trial should begin, and None where one may have to once more."""
        record = None if self._is_halted or self._is_too_late() else self._next_record()
        if record is None:
            return self._no_more()
        self.records[trial_id] = record
        self._begun.add(record.trial_id)
        self._open.append(record)
        return {"trial_id": record.trial_id, "order": self._order(record, self._trial_deadline_s())}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Tell the sampler an intermediate value; where the last epoch follows, ask it for the trial after."""
        record, epoch = self.records[trial_id], int(result["epoch"])
        self._sampler.report(record.trial_id, epoch, float(result[METRIC]))
        self._journal.follow(self._sampler.events)
        if epoch + 1 == record.config.get("train.epochs"):
            self._ask_ahead()

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell the sampler the end: what the trial said, or stopped by the scheduler where it said none.

        What becomes of an error, whoever counts lost workers says: `begin_again` or `fail`.
        """
        if error or result is None:
            return
        end: TrialEnd = result.get("end") or "stopped"
        self._sampler.tell(
            self.records[trial_id].trial_id, end, value=float(result[METRIC]), epoch=int(result["epoch"])
        )
        self._journal.follow(self._sampler.events)

    def begin_again(self, trial_id: str) -> bool:
        """Order once more what Ray Tune has given up. Returns whether there is time for that."""
        if self._is_halted or self._is_too_late():
            return False
        self._again[:0] = [record for record in self._records_of(trial_id) if record.end is None]
        return True

    def fail(self, trial_id: str) -> None:
        """Tell the sampler that what Ray Tune has given up has failed."""
        for record in self._records_of(trial_id):
            self._sampler.tell(record.trial_id, record.end or "failed", value=record.best_macro_f1)
        self._journal.follow(self._sampler.events)

    def save(self, checkpoint_path: str) -> None:
        """Tune's snapshots want a file; what matters stands in the search's folder."""
        write_text(Path(checkpoint_path), "{}")

    def restore(self, checkpoint_path: str) -> None:
        """Tune's own restore is not used: a search goes on from the records of its folder."""
        raise NotImplementedError("a search goes on from its folder, not from Tune's snapshot")

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its searcher into snapshots that nobody reads; what can't be pickled stays out."""
        return {"n_asked": len(self.records)}

    def _records_of(self, trial_id: str) -> list[TrialRecord]:
        return [self.records[trial_id]]

    def _no_more(self) -> str | None:
        """The answer where nothing is to begin now; after FINISHED, Tune never asks again."""
        self._is_last_ordered = True
        may_come_back = not self._is_halted and any(record.end is None for record in self._open)
        return None if may_come_back else Searcher.FINISHED

    def _ask_ahead(self) -> None:
        """Have a proposal ready, unless there is something to begin with or nothing will begin."""
        if self._ahead is None and not (self._again or self._is_halted or self._is_too_late()):
            self._ahead = self._proposed()

    def _next_record(self) -> TrialRecord | None:
        """What is unfinished, by number; then what the sampler proposes; None where there are trials enough."""
        while self._again:
            record = self._again.pop(0)
            if not self._is_one_too_many(record):
                return record
        ahead, self._ahead = self._ahead, None
        return ahead or self._proposed()

    def _is_one_too_many(self, record: TrialRecord) -> bool:
        """Whether a trial was proposed ahead, and never begun, in a search that has its trials without it."""
        return self._n_trials is not None and record.trial_id not in self._begun and len(self._begun) >= self._n_trials

    def _proposed(self) -> TrialRecord | None:
        """A trial that the sampler is asked for now; None where there are trials enough."""
        if self._n_trials is not None and self._n_known >= self._n_trials:
            return None
        trial_id = f"t{self._next_number:04d}"
        self._sampler.ask(trial_id)
        self._journal.follow(self._sampler.events)
        self._n_known += 1
        self._next_number += 1
        return new_record(self._sampler, trial_id)

    def _is_too_late(self) -> bool:
        if self._deadline_s is None or self._budget_s is None:
            return False
        least_s = needed_s(self._shortest(), budget_s=self._budget_s, is_counted=self._n_trials is not None)
        return time.time() + least_s > self._deadline_s

    def _shortest(self) -> list[float]:
        """Seconds of the shortest completed trial; none where there is none. An ended trial is looked at once."""
        ended = [record for record in self._open if record.end is not None]
        self._open = [record for record in self._open if record.end is None]
        times = [record.wall_s for record in ended if record.end == "completed"]
        self._shortest_s = sorted([*times, *self._shortest_s])[:1]
        return self._shortest_s

    def _trial_deadline_s(self) -> float | None:
        """Of the trial that was just taken up."""
        n_left = None
        if self._n_trials is not None:
            n_left = 1 + (self._ahead is not None) + len(self._again) + max(0, self._n_trials - self._n_known)
        return trial_deadline_s(
            now_s=time.time(), deadline_s=self._deadline_s, n_left=n_left, max_concurrent=self._max_concurrent
        )
