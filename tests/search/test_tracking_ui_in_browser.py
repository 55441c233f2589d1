"""MLflow's pages of a search of thirty trials in a browser: the links show what they say, charts and pictures draw."""

import re
import socket
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from typing import TYPE_CHECKING, NamedTuple

import pytest
from chromium import CUT_WORDS

from search.folder import DEFAULT_TRIAL, SearchFolder
from search.run_views import Kind, charts_link, runs_link
from search.tracking_ui import tracking_ui
from spaces.loading import parse_space

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from trainables.data.table import FaceTable

pytestmark = [pytest.mark.ray, pytest.mark.slow]

N_TRIALS = 30
IS_A_PICTURE_SHOWN = """
() => [...document.images].some(image => image.naturalWidth > 300 && image.naturalHeight > 200)
"""
SPACE = parse_space("""
name: thirty
description: networks of a second
parameters:
  optimiser.lr: {log_uniform: [1.0e-4, 1.0e-1], default: 1.0e-2}
  loss.label_smoothing: {uniform: [0.0, 0.5], default: 0.1}
  model.backbone: {choice: [test_efficientnet, test_resnet], default: test_efficientnet}
fixed:
  model.weights: none
  model.image_px: 32
  train.epochs: 3
  train.batch_size: 32
""")


class Shown(NamedTuple):
    """What MLflow shows, and where."""

    base: str
    experiment_id: str
    search_id: str
    run_ids: dict[str, str]
    folder: SearchFolder

    def list_of(self, kind: Kind = "trial") -> str:
        return runs_link(self.base, self.experiment_id, search_id=self.search_id, kind=kind)

    @property
    def charts(self) -> str:
        return charts_link(self.base, self.experiment_id, search_id=self.search_id)

    def run(self, key: str, tab: str = "") -> str:
        return f"{self.base}/#/experiments/{self.experiment_id}/runs/{self.run_ids[key]}{tab}"


@pytest.fixture(scope="module")
def shown(
    browser: "Browser", ray_local: None, face_table: "FaceTable", tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shown]:
    """A server with a search of thirty trials and its ensemble, and another search beside it."""
    from search.final import build_ensemble
    from search.launch import run_search
    from search.plan import EnsemblePlan, SearchPlan

    storage = tmp_path_factory.mktemp("runs")
    with redirect_stdout(StringIO()), pytest.MonkeyPatch.context() as patch:
        run_search(SPACE, data=face_table.path, storage=storage, name="other", plan=SearchPlan(n_trials=2))
        patch.setattr("search.trial_pages.CLOSE_S", 20.0)  # the others take all cores
        plan = SearchPlan(n_trials=N_TRIALS)
        folder = run_search(SPACE, data=face_table.path, storage=storage, name="thirty", plan=plan).folder
        build_ensemble(folder, EnsemblePlan(n_bags=0))
    search_id, run_ids = runs_of(folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tracking_ui(storage / "mlflow.db", port=port):
        yield Shown(f"http://127.0.0.1:{port}", folder.read_manifest().experiment_id or "", search_id, run_ids, folder)


def runs_of(folder: SearchFolder) -> tuple[str, dict[str, str]]:
    """The mark of a search, and its runs in MLflow by their keys."""
    from mlflow import MlflowClient

    manifest = folder.read_manifest()
    runs = MlflowClient(manifest.tracking_uri).search_runs([manifest.experiment_id], max_results=100)
    keys = {run.data.tags["affectune.key"]: run.info.run_id for run in runs}
    keys["ensemble"] = next(run.info.run_id for run in runs if run.data.tags["affectune.kind"] == "ensemble")
    return runs[0].data.tags["affectune.search_id"], keys


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

    scores = {record.trial_id: record.best_macro_f1 for record in shown.folder.read_records()}
    listed = [scores[name.split()[0]] for name in names]
    scored = [score for score in listed if score is not None]
    assert len(names) == N_TRIALS and len({name[:20] for name in names}) == N_TRIALS
    assert listed[: len(scored)] == sorted(scored, reverse=True) and len(set(scored)) > 5


def test_list_shows_scores_and_what_varies(shown: Shown, page: "Page") -> None:
    page.goto(shown.list_of())

    names_in_the_list(page)
    heads = page.locator("[role=columnheader]").all_inner_texts()
    best = shown.folder.read_records()[0].best_macro_f1
    assert {"best/macro_f1", "optimiser.lr", "loss.label_smoothing"} <= {head.strip() for head in heads}
    assert best is not None
    assert page.get_by_role("gridcell", name=f"{best:.4f}"[:5]).count() >= 1


def test_list_of_ensembles_shows_them_alone(shown: Shown, page: "Page") -> None:
    page.goto(shown.list_of("ensemble"))

    assert names_in_the_list(page) == ["ensemble"]


def test_charts_draw(shown: Shown, page: "Page") -> None:
    page.goto(shown.charts)

    page.locator(".js-plotly-plot svg .trace, .js-plotly-plot svg .points path").first.wait_for(timeout=60_000)
    words = page.locator("body").inner_text()
    groups = dict(re.findall(r"^([a-z][a-z0-9/]*)\n\((\d+)\)$", words, flags=re.MULTILINE))
    assert groups == {"best": "1", "time": "1", "train": "1", "valid": "2", "valid/f1": "6"}
    assert page.get_by_test_id("experiment-view-compare-runs-card").count() >= 2  # those below are drawn when seen


def test_page_of_the_launch_says_how_it_went_and_leads_to_its_trials(shown: Shown, page: "Page") -> None:
    page.goto(shown.run("search"))

    page.get_by_text("against the default").first.wait_for(timeout=60_000)
    assert page.locator("table", has_text="differs from the default in").count() == 1
    with page.expect_popup() as opened:
        page.get_by_role("link", name="All trials, best first").click()
    assert len(names_in_the_list(opened.value)) == N_TRIALS


@pytest.mark.parametrize("picture", ["confusion.png", "f1_by_class.png", "learning_curves.png", "most_wrong.jpg"])
def test_picture_of_a_trial_is_shown(picture: str, shown: Shown, page: "Page") -> None:
    page.goto(shown.run(DEFAULT_TRIAL, f"/artifacts/pictures/{picture}"))

    page.wait_for_function(IS_A_PICTURE_SHOWN, timeout=60_000)


@pytest.mark.parametrize("picture", ["calibration.png", "confusion.png", "blending.png"])
def test_picture_of_the_ensemble_is_shown(picture: str, shown: Shown, page: "Page") -> None:
    page.goto(shown.run("ensemble", f"/artifacts/{picture}"))

    page.wait_for_function(IS_A_PICTURE_SHOWN, timeout=60_000)


def test_page_of_the_ensemble_says_what_to_expect_of_it(shown: Shown, page: "Page") -> None:
    page.goto(shown.run("ensemble"))

    page.get_by_text("sealed test").first.wait_for(timeout=60_000)


@pytest.mark.parametrize("width", [360, 1440])
def test_report_with_its_ensemble_draws_and_the_console_stays_empty(
    width: int, shown: Shown, browser: "Browser"
) -> None:
    from search.report.job import write_report

    said: list[str] = []
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(write_report(shown.folder).as_uri())

    figures = page.query_selector_all("figure")
    marks = [len(figure.query_selector_all("svg path, svg use, svg image")) for figure in figures]
    cut, title = page.evaluate(CUT_WORDS), page.locator("h1").inner_text()
    page.close()
    assert said == [] and cut == [] and title == "thirty"
    assert len(figures) >= 14 and min(marks) > 5
