"""The face table that a user names."""

from collections.abc import Callable
from pathlib import Path

import pytest

from search.named_table import late_bar, open_named_table
from spaces.errors import DataError, UsageError
from trainables.data.table import FaceTable


def test_table_is_opened_where_it_is_when_a_folder_is_named(face_table: FaceTable) -> None:
    table = open_named_table(face_table.path)

    assert (table.path, table.origin) == (face_table.path, str(face_table.path))


def test_table_behind_a_uri_is_opened_as_a_copy(
    face_table: FaceTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFFECTUNE_TABLES", str(tmp_path))

    table = open_named_table(f"file://{face_table.path}")

    assert (table.path, table.origin) == (tmp_path / face_table.info.content_hash, f"file://{face_table.path}")


def test_uri_is_refused_when_copies_are_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFECTUNE_TABLES", "off")

    with pytest.raises(
        UsageError, match="AFFECTUNE_TABLES must name a folder where a face table is a URI, got none: s3:"
    ):
        open_named_table("s3://faces/toy?region=x")


def test_uri_of_a_folder_without_a_table_is_refused(tmp_path: Path) -> None:
    sentence = rf"face table must be a folder with dataset\.json, got a folder without it: {tmp_path}; `affectune data"

    with pytest.raises(DataError, match=sentence):
        open_named_table(f"file://{tmp_path}")


def test_bar_is_begun_when_the_work_has_taken_a_moment() -> None:
    told: list[str | float] = []
    seconds = iter([0.0, 1.0, 3.0, 4.0])

    def begin(step: str) -> Callable[[float], None]:
        told.append(step)
        return told.append

    tell = late_bar(begin, "copying", clock=lambda: next(seconds))
    for share in (0.1, 0.5, 0.9):
        tell(share)

    assert told == ["copying", 0.5, 0.9]
