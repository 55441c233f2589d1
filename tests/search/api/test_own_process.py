"""A command in a process of its own: what it prints is kept, and its complaint is found."""

import time
from pathlib import Path

import pytest

from search.api.own_process import OwnProcess
from search.checkout import CHECKOUT


def run(tmp_path: Path, *words: str) -> OwnProcess:
    process = OwnProcess(words, tmp_path / "logs" / "a.log")
    until_s = time.monotonic() + 60
    while process.exit_code is None and time.monotonic() < until_s:
        time.sleep(0.05)
    return process


def test_command_is_run_and_what_it_printed_is_kept(tmp_path: Path) -> None:
    process = run(tmp_path, "--version")

    assert process.exit_code == 0
    assert process.text.startswith("affectune ")


def test_second_command_of_a_log_has_its_own_words_alone(tmp_path: Path) -> None:
    run(tmp_path, "--version")

    process = run(tmp_path, "status", "nobody", f"--storage={tmp_path}")

    assert "affectune 0" not in process.text
    assert (process.log.read_text().count("\n")) > process.text.count("\n")


@pytest.mark.parametrize("words", [("status", "nobody"), ("spaces", "show", "cor")])
def test_complaint_is_the_sentence_of_the_command(tmp_path: Path, words: tuple[str, ...]) -> None:
    process = run(tmp_path, *words)

    assert process.exit_code in (1, 2)
    assert "got" in process.complaint and "\n" not in process.complaint
    assert not process.complaint.startswith("affectune:")


def test_command_is_the_one_of_this_checkout() -> None:
    assert (CHECKOUT / "search" / "cli.py").is_file() and (CHECKOUT / "setup.cfg").is_file()
