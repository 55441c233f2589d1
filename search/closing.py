"""A search that has all its trials: its books are closed where a driver was killed before it did so itself."""

from search.folder import SearchFolder
from search.packs.runs import PackRuns
from search.packs.space import is_packed
from search.state import SearchState, settle_runs
from search.study_file import OPTUNA_FILE, write_study
from search.tracking import Tracker
from search.tracking_journal import read_times


def is_complete(state: SearchState, n_trials: int | None) -> bool:
    """Whether as many trials have ended as were asked for; never where time alone bounds a search."""
    return n_trials is not None and len(state.records) >= n_trials and not state.is_open


def close_books(folder: SearchFolder, state: SearchState) -> None:
    """End what is open of a search that is held, and send what waits. One that had ended stays as it is."""
    manifest = folder.read_manifest()
    tracker = Tracker(manifest.tracking_uri, folder.name, folder.tracking_dir)
    launch = tracker.launch_key or ""
    if manifest.status != "ended":
        settle_runs(tracker, state.records)
        if launch and is_packed(state.sampler.space):
            runs = PackRuns(tracker, launch, folder)
            runs.keep_lost_trials(state.records)
            runs.publish_best(state.records)
        times = read_times(folder.tracking_dir)
        write_study(state.sampler.study, folder.path / OPTUNA_FILE, name=folder.name, times=times)
        folder.update_manifest(status="ended", wall_s=folder.spent_s())
        folder.remove_tune_dirs()
    tracker.close(timeout_s=30.0)
    told = {"experiment_id": tracker.experiment_id, "parent_run_id": tracker.run_id(launch)}
    if (manifest.experiment_id, manifest.parent_run_id) != tuple(told.values()):
        folder.update_manifest(**told)
