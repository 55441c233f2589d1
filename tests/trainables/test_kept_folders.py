"""Folders of the user's that variables name, and how much they may hold."""

from pathlib import Path

import pytest

from spaces.errors import UsageError
from trainables.data.kept_folders import kept_folder, most_bytes, users_folder


def test_folder_is_that_of_the_variable_else_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kept_folder("AFFECTUNE_X", Path("/kept")) == Path("/kept")

    monkeypatch.setenv("AFFECTUNE_X", " named ")

    assert kept_folder("AFFECTUNE_X", Path("/kept")) == Path("named").absolute()


@pytest.mark.parametrize("word", ["off", " OFF "])
def test_folder_is_none_when_it_is_switched_off(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFECTUNE_X", word)

    assert kept_folder("AFFECTUNE_X", Path("/kept")) is None


def test_users_folder_is_among_his_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert users_folder() == Path("/caches/affectune")

    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert users_folder() == Path.home() / ".cache" / "affectune"


@pytest.mark.parametrize("text", ["many", "-1", "inf", "nan"])
def test_size_is_refused_when_it_is_no_number_of_gigabytes(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFECTUNE_X_GB", text)

    with pytest.raises(UsageError, match=f"AFFECTUNE_X_GB must be a number of gigabytes from 0 up, got '{text}'"):
        most_bytes("AFFECTUNE_X_GB", 20.0)


def test_size_is_told_in_gigabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert most_bytes("AFFECTUNE_X_GB", 20.0) == 20 * 10**9

    monkeypatch.setenv("AFFECTUNE_X_GB", "0.5")

    assert most_bytes("AFFECTUNE_X_GB", 20.0) == 5 * 10**8
