"""The report in a browser: it draws, it says nothing on the console, and a keyboard is enough."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from chromium import CUT_WORDS

from search.folder import SearchFolder
from search.report.facts import read_facts
from search.report.page import render_report

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory, make_search: Callable[..., SearchFolder]) -> Path:
    """The report of a search with 60 trials of all ends."""
    folder = make_search(tmp_path_factory.mktemp("runs") / "made", n_trials=60)
    file = folder.path / "report.html"
    file.write_text(render_report(read_facts(folder)), encoding="utf-8")
    return file


@pytest.fixture
def opened(browser: "Browser", page_file: Path, request: pytest.FixtureRequest) -> Iterator["tuple[Page, list[str]]"]:
    """The page at some width and in some theme, and what the console said."""
    said: list[str] = []
    words: dict[str, Any] = getattr(request, "param", {})
    page = browser.new_page(
        viewport={"width": words.get("width", 1440), "height": 900}, color_scheme=words.get("theme", "light")
    )
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda asked: said.append(asked.url) if not asked.url.startswith(("file:", "data:")) else None)
    page.goto(page_file.as_uri())
    yield page, said
    page.close()


@pytest.mark.parametrize(
    "opened",
    [{"width": width, "theme": theme} for width in (360, 1440) for theme in ("light", "dark")],
    ids=["phone, light", "phone, dark", "desk, light", "desk, dark"],
    indirect=True,
)
def test_every_figure_draws_and_the_console_stays_empty(opened: "tuple[Page, list[str]]") -> None:
    page, said = opened

    figures = page.query_selector_all("figure")
    boxes = [figure.eval_on_selector("svg", "svg => svg.getBBox().width * svg.getBBox().height") for figure in figures]
    marks = [len(figure.query_selector_all("svg path, svg use, svg image")) for figure in figures]
    too_wide = page.evaluate("document.scrollingElement.scrollWidth - window.innerWidth")
    ink, paper = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )

    assert said == []
    assert len(figures) >= 10 and min(boxes) > 0 and min(marks) > 5
    assert too_wide <= 0
    assert ink != paper


@pytest.mark.parametrize("opened", [{"width": 360}, {"width": 1440}], ids=["phone", "desk"], indirect=True)
def test_no_word_of_a_figure_is_cut(opened: "tuple[Page, list[str]]") -> None:
    page, _ = opened

    assert page.evaluate(CUT_WORDS) == []


def test_a_table_is_sorted_with_the_keyboard(opened: "tuple[Page, list[str]]") -> None:
    page, said = opened
    page.locator("details summary").first.press("Enter")
    head = page.locator("details table th button", has_text="seconds")

    head.focus()
    page.keyboard.press("Enter")
    down = _seconds(page)
    page.keyboard.press("Enter")
    up = _seconds(page)

    assert down == sorted(down, reverse=True) and up == sorted(up) and len(set(up)) > 1
    assert page.locator("details table th[aria-sort=ascending]").inner_text().startswith("seconds")
    assert said == []


def test_every_figure_has_words_for_who_cant_see_it(opened: "tuple[Page, list[str]]") -> None:
    page, _ = opened

    named = page.evaluate(
        "[...document.querySelectorAll('figure svg')].map(svg => "
        "document.getElementById(svg.getAttribute('aria-labelledby'))?.textContent ?? '')"
    )
    scrolled = page.evaluate("[...document.querySelectorAll('.scroll')].map(part => [part.tabIndex, part.ariaLabel])")

    assert named and all(len(text) > 20 for text in named)
    assert all(tab == 0 and label for tab, label in scrolled)


def _seconds(page: "Page") -> list[float]:
    cells = page.locator("details table tbody tr td:nth-child(6)").all_inner_texts()
    return [float(text) for text in cells]
