"""`affectune cache` shows what searches share on this machine, and empties it."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from search.cli import main
from trainables.data.table import FaceTable

if TYPE_CHECKING:
    from trainables.embeddings.cache import EmbeddingCache

YEAR_S = 365 * 86_400


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "EmbeddingCache":
    """The cache of the environment: a new entry, and one that was not used since 1970."""
    from trainables.embeddings.cache import EmbeddingCache
    from trainables.embeddings.key import EmbeddingKey

    monkeypatch.setenv("AFFECTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("AFFECTUNE_CACHE_GB", "2")
    filled = EmbeddingCache(tmp_path / "cache", max_bytes=10**9)
    for split, rows in (("train", 1000), ("valid", 100)):
        key = EmbeddingKey(
            "e", "resnet18", "{}", 48, 1, (0.5,), (0.2,), "0123456789abcdef", split, "plain", "", rows, 512, "float16",
            "cpu", "torch",
        )  # fmt: skip
        filled.fetch(key, lambda rows=rows: np.zeros((rows, 512), np.float16))  # type: ignore[misc]
    os.utime(filled.entries()[0].path, (YEAR_S, YEAR_S))
    return filled


def test_show_prints_an_entry_a_line_and_the_sum(cache: "EmbeddingCache", capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "show"]) == 0

    titles, new, old, total = capsys.readouterr().out.splitlines()
    assert titles.split() == ["backbone", "px", "table", "split", "view", "faces", "width", "size", "last", "used"]
    assert sorted(line.split()[:7] for line in (new, old)) == [
        ["resnet18", "48", "0123456789ab", "train", "plain", "1,000", "512"],
        ["resnet18", "48", "0123456789ab", "valid", "plain", "100", "512"],
    ]
    assert {line.split()[8] for line in (new, old)} == {"MB", "kB"}
    assert old.split()[-2].startswith("197")
    assert total == f"{cache.folder}: 2 entries, 1.1 MB of 2.0 GB"


def test_show_json_is_one_document(cache: "EmbeddingCache", capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "show", "--json"]) == 0

    document = json.loads(capsys.readouterr().out)
    assert (document["folder"], document["max_bytes"]) == (str(cache.folder), 2_000_000_000)
    assert document["bytes"] == sum(entry["bytes"] for entry in document["entries"])
    entry = document["entries"][-1]
    assert (entry["backbone"], entry["image_px"], entry["table"]) == ("resnet18", 48, "0123456789abcdef")
    assert (entry["dtype"], entry["width"], entry["used_s"]) == ("float16", 512, YEAR_S)


def test_show_says_which_file_is_broken(cache: "EmbeddingCache", capsys: pytest.CaptureFixture[str]) -> None:
    path = cache.entries()[0].path
    path.write_text("what is this")

    assert main(["cache", "show"]) == 0
    assert "(broken)" in capsys.readouterr().out
    assert main(["cache", "show", "--json"]) == 0
    broken = json.loads(capsys.readouterr().out)["entries"][0]
    assert (broken["backbone"], broken["file"]) == (None, str(path))


def test_empty_removes_all_and_says_how_much(cache: "EmbeddingCache", capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "empty"]) == 0

    assert capsys.readouterr().out == f"{cache.folder}: 2 entries removed, 1.1 MB\n"
    assert cache.entries() == []


def test_empty_removes_what_was_measured_of_gpus_too(
    cache: "EmbeddingCache", capsys: pytest.CaptureFixture[str]
) -> None:
    profiles = [cache.folder / "profiles" / f"{name}.json" for name in ("new", "old")]
    profiles[0].parent.mkdir()
    for profile in profiles:
        profile.write_text("{}")
    os.utime(profiles[1], (YEAR_S, YEAR_S))

    assert main(["cache", "empty", "--older-than", "30", "--json"]) == 0
    some = json.loads(capsys.readouterr().out)
    left = [profile.exists() for profile in profiles]
    assert main(["cache", "empty"]) == 0

    assert ((some["removed"], some["profiles"]), left) == ((1, 1), [True, False])
    assert "1 entry and 1 GPU profile removed, " in capsys.readouterr().out
    assert not profiles[0].exists()


def test_empty_can_leave_what_was_used_of_late(cache: "EmbeddingCache", capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "empty", "--older-than", "30", "--json"]) == 0

    assert json.loads(capsys.readouterr().out)["removed"] == 1
    assert len(cache.entries()) == 1


def test_copies_of_tables_are_shown_and_removed_unless_they_are_in_use(
    cache: "EmbeddingCache",
    face_table: FaceTable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from trainables.data.stores import FolderStore
    from trainables.data.table_copies import TableCopies

    monkeypatch.setenv("AFFECTUNE_TABLES", str(tmp_path / "tables"))
    user = TableCopies(tmp_path / "tables", max_bytes=10**9)
    path = user.fetch(FolderStore(face_table.path))
    begun = path.with_name("0123456789abcdef.begun")
    begun.mkdir()

    assert main(["cache", "show"]) == 0
    shown = capsys.readouterr().out.splitlines()[-4:]
    assert main(["cache", "show", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["tables"]
    assert main(["cache", "empty"]) == 0
    emptied = capsys.readouterr().out.splitlines()[-1]

    assert shown[0].split() == ["table", "copied", "from", "size", "last", "used"]
    assert any(line.split()[:2] == [path.name[:12], str(face_table.path)] for line in shown)
    assert any(line.startswith("0123456789ab (begun)  (not known)") for line in shown)
    assert shown[-1].startswith(f"{tmp_path / 'tables'}: 2 copies of tables, ")
    assert {(copy["table"], copy["is_whole"]) for copy in told["copies"]} == {
        (path.name, True),
        ("0123456789abcdef", False),
    }
    assert emptied == f"{tmp_path / 'tables'}: 1 copy of a table removed, 0 bytes; 1 in use stays"
    assert (path.is_dir(), begun.exists()) == (True, False)


@pytest.mark.parametrize("action", ["show", "empty"])
def test_cache_that_is_off_or_was_never_used_is_said_to_be(
    action: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AFFECTUNE_CACHE", "off")
    assert main(["cache", action]) == 0
    assert capsys.readouterr().out == "no embeddings are kept: AFFECTUNE_CACHE is off\n"

    monkeypatch.setenv("AFFECTUNE_CACHE", str(tmp_path / "none"))
    assert main(["cache", action]) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'none'}: 0 entries")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("words", "variables", "sentence"),
    [
        (["--older-than", "-1"], {}, "argument --older-than: must be 0 or more, got -1"),
        (
            [],
            {"AFFECTUNE_CACHE_GB": "20 GB"},
            "AFFECTUNE_CACHE_GB must be a number of gigabytes from 0 up, got '20 GB'",
        ),
    ],
    ids=["days", "bound"],
)
def test_wrong_words_leave_with_2_and_a_sentence(
    words: list[str],
    variables: dict[str, str],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert main(["cache", "empty", *words]) == 2
    assert sentence in capsys.readouterr().err
