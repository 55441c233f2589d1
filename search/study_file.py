"""The study as a file that Optuna's own tools open: `optuna-dashboard runs/NAME/optuna.log`."""

import json
import warnings
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.trial import FrozenTrial

from search.sampler import new_study
from trainables.outputs import write_text

OPTUNA_FILE = "optuna.log"


def write_study(
    study: optuna.Study, path: Path, *, name: str, times: Mapping[str, tuple[float, float | None]] | None = None
) -> None:
    """Replace the file by one with this study.

    Args:
        study: with all its trials.
        path: of the file, in the format of Optuna's journal storage.
        name: of the study there.
        times: by a trial's id, when it began, and ended if it did, in Unix seconds; of others it is now.

    Raises:
        OutputError: it can't be written, or the disk is full.
    """
    lines = _Lines()
    copy = new_study(storage=JournalStorage(lines), study_name=name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        copy.set_metric_names(["macro-F1"])
    copy.add_trials([_dated(trial, (times or {}).get(trial.user_attrs.get("trial_id", ""))) for trial in study.trials])
    write_text(path, "".join(f"{json.dumps(line, separators=(',', ':'))}\n" for line in lines.logs))


def _dated(trial: FrozenTrial, when: tuple[float, float | None] | None) -> FrozenTrial:
    """A trial with its own times: the study is made of the sampler's events, which have none."""
    if when is None:
        return trial
    began_s, ended_s = when
    trial.datetime_start = datetime.fromtimestamp(began_s)
    if trial.state.is_finished() and ended_s is not None:
        trial.datetime_complete = datetime.fromtimestamp(ended_s)
    return trial


class _Lines(BaseJournalBackend):
    """A journal in memory: Optuna's own file is locked and flushed for each of its lines."""

    def __init__(self) -> None:
        self.logs: list[dict[str, Any]] = []

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Lines from a number on."""
        yield from self.logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """More lines."""
        self.logs.extend(json.loads(json.dumps(logs)))
