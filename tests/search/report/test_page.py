"""The report is one page that holds all it needs."""

import datetime
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from search.folder import SearchFolder
from search.report.facts import read_facts
from search.report.page import render_report
from search.report.speed import mark_front

NOW = datetime.datetime(2026, 11, 29, 12, 0)
SECTIONS = ("next", "leaderboard", "searched", "parameters", "training", "costs")


class Outline(HTMLParser):
    """What of a page can be counted: identifiers, what it refers to, its open elements."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.refers: list[str] = []
        self.tags: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            self.ids += [value or ""] if name == "id" else []
            if name in ("href", "src", "xlink:href"):
                self.refers.append(value or "")


def test_page_needs_no_network_and_every_identifier_stands_once(made_search: Callable[..., SearchFolder]) -> None:
    page = render_report(read_facts(made_search(n_trials=40)), now=NOW)

    outline = Outline(page)
    assert [each for each in outline.refers if not each.startswith(("#", "data:"))] == []
    assert len(outline.ids) == len(set(outline.ids))
    assert {each[1:] for each in outline.refers if each.startswith("#")} <= set(outline.ids)
    assert set(SECTIONS) <= set(outline.ids)
    assert "@import" not in page and "Report of 2026-11-29 12:00" in page


def test_colours_follow_the_theme_and_figures_are_told_in_words(made_search: Callable[..., SearchFolder]) -> None:
    page = render_report(read_facts(made_search(n_trials=40)), now=NOW)

    figures = re.findall(r"<figure.*?</figure>", page, flags=re.DOTALL)
    assert len(figures) >= 8
    for figure in figures:
        assert "var(--" in figure and "#1b1f25" not in figure
        (said,) = re.findall(r'<figcaption id="[\w-]+-says">([^<]+)</figcaption>', figure)
        assert len(said) > 20
    assert "prefers-color-scheme: dark" in page


def test_page_says_what_was_found_and_that_it_flatters(made_search: Callable[..., SearchFolder]) -> None:
    facts = read_facts(made_search(n_trials=40))

    page = render_report(facts, now=NOW)

    assert facts.best is not None
    assert f"The best of 40 trials, {facts.best.trial_id}, has {facts.best.best_macro_f1:.4f}" in page
    assert "the best of many on the faces it was chosen by" in page
    assert "All 40 trials" in page and "CUDA error 5: out of luck" in page
    assert "saved about" in page and "optimiser.lr" in page


def test_words_of_a_search_stay_words(made_search: Callable[..., SearchFolder]) -> None:
    folder = made_search(n_trials=12)
    record = folder.read_records()[5]
    record.error = "<script>alert(1)</script>"
    folder.write_record(record)

    page = render_report(read_facts(folder), now=NOW)

    assert "<script>alert" not in page and "&lt;script&gt;alert(1)" in page


@pytest.mark.parametrize("n_trials", [0, 1, 2, 6], ids=["none", "the default alone", "two", "with a failure"])
def test_page_of_a_search_that_has_hardly_begun_is_whole(
    n_trials: int, made_search: Callable[..., SearchFolder]
) -> None:
    page = render_report(read_facts(made_search(n_trials=n_trials, status="running")), now=NOW)

    assert set(SECTIONS) <= set(Outline(page).ids)
    assert "Too few trials were scored" in page
    assert ("No trial was scored yet." in page) == (n_trials == 0)


def test_trials_that_are_beaten_in_score_and_time_are_off_the_front(made_search: Callable[..., SearchFolder]) -> None:
    records = made_search(n_trials=5).read_records()[:4]
    scores, times = (0.5, 0.6, 0.55, 0.6), (1.0, 2.0, 3.0, 2.0)
    trials = [replace(record, best_macro_f1=score) for record, score in zip(records, scores, strict=True)]

    front = [one.record.trial_id for one in mark_front(list(zip(trials, times, strict=True))) if one.is_on_front]

    assert front == ["t0000", "t0001"]
