"""A file of lines; what a full disk does to it is in tests/search/test_full_disk.py."""

from pathlib import Path

from trainables.line_file import LineFile


def test_line_that_a_killed_process_tore_is_ended_before_the_next_one(tmp_path: Path) -> None:
    (tmp_path / "lines").write_text("whole\nto")

    lines = LineFile(tmp_path / "lines")
    lines.hold("next\n")
    lines.flush()
    lines.close()

    assert (tmp_path / "lines").read_text() == "whole\nto\nnext\n"


def test_cleared_file_begins_anew(tmp_path: Path) -> None:
    lines = LineFile(tmp_path / "lines")
    lines.hold("old\n")
    lines.flush()
    lines.hold("held\n")

    lines.clear()
    lines.hold("new\n")
    lines.flush()
    lines.close()

    assert (tmp_path / "lines").read_text() == "new\n"
