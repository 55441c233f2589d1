"""MLflow's pages of a search of thirty trials in a browser: the links show what they say, charts and pictures draw."""

import io
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from PIL import Image

from search.folder import DEFAULT_TRIAL, SearchFolder
from search.launch_note import LaunchNote
from search.state import end_trial_run, epoch_metrics, start_trial_run
from search.tracking import Tracker
from search.tracking_server import charts_link, create_database, runs_link
from search.tracking_ui import tracking_ui

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow

N_TRIALS = 30


class Shown(NamedTuple):
    """What MLflow shows, and where."""

    base: str
    experiment_id: str
    search_id: str
    run_ids: dict[str, str]
    folder: SearchFolder

    def list_of(self, kind: str = "trial") -> str:
        return runs_link(self.base, self.experiment_id, search_id=self.search_id, kind=kind)

    @property
    def charts(self) -> str:
        return charts_link(self.base, self.experiment_id, search_id=self.search_id)

    def run(self, key: str, tab: str = "") -> str:
        return f"{self.base}/#/experiments/{self.experiment_id}/runs/{self.run_ids[key]}{tab}"


@pytest.fixture(scope="module")
def shown(
    browser: "Browser", tmp_path_factory: pytest.TempPathFactory, make_search: Callable[..., SearchFolder]
) -> Iterator[Shown]:
    """A server with a search of thirty trials, an ensemble among its runs, and another search beside it."""
    storage = tmp_path_factory.mktemp("runs")
    database = storage / "mlflow.db"
    create_database(database, artifact_root=storage / "mlartifacts")
    record(make_search(storage / "other", n_trials=3, seed=5), database)
    tracker = record(made := make_search(storage / "made", n_trials=N_TRIALS), database)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tracking_ui(database, port=port):
        run_ids = {record.trial_id: str(tracker.run_id(record.trial_id)) for record in made.read_records()}
        run_ids["search"] = str(tracker.run_id("search"))
        yield Shown(f"http://127.0.0.1:{port}", str(tracker.experiment_id), tracker.search_id, run_ids, made)


def record(folder: SearchFolder, database: Path) -> Tracker:
    """Tell MLflow of a search as its driver would have."""
    tracker = Tracker(f"sqlite:///{database}", folder.name, folder.tracking_dir)
    key, records = tracker.start_search(name=folder.name), folder.read_records()
    default = next(record for record in records if record.trial_id == DEFAULT_TRIAL)
    for each in records:
        start_trial_run(tracker, each, parent_key=key, default=default)
        for epoch in each.history:
            tracker.log_epoch(each.trial_id, epoch_metrics(epoch), step=int(epoch["epoch"]))
        end_trial_run(tracker, each)
    picture = folder.trial_dir(DEFAULT_TRIAL) / "pictures" / "confusion.png"
    picture.parent.mkdir()
    content = io.BytesIO()
    Image.effect_noise((320, 240), 60).save(content, format="PNG")
    picture.write_bytes(content.getvalue())
    tracker.log_artifact(DEFAULT_TRIAL, picture.parent, "pictures")
    tracker.start_run(f"{key}/ensemble", parent_key=key, name="ensemble", tags={"affectune.kind": "ensemble"})
    tracker.end_run(f"{key}/ensemble", "completed")
    tracker.flush(120.0)
    LaunchNote(tracker, key, default=default.config, n_trials=len(records)).tell(records, "ended")
    tracker.end_run(key, "completed")
    assert tracker.close(timeout_s=120.0) == 0
    return tracker


@pytest.fixture
def page(browser: "Browser") -> Iterator["Page"]:
    opened = browser.new_page(viewport={"width": 1440, "height": 1000})
    yield opened
    opened.close()


def names_in_the_list(page: "Page") -> list[str]:
    """Names of the runs that the table shows, from the top."""
    links = page.locator("[role=row] a[href*='/runs/']")
    links.first.wait_for(timeout=60_000)
    found = links.evaluate_all("links => links.map(a => [a.getBoundingClientRect().top, a.textContent.trim()])")
    return [name for _, name in sorted(found) if name]


def test_list_shows_the_trials_of_this_search_alone_best_first(shown: Shown, page: "Page") -> None:
    page.goto(shown.list_of())

    names = names_in_the_list(page)

    records = shown.folder.read_records()
    best_first = sorted(
        (r for r in records if r.best_macro_f1 is not None), key=lambda r: (-(r.best_macro_f1 or 0.0), r.number)
    )
    assert len(names) == N_TRIALS
    assert [name.split()[0] for name in names[: len(best_first)]] == [record.trial_id for record in best_first]
    assert len({name[:20] for name in names}) == N_TRIALS


def test_list_of_ensembles_shows_them_alone(shown: Shown, page: "Page") -> None:
    page.goto(shown.list_of("ensemble"))

    assert names_in_the_list(page) == ["ensemble"]


def test_charts_draw(shown: Shown, page: "Page") -> None:
    page.goto(shown.charts)

    page.locator(".js-plotly-plot svg .trace, .js-plotly-plot svg .points path").first.wait_for(timeout=60_000)
    cards = page.get_by_test_id("experiment-view-compare-runs-card")
    assert cards.count() >= 3


def test_page_of_the_launch_says_how_it_went_and_leads_to_its_trials(shown: Shown, page: "Page") -> None:
    page.goto(shown.run("search"))

    page.get_by_text("against the default").first.wait_for(timeout=60_000)
    assert page.locator("table", has_text="differs from the default in").count() == 1
    with page.expect_popup() as opened:
        page.get_by_role("link", name="All trials, best first").click()
    assert len(names_in_the_list(opened.value)) == N_TRIALS


def test_picture_of_a_trial_is_shown(shown: Shown, page: "Page") -> None:
    page.goto(shown.run(DEFAULT_TRIAL, "/artifacts/pictures/confusion.png"))

    page.wait_for_function(
        "() => [...document.images].some(image => image.naturalWidth === 320 && image.naturalHeight === 240)",
        timeout=60_000,
    )
