"""JSON documents: what was written comes back as the object it was, all else gets a sentence."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from spaces.documents import parse_document, read_document, read_file
from spaces.errors import DataError, SearchError


@dataclass(frozen=True)
class Note:
    """Something that is written down."""

    title: str
    pages: tuple[int, ...]
    weight: float = 1.0


def parse(content: str | bytes, **options: Any) -> Note:
    return parse_document(content, Note, where="shelf/note.json", error=DataError, **options)


def test_document_comes_back_as_the_object_it_was(tmp_path: Path) -> None:
    (tmp_path / "note.json").write_text('{"title": "a", "pages": [1, 2], "weight": 3}')

    assert read_document(tmp_path / "note.json", Note, error=DataError) == Note("a", (1, 2), 3.0)


@pytest.mark.parametrize(
    ("content", "got"),
    [
        ("{", r"note\.json must be JSON, got something else: shelf/note\.json"),
        ("[" * 100_000, r"note\.json must be JSON, got something else"),
        (b"\xff", r"note\.json must be JSON, got something else"),
        ("[]", r"got document \[\] \(input should be an object\)"),
        ('{"title": "a"}', "got none of the name 'pages'"),
        ('{"title": "a", "pages": [1, "2"]}', r"got pages\.1 '2' \(input should be a valid integer\)"),
        ('{"title": "a", "pages": [], "mood": 1}', r"got 'mood' too: shelf/note\.json; update affectune"),
    ],
    ids=["torn", "deep", "bytes", "kind", "missing", "type", "newer"],
)
def test_document_of_another_make_is_refused(content: str | bytes, got: str) -> None:
    with pytest.raises(DataError, match=got):
        parse(content)


def test_document_may_hold_more_where_that_is_said() -> None:
    content = '{"title": "a", "pages": [], "mood": 1}'

    assert parse(content, beside=("mood",)) == parse(content, beside=None) == Note("a", ())


def test_file_that_is_a_pipe_or_a_folder_or_missing_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")

    for name, got in (("pipe.json", "no file"), (".", "a folder"), ("none.json", "nothing there")):
        with pytest.raises(SearchError, match=f"must be a file, got {got}"):
            read_file(tmp_path / name, error=SearchError)
