"""What MLflow's page of a trial says: how it ended, what it scored, how it differs, and where its pictures are."""

from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any

from search.folder import TrialRecord
from search.leaderboard import against_default
from search.run_views import artifact_link
from search.settings_text import shorten_settings
from search.tracking import Tracker

PICTURES = {
    "learning_curves": "learning curves",
    "confusion": "confusion",
    "f1_by_class": "F1 by class",
    "most_wrong": "the faces it got most wrong",
}
"""What pictures show, by their names without an ending, in the order of their links."""


def describe_trial(record: TrialRecord, *, default: Mapping[str, Any], default_f1: float | None) -> str:
    """A trial in two sentences, as Markdown.

    Args:
        record: of the trial, ended.
        default: the space's default config, flat.
        default_f1: macro-F1 of the default; None where it has none.
    """
    end = f"**{record.end or 'running'}**"
    if record.best_macro_f1 is None:
        text = f"{end} without a score."
    else:
        against = ""
        if record.number != 0 and default_f1 is not None:
            against = f", {against_default(record.best_macro_f1, default_f1)}"
        text = f"{end} with macro-F1 **{record.best_macro_f1:.4f}** on the valid faces{against}; "
        text += f"its best epoch was {record.best_epoch} of {record.epochs}."
    differs = shorten_settings(record.config, default)
    return f"{text} It differs from the default in `{differs}`." if differs else f"{text} It is the default."


def picture_links(tracker: Tracker, trial_id: str, files: Iterable[str]) -> str:
    """Links to the pictures of a trial's run, as Markdown; empty before the server was reached.

    Args:
        tracker: of the search.
        trial_id: of the trial.
        files: paths of the pictures among the run's artifacts.
    """
    run_id, places = tracker.run_id(trial_id), {PurePath(file).stem: file for file in files}
    if not tracker.experiment_id or not run_id:
        return ""
    return " - ".join(
        f"[{words}]({artifact_link('', tracker.experiment_id, run_id, places[name])})"
        for name, words in PICTURES.items()
        if name in places
    )
