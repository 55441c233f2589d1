"""Where searches are kept."""

import re
from pathlib import Path

import pytest

from search.folder import SearchFolder, SearchManifest
from search.storage import create_folder, default_storage, open_folder, storage_words
from spaces.errors import OutputError, SearchError, UsageError

MANIFEST = SearchManifest(
    name="first", data="/faces", content_hash="abc", classes=("anger", "fear"), seed=3, n_trials=5, time_budget_s=None,
    tracking_uri="sqlite:////mlflow.db",
)  # fmt: skip


def make_search(storage: Path, name: str) -> SearchFolder:
    folder = create_folder(storage, name)
    folder.write_manifest(MANIFEST)
    return folder


@pytest.mark.parametrize("name", ["a/b", "", "..", ".hidden", "ä", "x" * 65, "a b"])
def test_name_is_refused_when_it_is_no_plain_word(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=re.escape(repr(name))):
        create_folder(tmp_path, name)


def test_name_is_refused_when_it_is_taken(tmp_path: Path) -> None:
    make_search(tmp_path, "first")

    with pytest.raises(SearchError, match="search 'first' is there already"):
        create_folder(tmp_path, "first")


def test_folder_is_refused_when_it_holds_something_else(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "diary.txt").touch()

    with pytest.raises(SearchError, match="must be new or empty"):
        create_folder(tmp_path, "first")


def test_storage_is_refused_when_it_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(OutputError, match=r"storage must be a folder that can be written, got .*file"):
        create_folder(tmp_path / "file", "first")


def test_new_folder_is_not_made_before_something_is_written(tmp_path: Path) -> None:
    create_folder(tmp_path / "runs", "first")

    assert not (tmp_path / "runs").exists()


def test_search_is_offered_when_the_name_is_nearly_right(tmp_path: Path) -> None:
    make_search(tmp_path, "first")

    with pytest.raises(SearchError, match="did you mean 'first'"):
        open_folder(tmp_path, "frist")


def test_storage_is_said_to_be_empty_when_it_holds_no_search(tmp_path: Path) -> None:
    with pytest.raises(SearchError, match=r"got 'first'.*it holds none"):
        open_folder(tmp_path / "none", "first")


def test_storage_is_what_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFECTUNE_STORAGE", "/elsewhere")
    assert default_storage() == Path("/elsewhere")

    monkeypatch.delenv("AFFECTUNE_STORAGE")
    assert default_storage() == Path("runs")


@pytest.mark.parametrize("name", ["../first", "first/..", "x" * 5000])
def test_search_is_found_by_a_plain_name_alone(tmp_path: Path, name: str) -> None:
    make_search(tmp_path, "first")

    with pytest.raises(SearchError, match="search must be in the storage, got"):
        open_folder(tmp_path / "first", name)


def test_commands_need_no_word_on_the_default_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AFFECTUNE_STORAGE", raising=False)

    assert storage_words(tmp_path / "runs") == ""
    assert storage_words(tmp_path / "my runs") == f" --storage '{tmp_path}/my runs'"
