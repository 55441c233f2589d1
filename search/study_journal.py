"""The sampler's journal, study.jsonl: what was asked, reported and told, a line each, as it happens.

A process that is killed leaves at worst a torn last line. What the journal lacks, the trials' records know: `merge`
puts both together.
"""

import json
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from search.ends import TRIAL_ENDS
from search.folder import TrialRecord
from search.sampler import Event
from spaces.config import TrialConfig
from spaces.differences import SEED, point_of_config
from spaces.errors import SpaceError
from spaces.space import SearchSpace
from trainables.line_file import LineFile
from trainables.outputs import write_text
from trainables.patience import Patience

_TRIAL_ID = re.compile(r"t[0-9]{4,9}")

METRIC = "best/macro_f1"
"""Of a trial's report: what the sampler learns from."""


class StudyJournal:
    """Writes a sampler's events to a file. What could not be written, for a full disk, is tried again the next time.

    Args:
        path: of study.jsonl; replaced as a whole by `events`, then only appended to.
        events: all there are so far.
        patience: how a full disk is waited for.
    """

    def __init__(self, path: Path, events: Sequence[Event] = (), *, patience: Patience | None = None) -> None:
        write_events(path, events)
        self._file = LineFile(path)
        self._n_taken = len(events)
        self._patience = patience or Patience()

    def follow(self, events: Sequence[Event]) -> None:
        """Append what is new; it is out of this process's hands when this returns.

        Args:
            events: all so far, those that were written before included.
        """
        new = events[self._n_taken :]
        if not new:
            return
        self._n_taken = len(events)
        self._file.hold("".join(map(_line, new)))
        with suppress(OSError):  # the trials' records know it too
            self._patience(self._file.flush)

    def close(self) -> None:
        """Let go of the file."""
        with suppress(OSError):
            self._file.flush()
        self._file.close()


def write_events(path: Path, events: Iterable[Event]) -> None:
    """Replace a journal as a whole."""
    write_text(path, "".join(map(_line, events)))


def read_events(path: Path) -> list[Event]:
    """The events of a journal, without lines that a crash or a hand tore; none where there is no file."""
    events = []
    if path.exists():
        for line in path.read_bytes().split(b"\n"):
            with suppress(ValueError, RecursionError):
                event = json.loads(line)
                events += [event] if _is_event(event) else []
    return events


def _is_event(event: Any) -> bool:
    match event:
        case {"event": "ask", "trial_id": str(trial_id), "values": dict()}:
            pass
        case {"event": "report", "trial_id": str(trial_id), "epoch": int(), "value": float()}:
            pass
        case {"event": "tell", "trial_id": str(trial_id), "end": str(), "value": float() | None}:
            return event["end"] in TRIAL_ENDS and bool(_TRIAL_ID.fullmatch(trial_id))
        case _:
            return False
    return bool(_TRIAL_ID.fullmatch(trial_id))


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


def asks_in(space: SearchSpace, events: Iterable[Event], records: Iterable[TrialRecord]) -> list[Event]:
    """A journal with each trial's values as they are in a space.

    A trial that was begun has the values that make its config, whichever space it was asked for in. One that was not is
    left out where the space does not hold its values.

    Raises:
        SpaceError: a trial that was begun is no point of the space.
    """
    by_id = {record.trial_id: record for record in records}
    found, gone = [], set()
    for event in events:
        trial_id, values = event["trial_id"], event.get("values")
        if event["event"] == "ask" and trial_id in by_id:
            record = by_id[trial_id]
            event = {**event, "values": values if _makes(space, values, record) else values_of(space, record)}
        elif event["event"] == "ask" and isinstance(values, dict) and not _holds(space, values):
            gone.add(trial_id)
        if trial_id not in gone:
            found.append(event)
    return found


def values_of(space: SearchSpace, record: TrialRecord) -> dict[str, Any]:
    """The values that make a trial's config in a space, as JSON has them.

    Raises:
        SpaceError: the space lacks it; the message is a phrase with the setting at fault.
        ConfigError: the config has a setting that there is no more.
    """
    config = TrialConfig.from_flat(record.config).to_flat()
    values = point_of_config(space, config)
    own = space.to_config(values).train.seed
    if (config[SEED] - own) % 2**31 > record.number:  # type: ignore[operator]  # one a trial that it repeats
        raise SpaceError(f"{SEED} {config[SEED]} where it must be {own}")
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def scores_of(record: TrialRecord) -> list[tuple[int, float]]:
    """A trial's epochs, each with the metric after it."""
    return [(int(epoch["epoch"]), float(epoch[METRIC])) for epoch in record.history if METRIC in epoch]


def _makes(space: SearchSpace, values: Any, record: TrialRecord) -> bool:
    """Whether a space's values make the config of a trial, as far as the space says it."""
    try:
        made = space.to_settings(values)
    except (SpaceError, AttributeError):  # it is no mapping
        return False
    config = {name: tuple(value) if isinstance(value, list) else value for name, value in record.config.items()}
    return all(config.get(name, value) == value for name, value in made.items() if name != SEED)


def _holds(space: SearchSpace, values: dict[str, Any]) -> bool:
    try:
        space.complete(values)
    except SpaceError:
        return False
    return True


def _unique(events: Iterable[Event]) -> list[Event]:
    """Events in their order, none twice: what was half written before a retry may stand in a journal again."""
    seen: dict[tuple[Any, ...], Event] = {}
    for event in events:
        seen.setdefault((event.get("event"), event["trial_id"], event.get("epoch")), event)
    return list(seen.values())


def _line(event: Event) -> str:
    return json.dumps(event, separators=(",", ":")) + "\n"
