"""Makes a search's report, keeps it in the search's folder, and hands it to MLflow."""

from collections.abc import Callable, Iterator
from pathlib import Path

from search.ensemble_document import as_written
from search.folder import SearchFolder
from search.report.facts import read_facts
from search.report.page import render_report
from search.report.speed import read_timed, time_trials
from search.tracking import Tracker
from spaces.errors import TrackingError
from trainables.outputs import write_text

REPORT_FILE = "report.html"


def write_report(
    folder: SearchFolder, out: Path | None = None, *, progress: Callable[[float], None] | None = None
) -> Path:
    """Write report.html into a search's folder, and a copy where one is wanted.

    Args:
        folder: of a search, running or ended.
        out: of the copy.
        progress: told the share done of timing networks; None where only known times shall stand in the page.

    Returns:
        Where the page is.

    Raises:
        SearchError: a document of the search is broken, or holds what a search would not write.
        SpaceError: its space makes no sense.
        OutputError: the page can't be written.
    """
    with as_written(folder.path, by="a search"):
        facts = read_facts(folder)
        timed = read_timed(facts) if progress is None else time_trials(facts, progress=progress)
        page = render_report(facts, timed=timed)
    own = folder.path / REPORT_FILE
    write_text(own, page)
    if out is not None:
        write_text(out, page)
    return out or own


def track_report(folder: SearchFolder) -> Iterator[str]:
    """Let the run of the latest launch have the page of the search's folder.

    Yields:
        Sentences for a person, where it could not be sent now.
    """
    manifest, told = folder.read_manifest(), list[str]()
    try:
        tracker = Tracker(manifest.tracking_uri, folder.name, folder.tracking_dir, on_trouble=told.append)
    except TrackingError:
        yield "MLflow gets the report once the search has ended and this command is run again"
        return
    if tracker.launch_key is not None:
        tracker.log_artifact(tracker.launch_key, folder.path / REPORT_FILE)
    tracker.close(timeout_s=30.0)
    yield from told
