"""The sampler's journal, study.jsonl: what was asked, reported and told, a line each, as it happens.

A process that is killed leaves at worst a torn last line. What the journal lacks, the trials' records know: `merge`
puts both together.
"""

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from search.folder import TrialRecord
from search.sampler import Event
from trainables.outputs import write_text

METRIC = "best/macro_f1"
"""Of a trial's report: what the sampler learns from."""


class StudyJournal:
    """Writes a sampler's events to a file. What could not be written, for a full disk, is tried again the next time.

    Args:
        path: of study.jsonl; replaced as a whole by `events`, then only appended to.
        events: all there are so far.
    """

    def __init__(self, path: Path, events: Sequence[Event] = ()) -> None:
        write_text(path, "".join(map(_line, events)))
        self._file = path.open("ab", buffering=0)
        self._n_written = len(events)
        self._is_torn = False

    def follow(self, events: Sequence[Event]) -> None:
        """Append what is new; it is out of this process's hands when this returns.

        Args:
            events: all so far, those that were written before included.
        """
        new = events[self._n_written :]
        if not new:
            return
        text = ("\n" if self._is_torn else "") + "".join(map(_line, new))
        with suppress(OSError):
            self._is_torn = self._file.write(text.encode()) != len(text.encode())
            self._n_written += 0 if self._is_torn else len(new)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def read_events(path: Path) -> list[Event]:
    """The events of a journal, without lines that a crash tore; none where there is no file."""
    events = []
    if path.exists():
        for line in path.read_bytes().split(b"\n"):
            with suppress(ValueError):
                event = json.loads(line)
                events += [event] if isinstance(event, dict) and "trial_id" in event else []
    return events


def merge(events: Iterable[Event], records: Iterable[TrialRecord]) -> list[Event]:
    """The journal, completed by what the records know: trials it lacks, epochs, ends. A preempted trial has no end."""
    events = _unique(events)
    asked = {event["trial_id"] for event in events if event["event"] == "ask"}
    told = {event["trial_id"] for event in events if event["event"] == "tell"}
    reported = {(event["trial_id"], event["epoch"]) for event in events if event["event"] == "report"}
    merged = [event for event in events if event["trial_id"] in asked]
    for record in sorted(records, key=lambda record: record.number):
        trial_id = record.trial_id
        if trial_id not in asked:
            merged.append({"event": "ask", "trial_id": trial_id, "values": record.values})
        if trial_id in told and trial_id in asked:
            continue
        merged += [
            {"event": "report", "trial_id": trial_id, "epoch": epoch, "value": value}
            for epoch, value in scores_of(record)
            if trial_id not in asked or (trial_id, epoch) not in reported
        ]
        if record.end not in (None, "preempted"):
            value = record.best_macro_f1 if record.end == "completed" else None
            merged.append({"event": "tell", "trial_id": trial_id, "end": record.end, "value": value})
    return merged


def scores_of(record: TrialRecord) -> list[tuple[int, float]]:
    """A trial's epochs, each with the metric after it."""
    return [(int(epoch["epoch"]), float(epoch[METRIC])) for epoch in record.history if METRIC in epoch]


def _unique(events: Iterable[Event]) -> list[Event]:
    """Events in their order, none twice: what was half written before a retry may stand in a journal again."""
    seen: dict[tuple[Any, ...], Event] = {}
    for event in events:
        seen.setdefault((event.get("event"), event["trial_id"], event.get("epoch")), event)
    return list(seen.values())


def _line(event: Event) -> str:
    return json.dumps(event, separators=(",", ":")) + "\n"
