"""What a person sees of a search: a live table on a terminal, one plain line an event elsewhere.

No Ray in here: the driver tells the console what happened.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from search.ends import TrialEnd
from search.folder import TrialRecord

SHOWN_BEST = 5
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
        noun: str = "trial",
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._n_trials, self._noun = n_trials, noun
        self._time_budget_s = time_budget_s
        self._console = console or Console()
        self._clock = clock
        self._begin = clock()
        self._lock = threading.RLock()
        self._running: dict[str, TrialLine] = {}
        self._best: list[TrialLine] = []
        self._ends: Counter[str] = Counter()
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
            numbers += " with all looks"
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
        if self._time_budget_s is None:
            return ""
        left = max(0.0, self._time_budget_s - (self._clock() - self._begin))
        return f", {clock_text(left)} left"

    def _render(self) -> RenderableType:
        with self._lock:
            head = Text(
                f"{clock_text(self._clock() - self._begin)}{self._remaining()}   {self._headline()}", style="bold"
            )
            running = trial_table("running", list(self._running.values()), self._console.width)
            best = trial_table("best so far", self._best, self._console.width)
        return Group(head, running, best)


def shorten_settings(config: Mapping[str, Any], default: Mapping[str, Any], *, max_chars: int = 160) -> str:
    """What of `config` differs from `default`, as short as it stays clear: `lr=0.0021 label_smoothing=0.31`."""
    lasts = Counter(name.rpartition(".")[2] for name in config)
    parts = []
    for name, value in config.items():
        if name in default and default[name] == value:
            continue
        last = name.rpartition(".")[2]
        parts.append(f"{last if lasts[last] == 1 else name}={_value_text(value)}")
    text = " ".join(parts)
    return text if len(text) <= max_chars else text[: max_chars - 3] + "..."


def trial_table(title: str, lines: list[TrialLine], width: int) -> Table:
    """Trials a line each, as wide as the terminal."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="dim", width=width)
    for name in ("trial", "epoch", "macro-F1", "best", "loss", "end"):
        table.add_column(name, justify="left" if name in ("trial", "end") else "right", no_wrap=True)
    table.add_column("differs from the default in", ratio=1, no_wrap=True, overflow="ellipsis")
    for line in lines:
        end = f"[{END_STYLES.get(line.end, '')}]{line.end}[/]" if line.end in END_STYLES else line.end
        numbers = (_number(line.macro_f1), _number(line.best_macro_f1), _number(line.train_loss, 3))
        table.add_row(line.trial_id, line.progress, *numbers, end, escape(line.settings))
    return table


def _number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _value_text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(_value_text(part) for part in value) + "]"
    return PurePath(value).name if isinstance(value, str) and "/" in value else str(value)


def clock_text(seconds: float) -> str:
    """`1:05` or `2:01:05`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
