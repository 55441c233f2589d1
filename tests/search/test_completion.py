"""A shell completes commands, options and names of searches."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from search.cli import build_parser
from search.completion import SHELLS, completion_script


def complete(script: Path, words: list[str], *, where: Path) -> list[str]:
    """What bash offers for the last of some words."""
    program = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
$(complete -p affectune | sed 's/.*-F \\([^ ]*\\).*/\\1/') affectune "${COMP_WORDS[COMP_CWORD]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""
    ended = subprocess.run(
        ["bash", "-c", program, "bash", script, "affectune", *words],
        cwd=where, env={**os.environ, "AFFECTUNE_STORAGE": "kept"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return ended.stdout.split()


@pytest.fixture
def bash_script(tmp_path: Path) -> Path:
    """The script for bash; skipped where there is none."""
    if shutil.which("bash") is None:
        pytest.skip("needs bash, there is none")
    file = tmp_path / "completion.bash"
    file.write_text(completion_script(build_parser(), "bash"), encoding="utf-8")
    return file


def test_bash_completes_commands_and_options(bash_script: Path, tmp_path: Path) -> None:
    assert {"search", "resume", "report"} <= set(complete(bash_script, [""], where=tmp_path))
    assert complete(bash_script, ["repo"], where=tmp_path) == ["report"]
    assert "--time-budget" in complete(bash_script, ["search", "--ti"], where=tmp_path)


def test_bash_completes_the_names_of_searches(bash_script: Path, tmp_path: Path) -> None:
    for name in ("faces", "fer6", "other"):
        (tmp_path / "kept" / name).mkdir(parents=True)
        (tmp_path / "kept" / name / "search.json").touch()
    (tmp_path / "kept" / "fancy").mkdir()

    assert sorted(complete(bash_script, ["status", "f"], where=tmp_path)) == ["faces", "fer6"]


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_gets_a_script_that_it_can_read(shell: str, tmp_path: Path) -> None:
    file = tmp_path / "script"
    file.write_text(completion_script(build_parser(), shell), encoding="utf-8")

    assert "_affectune_searches" in file.read_text(encoding="utf-8")
    if shutil.which(shell):
        subprocess.run([shell, "-n", file], check=True)
