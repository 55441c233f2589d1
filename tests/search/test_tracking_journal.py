"""The journal keeps every operation, over crashes, and knows how far each server has it."""

from pathlib import Path

import pytest

from search.tracking_journal import Journal, read_identity
from spaces.errors import SearchError, TrackingError

URI = "http://127.0.0.1:5000"


def _journal(folder: Path, *, uri: str = URI) -> Journal:
    return Journal(folder, experiment="faces", uri=uri)


def _tags(key: str) -> dict[str, object]:
    return {"op": "tags", "key": key, "tags": {}}


def test_journal_gives_back_what_was_appended_by_a_process_that_is_gone(tmp_path: Path) -> None:
    first = _journal(tmp_path)
    first.append(_tags("t0000"))
    first.append(_tags("t0001"))
    first.close()

    again = _journal(tmp_path)
    operations, end, n_lines = again.read(start=0, max_lines=10)

    assert [operation["key"] for operation in operations] == ["t0000", "t0001"]
    assert (n_lines, end) == (2, again.path.stat().st_size)
    assert again.n_waiting == 2
    assert again.search_id == first.search_id
    again.close()


def test_journal_goes_on_after_a_line_that_a_crash_tore(tmp_path: Path) -> None:
    first = _journal(tmp_path)
    first.append(_tags("t0000"))
    first.close()
    with first.path.open("a") as file:
        file.write('{"op":"tags","ke')

    again = _journal(tmp_path)
    again.append(_tags("t0001"))
    operations, _, n_lines = again.read(start=0, max_lines=10)

    assert [operation["key"] for operation in operations] == ["t0000", "t0001"]
    assert n_lines == 3
    again.close()


def test_journal_remembers_what_was_sent_for_each_server(tmp_path: Path) -> None:
    first = _journal(tmp_path)
    first.append(_tags("t0000"))
    _, end, n_lines = first.read(start=0, max_lines=10)
    first.sent(end=end, n_lines=n_lines)
    first.progress.set_run("t0000", "abc")
    first.close()

    same = _journal(tmp_path)
    assert (same.n_waiting, same.progress.runs) == (0, {"t0000": "abc"})
    same.close()
    other = _journal(tmp_path, uri="http://elsewhere:5000")
    assert (other.n_waiting, other.progress.runs) == (1, {})
    other.close()


def test_journal_refuses_a_second_writer(tmp_path: Path) -> None:
    journal = _journal(tmp_path)

    with pytest.raises(TrackingError, match=f"one process at a time: {tmp_path}"):
        _journal(tmp_path)

    journal.close()


def test_journal_knows_launches_and_runs_left_open(tmp_path: Path) -> None:
    journal = _journal(tmp_path)
    journal.append({"op": "start", "key": "search", "parent": None})
    journal.append({"op": "start", "key": "t0000", "parent": "search"})
    journal.append({"op": "start", "key": "t0001", "parent": "search"})
    journal.append({"op": "end", "key": "t0000"})

    keys = journal.keys()

    assert keys.launches == ["search"]
    assert keys.known == {"search", "t0000", "t0001"}
    assert keys.unfinished == {"search", "t0001"}
    journal.close()


def test_read_identity_says_where_there_is_no_journal(tmp_path: Path) -> None:
    with pytest.raises(SearchError, match=f"must hold a journal, got {tmp_path}"):
        read_identity(tmp_path)
