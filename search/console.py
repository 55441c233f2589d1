"""What a person sees of a search: a live table on a terminal, one plain line an event elsewhere.

No Ray in here: the driver tells the console what happened.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from search.ends import TrialEnd
from search.folder import TrialRecord
from search.settings_text import shorten_settings

SHOWN_BEST, SHOWN_ENDS = 5, 3
FEWEST_ROWS = 2
"""Of trials that run; the others are counted where the screen is low."""
END_STYLES = {
    "completed": "green",
    "stopped": "yellow",
    "preempted": "magenta",
    "diverged": "red",
    "failed": "red",
}
"""Ends in the order in which they are counted."""


@dataclass
class TrialLine:
    """What is shown of one trial."""

    trial_id: str
    is_default: bool = False
    settings: str = ""
    n_epochs: int | None = None
    epoch: int = 0
    macro_f1: float | None = None
    best_macro_f1: float | None = None
    train_loss: float | None = None
    end: str = ""
    began_s: float | None = None
    """By the console's clock."""

    @property
    def progress(self) -> str:
        return f"{self.epoch}/{self.n_epochs}" if self.n_epochs else str(self.epoch)


class SearchConsole:
    """Follows the trials of one launch. Its methods may be called from any thread.

    Args:
        default: flat config of the default, of which a trial's line shows the differences; else that of trial 0.
        n_trials: how many the search runs in all, if it is known.
        time_budget_s: after how long it ends, if it does.
        earlier: trials of earlier launches, where the search is resumed.
        n_slots: trials that can run at once, if it is known.
        noun: what a trial is called in the counts, `bag` in the final job.
        console: where to write, stdout by default; a live table is drawn only on a terminal.
        clock: seconds from any start.
    """

    def __init__(
        self,
        *,
        default: Mapping[str, Any] | None = None,
        n_trials: int | None = None,
        time_budget_s: float | None = None,
        earlier: Sequence[TrialRecord] = (),
        n_slots: int | None = None,
        noun: str = "trial",
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._n_trials, self._noun = n_trials, noun
        self._time_budget_s, self._n_slots = time_budget_s, n_slots
        self._console = console or Console()
        self._clock = clock
        self._begin = clock()
        self._lock = threading.RLock()
        self._running: dict[str, TrialLine] = {}
        self._best: list[TrialLine] = []
        self._ends: Counter[str] = Counter()
        self._latest: deque[str] = deque(maxlen=SHOWN_ENDS)
        self._took_s: list[float] = []
        self._default: Mapping[str, Any] = default or {}
        self._default_f1: float | None = None
        self._closed = False
        self._live: Live | None = None
        self._recall(earlier)
        if self._console.is_terminal:
            self._live = Live(get_renderable=self._render, console=self._console, refresh_per_second=2)
            self._live.start()

    def expect(self, n_trials: int) -> None:
        """How many there are in all, where that is known only now."""
        with self._lock:
            self._n_trials = n_trials

    def trial_started(self, record: TrialRecord) -> None:
        """A trial has begun, or goes on in another worker."""
        with self._lock:
            line = self._running[record.trial_id] = self._new_line(record)
            line.began_s = self._clock()
        self._event(f"{line.trial_id} started    {line.settings or 'the default'}")

    def epoch(self, trial_id: str, report: Mapping[str, Any]) -> None:
        """A trial has reported an epoch."""
        with self._lock:
            line = self._running.get(trial_id)
            if line is None:
                return
            line.epoch = int(report.get("epoch", line.epoch + 1))
            line.macro_f1 = report.get("valid/macro_f1")
            line.train_loss = report.get("train/loss")
            line.best_macro_f1 = report.get("best/macro_f1", line.best_macro_f1)
            self._rank(line)
        numbers = f"macro-F1 {_number(line.macro_f1)}  best {_number(line.best_macro_f1)}"
        if (line.best_macro_f1 or 0.0) < (line.macro_f1 or 0.0):  # a trial's end looks again at its best epoch
            numbers += " over moved faces too"
        seconds = report.get("time/epoch_s")
        took = f"  {seconds:.1f} s" if seconds is not None else ""
        if "train/n_oom" in report:
            took += f"  out of memory {report['train/n_oom']:g} times, {report['train/micro_batch']:g} faces at once"
        self._event(f"{trial_id} epoch {line.progress:<5} {numbers}  loss {_number(line.train_loss, 3)}{took}")

    def trial_ended(self, trial_id: str, end: TrialEnd, *, best_macro_f1: float | None = None, error: str = "") -> None:
        """A trial is over."""
        with self._lock:
            line = self._running.pop(trial_id, None) or TrialLine(trial_id)
            line.end = end
            self._ends[end] += 1
            why = f"  {error.strip().splitlines()[0]}" if error.strip() else ""
            self._latest.append(f"{self._elapsed()}  {trial_id} {end:<10} macro-F1 {_number(best_macro_f1)}{why}")
            if line.began_s is not None:
                self._took_s.append(self._clock() - line.began_s)
        self._event(f"{trial_id} {end:<10} macro-F1 {_number(best_macro_f1)}{why}  | {self._headline()}")
        if self._live and why:
            self.message(f"{trial_id} {end}:{why}")

    def message(self, text: str) -> None:
        """A line of its own, above the table where there is one."""
        self._console.print(f"{self._elapsed()}  {text}", markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Draw the last state and leave the terminal as it was; a second time does nothing."""
        with self._lock:
            is_first, self._closed = not self._closed, True
            live, self._live = self._live, None
        if live:
            live.transient = not (self._n_trials or self._best or self._ends or self._running)  # nothing was to be done
            live.stop()
        elif is_first and (self._n_trials or self._ends or self._running):
            self.message(f"ended: {self._headline()}")

    def _event(self, text: str) -> None:
        if self._live is None:
            self.message(text)

    def _recall(self, records: Sequence[TrialRecord]) -> None:
        for record in sorted(records, key=lambda record: record.number):
            line = self._new_line(record)
            line.epoch, line.best_macro_f1 = record.epochs, record.best_macro_f1
            if record.end is not None:
                line.end = record.end
                self._ends[record.end] += 1
            if record.best_macro_f1 is not None:
                self._rank(line)

    def _new_line(self, record: TrialRecord) -> TrialLine:
        if record.number == 0 and not self._default:
            self._default = record.config
        settings = shorten_settings(record.config, self._default) if self._default else ""
        is_default = record.config == self._default
        n_epochs = max(int(record.config.get("train.epochs", 0)), 1)  # head-only epochs go before the first
        return TrialLine(record.trial_id, is_default=is_default, settings=settings, n_epochs=n_epochs)

    def _rank(self, line: TrialLine) -> None:
        if line.is_default:
            self._default_f1 = line.best_macro_f1
        self._best = [other for other in self._best if other.trial_id != line.trial_id] + [line]
        self._best.sort(key=lambda other: (-(other.best_macro_f1 or 0.0), other.trial_id))
        del self._best[SHOWN_BEST:]

    def _elapsed(self) -> str:
        return f"{clock_text(self._clock() - self._begin):>7}"

    def _headline(self) -> str:
        n_ended = sum(self._ends.values())
        ends = ", ".join(f"{self._ends[end]} {end}" for end in END_STYLES if self._ends[end])
        of = f" of {self._n_trials}" if self._n_trials else ""
        parts = [f"{n_ended}{of} {self._noun}s" + (f" ({ends})" if ends else "")]
        if self._best and self._best[0].best_macro_f1 is not None:
            best = self._best[0]
            parts.append(f"best {_number(best.best_macro_f1)} {best.trial_id}")
            if self._default_f1 is not None:
                parts.append(f"default {_number(self._default_f1)}")
        return ", ".join(parts)

    def _remaining(self) -> str:
        if self._closed:
            return ""
        about_s = self._about_left_s()
        if self._time_budget_s is None:
            return "" if about_s is None else f", about {clock_text(about_s)} left"
        left_s = max(0.0, self._time_budget_s - (self._clock() - self._begin))
        if about_s is not None and about_s < left_s:
            return f", about {clock_text(about_s)} left"
        return f", {clock_text(left_s)} left"

    def _about_left_s(self) -> float | None:
        """As long as the trials still to come take, if they take what those of this launch took; None if unknown."""
        n_at_once = self._n_slots or len(self._running)
        if self._n_trials is None or not self._took_s or not n_at_once:
            return None
        spent_s = sum(self._clock() - line.began_s for line in self._running.values() if line.began_s is not None)
        n_left = self._n_trials - sum(self._ends.values())
        return max(0.0, n_left * sum(self._took_s) / len(self._took_s) - spent_s) / n_at_once

    def _render(self) -> RenderableType:
        """One screen: state, what runs, the best, the latest ends; what has no room is counted."""
        with self._lock:
            width, height = self._console.size
            elapsed = clock_text(self._clock() - self._begin)
            parts: list[RenderableType] = [Text(f"{elapsed}{self._remaining()}   {self._headline()}", style="bold")]
            tables = 2 + len(self._best) if self._best else 0
            room = height - 1 - 1 - 2 - tables - len(self._latest)  # the head, and a title with names over each table
            rows = list(self._running.values())[: max(room - 1, FEWEST_ROWS)]
            hidden = len(self._running) - len(rows)
            title = f"running, {len(self._running)} of {self._n_slots} slots" if self._n_slots else "running"
            if rows:
                parts.append(running_table(title + (f", {hidden} of them not shown" if hidden else ""), rows, width))
            elif not self._closed:
                parts.append(Text(title, style="italic"))
            if self._best:
                parts.append(best_table(self._best, width))
            if self._latest:
                parts.append(Text("\n".join(self._latest), style="dim", no_wrap=True, overflow="ellipsis"))
        return Group(*parts)


def running_table(title: str, lines: list[TrialLine], width: int) -> Table:
    """Trials that run, a line each, as wide as the terminal: how far each is, its latest epoch, its best one."""
    table = _table(title, ("trial", "epoch", "macro-F1", "best", "loss"), width)
    for line in lines:
        numbers = (_number(line.macro_f1), _number(line.best_macro_f1), _number(line.train_loss, 3))
        table.add_row(line.trial_id, line.progress, *numbers, escape(line.settings))
    return table


def best_table(lines: list[TrialLine], width: int) -> Table:
    """The best trials, a line each, as wide as the terminal: the score that ranks them, and how they ended."""
    table = _table("best so far", ("trial", "macro-F1", "epoch", "end"), width)
    for line in lines:
        end = f"[{END_STYLES[line.end]}]{line.end}[/]" if line.end in END_STYLES else line.end or "runs"
        table.add_row(line.trial_id, _number(line.best_macro_f1), line.progress, end, escape(line.settings))
    return table


def _table(title: str, columns: Sequence[str], width: int) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="dim", width=width)
    for name in columns:
        table.add_column(name, justify="left" if name in ("trial", "end") else "right", no_wrap=True)
    table.add_column("differs from the default in", ratio=1, no_wrap=True, overflow="ellipsis")
    return table


def _number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def clock_text(seconds: float) -> str:
    """`1:05` or `2:01:05`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
