"""Nodes that have something else than the driver are refused, with what differs."""

import json
from pathlib import Path
from typing import Any

import pytest

from search.environment import MARK_FILE, compare, look_around
from spaces.errors import SearchError

TABLE_HASH = "ab12cd34ef56ab78"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    folder = tmp_path / "faces"
    folder.mkdir()
    (folder / "dataset.json").write_text(json.dumps({"content_hash": TABLE_HASH}))
    return folder


@pytest.fixture
def marked(tmp_path: Path) -> Path:
    folder = tmp_path / "marked"
    folder.mkdir()
    (folder / MARK_FILE).write_text("77")
    return folder


def check(seen: dict[str, Any], table: Path | None) -> None:
    compare(seen, node="gpu-7", mark="77", folder=Path("/runs/a"), table=table, table_hash=TABLE_HASH)


def test_node_that_has_the_same_is_taken(marked: Path, table: Path) -> None:
    check(look_around(str(marked), str(table)), table)


def test_table_is_not_looked_at_where_nodes_fetch_it(marked: Path) -> None:
    check(look_around(str(marked), None), None)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("torch", r"^torch must be the same on every node, got 0.9 there and .* here: gpu-7; .* constraints.txt$"),
        ("Python", r"^Python must be the same on every node, got 0.9 there and 3.* here: gpu-7; "),
        (
            "code",
            r"^code of spaces and trainables must be the same on every node, got 0.9 there .*; update the checkout",
        ),
    ],
)
def test_node_with_another_version_is_refused(marked: Path, table: Path, name: str, sentence: str) -> None:
    seen = look_around(str(marked), str(table))
    seen["environment"][name] = "0.9"

    with pytest.raises(SearchError, match=sentence):
        check(seen, table)


def test_node_without_a_library_is_refused(marked: Path, table: Path) -> None:
    seen = look_around(str(marked), str(table))
    del seen["environment"]["timm"]

    with pytest.raises(SearchError, match="timm must be the same on every node, got none there"):
        check(seen, table)


@pytest.mark.parametrize(("mark", "got"), [(None, "none"), ("66", "another")])
def test_node_with_another_storage_is_refused(marked: Path, table: Path, mark: str | None, got: str) -> None:
    seen = {**look_around(str(marked), str(table)), "mark": mark}

    with pytest.raises(SearchError, match=f"storage must be the same folder on every node, got {got} there: gpu-7, /r"):
        check(seen, table)


def test_node_that_may_not_write_is_refused(marked: Path, table: Path) -> None:
    seen = {**look_around(str(marked), str(table)), "may_write": False}

    with pytest.raises(SearchError, match="storage must be writable on every node, got one that is not: gpu-7"):
        check(seen, table)


def test_node_with_another_table_is_refused(marked: Path, table: Path) -> None:
    (table / "dataset.json").write_text(json.dumps({"content_hash": "00112233445566"}))

    with pytest.raises(SearchError, match=r"table must be .*, got 001122334455 there and ab12cd34ef56 here: gpu-7"):
        check(look_around(str(marked), str(table)), table)


def test_node_without_the_table_is_refused(marked: Path, tmp_path: Path) -> None:
    with pytest.raises(
        SearchError, match=r"face table must be the same on every node, got none there: gpu-7, .*away; "
    ):
        check(look_around(str(marked), str(tmp_path / "away")), tmp_path / "away")
