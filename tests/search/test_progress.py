"""The bars of long work."""

import io

import pytest
from rich.console import Console

from search import progress
from search.progress import progress_bars, waiting


def test_bars_are_silent_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bars() as told, waiting("for something"):
        share = told("looking at faces")
        share(0.5)
        share(1.0)

    assert capsys.readouterr() == ("", "")


def test_terminal_shows_what_is_waited_for_and_is_clean_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80)
    monkeypatch.setattr(progress, "Console", lambda **_: console)

    with waiting("starting Ray"):
        pass

    assert "starting Ray" in screen.getvalue()
    assert screen.getvalue().rstrip().endswith("\x1b[2K")
