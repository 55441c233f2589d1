"""What a person sees of a head-only search: a line a pack, since trials end faster than anyone reads."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from search.console import SearchConsole, best_table, clock_text
from search.ends import TrialEnd
from search.folder import TrialRecord


class PackConsole(SearchConsole):
    """Counts trials and keeps the best; says nothing of a single one unless it failed or diverged."""

    def __init__(self, **words: Any) -> None:
        """The words of `SearchConsole`."""
        self._said: set[str] = set()
        super().__init__(**words)

    def trial_started(self, record: TrialRecord) -> None:
        """A trial is part of a pack that has begun."""
        with self._lock:
            self._running[record.trial_id] = self._new_line(record)

    def trial_ended(self, trial_id: str, end: TrialEnd, *, best_macro_f1: float | None = None, error: str = "") -> None:
        """A trial is over."""
        with self._lock:
            self._running.pop(trial_id, None)
            self._ends[end] += 1
            is_first = bool(error) and error not in self._said
            self._said.add(error)
            last_of_pack = not self._running
        if is_first:
            self.message(f"{trial_id} {end}: {error.strip().splitlines()[0]}")
        if last_of_pack or sum(self._ends.values()) % 64 == 0:
            self._event(self._headline())

    def epoch(self, trial_id: str, report: Mapping[str, Any]) -> None:
        """A trial has reported its score."""
        with self._lock:
            line = self._running.get(trial_id)
            if line is not None:
                line.epoch = int(report.get("epoch", 1))
                line.macro_f1 = report.get("valid/macro_f1")
                line.best_macro_f1 = report.get("best/macro_f1")
                self._rank(line)

    def _render(self) -> RenderableType:
        with self._lock:
            state = f"{clock_text(self._clock() - self._begin)}{self._remaining()}   {self._headline()}"
            best = best_table(self._best, self._console.width)
            running = Text(f"{len(self._running)} heads in training", style="dim")
        return Group(Text(state, style="bold"), running, best)
