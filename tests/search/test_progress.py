"""The bars of long work."""

import pytest

from search.progress import progress_bars


def test_bars_are_silent_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bars() as told:
        share = told("looking at faces")
        share(0.5)
        share(1.0)

    assert capsys.readouterr() == ("", "")
