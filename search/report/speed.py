"""Milliseconds an image of the trials' networks: each architecture is timed once, on a network that is still there."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.folder import SearchFolder, TrialRecord
from search.report.facts import SearchFacts
from trainables.outputs import write_text
from trainables.trainer import WEIGHTS_FILE

TIMES_FILE = "times.json"
_NO_ARCHITECTURE = ("model.weights", "model.start", "model.drop_rate", "model.drop_path_rate")


@dataclass(frozen=True)
class Timed:
    """A scored trial, and what its network costs.

    Attributes:
        record: of the trial.
        ms: milliseconds an image, in batches of 32, with all looks that it takes, on the machine of the report.
        is_on_front: no other timed trial is as quick and as good, and better in one of both.
    """

    record: TrialRecord
    ms: float
    is_on_front: bool


def read_timed(facts: SearchFacts) -> list[Timed]:
    """Scored trials whose architecture was timed before, quickest first."""
    known = _read_times(facts.folder)
    return mark_front([(r, known[name]) for r in facts.scored if (name := architecture_of(r.config)) in known])


def time_trials(facts: SearchFacts, *, progress: Callable[[float], None]) -> list[Timed]:
    """Scored trials whose architecture could be timed, quickest first. What was timed once is remembered.

    Args:
        facts: of the search.
        progress: told the share done.
    """
    known = _read_times(facts.folder)
    files: dict[str, Path] = {}
    for record in facts.scored:
        file = facts.folder.trial_dir(record.trial_id) / WEIGHTS_FILE
        if file.is_file():
            files.setdefault(architecture_of(record.config), file)
    missing = [name for name in files if name not in known]
    for number, name in enumerate(missing, start=1):
        from search.costs import measure_network

        known[name] = measure_network(files[name]).ms["all"]
        progress(number / len(missing))
    if missing:
        write_text(facts.folder.path / TIMES_FILE, json.dumps(known, indent=2) + "\n")
    return read_timed(facts)


def mark_front(timed: Sequence[tuple[TrialRecord, float]]) -> list[Timed]:
    """Which trials no other beats in both score and time."""
    found, best = [], float("-inf")
    for record, ms in sorted(timed, key=lambda one: (one[1], -(one[0].best_macro_f1 or 0.0), one[0].number)):
        score = record.best_macro_f1 or 0.0
        found.append(Timed(record, ms, is_on_front=score > best))
        best = max(best, score)
    return found


def architecture_of(config: Mapping[str, Any]) -> str:
    """What of a config decides how long its network takes, as text."""
    parts = ("model.", "attention.", "branches.", "affect.", "hand.")
    told = {name: value for name, value in config.items() if name.startswith(parts) and name not in _NO_ARCHITECTURE}
    return json.dumps(told, sort_keys=True)


def _read_times(folder: SearchFolder) -> dict[str, float]:
    try:
        content = json.loads((folder.path / TIMES_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {str(name): float(ms) for name, ms in content.items() if isinstance(ms, int | float) and ms > 0}
