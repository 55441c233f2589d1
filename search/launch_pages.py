"""What MLflow shows of a launch while it runs: the launch's own page, and the pictures on its trials' pages."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from search.folder import DEFAULT_TRIAL, SearchFolder, TrialRecord
from search.launch_note import LaunchNote
from search.leaderboard import NOTE_TAG, State
from search.plan import SearchPlan
from search.progress import waiting
from search.tracking import Tracker
from search.trial_note import describe_trial, picture_links
from search.trial_pages import INTERRUPTED_S, PICTURES_DIR, TrialPages
from spaces.errors import AffectuneError
from trainables.trainer import WEIGHTS_FILE

WEIGHTS_TAG = "affectune.weights"


class LaunchPages:
    """Keeps the pages of one launch.

    Args:
        tracker: of the search.
        key: of the launch's run.
        folder: of the search.
        default: the space's default config, flat.
        plan: of the launch.
        has_pictures: whether trials get pictures: not where thousands of heads are trained.
    """

    def __init__(
        self,
        tracker: Tracker,
        key: str,
        folder: SearchFolder,
        *,
        default: Mapping[str, Any],
        plan: SearchPlan,
        has_pictures: bool,
    ) -> None:
        self._tracker, self._folder, self._default = tracker, folder, default
        self._note = LaunchNote(tracker, key, default=default, n_trials=plan.n_trials)
        self._trials: TrialPages | None = None
        if has_pictures:
            self._trials = TrialPages(folder, self._drawn, shows_faces=plan.shows_faces)
        self._had_weights: set[str] = set()

    def open(self, records: Sequence[TrialRecord]) -> None:
        """Begin, with what earlier launches left."""
        self._note.tell(records, "running")
        self._had_weights = self._with_weights(records)
        if self._trials:
            self._trials.catch_up(records)

    def trial_ended(self, record: TrialRecord, records: Sequence[TrialRecord]) -> None:
        """A trial has ended; `records` are all so far."""
        self._note.keep_up(records)
        if self._trials and record.end != "preempted":
            self._trials.ask(record.trial_id)

    def close(self, records: Sequence[TrialRecord], state: State) -> None:
        """Say how it ended and whose weights are kept, and let the last pictures be drawn for a moment."""
        if self._trials:
            with waiting("drawing the last pictures of trials"):
                self._trials.close(None if state == "ended" else INTERRUPTED_S)
            self._tell_weights(self._with_weights(records))
        self._note.tell(records, state)

    def _drawn(self, trial_id: str) -> None:
        pictures = self._folder.trial_dir(trial_id) / PICTURES_DIR
        self._tracker.log_artifact(trial_id, pictures, PICTURES_DIR)
        with contextlib.suppress(AffectuneError, OSError):
            self._tracker.set_tags(trial_id, {NOTE_TAG: self._describe(trial_id, pictures)})

    def _describe(self, trial_id: str, pictures: Path) -> str:
        default_f1 = None
        with contextlib.suppress(AffectuneError):  # it may have left nothing
            default = self._folder.read_record(DEFAULT_TRIAL)
            default_f1 = None if default.end is None else default.best_macro_f1
        text = describe_trial(self._folder.read_record(trial_id), default=self._default, default_f1=default_f1)
        files = sorted(f"{PICTURES_DIR}/{file.name}" for file in pictures.iterdir())
        return "\n\n".join(part for part in (text, picture_links(self._tracker, trial_id, files)) if part)

    def _tell_weights(self, kept: set[str]) -> None:
        for trial_id in sorted(kept | self._had_weights):
            place = str(self._folder.trial_dir(trial_id) / WEIGHTS_FILE) if trial_id in kept else "no longer kept"
            self._tracker.set_tags(trial_id, {WEIGHTS_TAG: place})

    def _with_weights(self, records: Sequence[TrialRecord]) -> set[str]:
        return {r.trial_id for r in records if (self._folder.trial_dir(r.trial_id) / WEIGHTS_FILE).is_file()}
