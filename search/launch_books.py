"""The books of one launch: records on disk, the study's journal, MLflow's runs and pages, a person's screen."""

import time
from dataclasses import asdict
from typing import Any

from rich.console import Console

from search.console import SearchConsole
from search.folder import STUDY_FILE, SearchFolder
from search.launch_pages import LaunchPages
from search.packs.console import PackConsole
from search.packs.runs import PackRuns
from search.packs.space import is_packed
from search.plan import SearchPlan
from search.progress import waiting
from search.ranking import usable
from search.recorder import Recorder
from search.resources import Resources
from search.run_log import NoRuns
from search.run_views import search_views
from search.state import SearchState, settle_runs
from search.stopping import Stopping, in_words, measure_stopping
from search.study_file import OPTUNA_FILE, write_study
from search.study_journal import StudyJournal
from search.tracking import Tracker
from search.tracking_journal import read_times
from search.tracking_records import describe_table
from trainables.data.table import FaceTable
from trainables.outputs import sweep_leftovers
from trainables.patience import Patience


class LaunchBooks:
    """Opens the books of a launch, and closes them however it ended.

    Args:
        state: of the search as the launch finds it.
        folder: of the search. Its manifest names the launch; from now on its documents wait for a full disk and say so.
        table: the face table.
        plan: of the launch.
        resources: of one trial.
        screen_to_stderr: where stdout is for the result alone.

    Attributes:
        screen: what a person sees.
        recorder: keeps the trials' records.
        journal: of the study.
        pack_runs: MLflow's runs of packs, where heads are trained in packs.
        is_in_packs: whether they are.
    """

    def __init__(
        self,
        state: SearchState,
        folder: SearchFolder,
        table: FaceTable,
        *,
        plan: SearchPlan,
        resources: Resources,
        screen_to_stderr: bool = False,
    ) -> None:
        self._state, self._folder, self._plan = state, folder, plan
        self._manifest = folder.read_manifest()
        self.is_in_packs = is_packed(state.sampler.space)
        self._default = state.sampler.space.to_config(state.sampler.space.default()).to_flat()
        self.screen = self._open_screen(resources, to_stderr=screen_to_stderr)
        folder.patience = Patience(self.screen.message)
        self._tracker = Tracker(
            self._manifest.tracking_uri,
            folder.name,
            folder.tracking_dir,
            dataset=describe_table(table),
            on_trouble=self.screen.message,
        )
        settle_runs(self._tracker, state.records)
        self._run = self._tracker.start_search(name=folder.name, params=_params(state, table, plan, resources))
        self._tracker.show_views(self._run, search_views(self._tracker.search_id, state.sampler.space))
        self._pages = LaunchPages(
            self._tracker, self._run, folder, default=self._default, plan=plan, has_pictures=not self.is_in_packs
        )
        self.recorder = self._open_recorder()
        self.journal = StudyJournal(folder.path / STUDY_FILE, state.sampler.events, patience=folder.patience)
        self.pack_runs = PackRuns(self._tracker, self._run, folder)

    def open_pages(self) -> None:
        """Begin the launch's page in MLflow, with what earlier launches left."""
        self._pages.open(self._state.records)

    def publish_best_packed(self) -> None:
        """Give the best of thousands of heads a run of their own; nothing where trials have theirs anyway."""
        if self.is_in_packs:
            self.pack_runs.publish_best(list(self.recorder.records.values()))

    def close(self, *, interrupted: bool) -> Stopping:
        """Close everything; each book is closed where another can't be. How often stopping was wrong comes back."""
        folder, journal = self._folder, self.journal
        try:
            sweep_leftovers(folder.path, everywhere=True)
            self.recorder.close_open_trials()
            journal.close()
            self.pack_runs.close_open_packs()
            self._write_study()
        finally:
            self.screen.close()
            records = list(self.recorder.records.values())
            stopping = measure_stopping(records, vars(self._plan))
            wall_s = self._manifest.wall_s + time.time() - self._manifest.launched_s
            self._pages.close(records, "interrupted" if interrupted else "ended")
            self._end_run(stopping, interrupted=interrupted)
            self._close_manifest(wall_s, interrupted=interrupted)
        return stopping

    def say_stopping(self, stopping: Stopping) -> None:
        """Tell the person how often stopping early was wrong, where it can be told."""
        if said := in_words(stopping, vars(self._plan)):
            self.screen.message(said)

    def _open_screen(self, resources: Resources, *, to_stderr: bool) -> SearchConsole:
        return (PackConsole if self.is_in_packs else SearchConsole)(
            default=self._default,
            n_trials=self._plan.n_trials,
            time_budget_s=self._plan.time_budget_s,
            n_slots=resources.max_concurrent,
            earlier=self._state.records,
            console=Console(stderr=to_stderr),
        )

    def _open_recorder(self) -> Recorder:
        return Recorder(
            self._folder,
            tracker=NoRuns() if self.is_in_packs else self._tracker,
            parent_key=self._run,
            screen=self.screen,
            keep_weights=self._plan.keep_weights,
            default=self._default,
            earlier=self._state.records,
            on_end=self._pages.trial_ended,
        )

    def _write_study(self) -> None:
        folder, study = self._folder, self._state.sampler.study
        times = read_times(folder.tracking_dir)
        folder.patience(lambda: write_study(study, folder.path / OPTUNA_FILE, name=folder.name, times=times))

    def _end_run(self, stopping: Stopping, *, interrupted: bool) -> None:
        records = list(self.recorder.records.values())
        best = usable(records)[:1]
        if best:
            told = {f"stopping/{name}": count for name, count in asdict(stopping).items()}
            self._tracker.log_summary(
                self._run, {"best/macro_f1": best[0].best_macro_f1, "n_trials": len(records), **told}
            )
        self._tracker.end_run(self._run, "interrupted" if interrupted else "completed" if best else "failed")

    def _close_manifest(self, wall_s: float, *, interrupted: bool) -> None:
        tracker = self._tracker
        try:
            self._folder.update_manifest(status="interrupted" if interrupted else "ended", wall_s=wall_s)
        finally:
            with waiting("sending the last records to MLflow"):
                tracker.close(timeout_s=30.0)
        self._folder.update_manifest(experiment_id=tracker.experiment_id, parent_run_id=tracker.run_id(self._run))


def _params(state: SearchState, table: FaceTable, plan: SearchPlan, resources: Resources) -> dict[str, Any]:
    space = state.sampler.space
    return {
        "space": space.name,
        "space_hash": space.content_hash(),
        "data": table.origin,
        "data_hash": table.info.content_hash,
        "classes": ",".join(table.info.classes),
        **{f"plan.{name}": value for name, value in vars(plan).items()},
        "cpus_per_trial": resources.cpus,
        "gpus_per_trial": resources.gpus,
        "max_concurrent": resources.max_concurrent,
    }
