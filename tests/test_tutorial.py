"""The tutorial, command by command, as a newcomer types it."""

import re
import shlex
from pathlib import Path

import pytest

from search.cli import main

PAGE = Path(__file__).resolve().parents[1] / "docs" / "tutorial.md"


def commands() -> list[list[str]]:
    blocks = re.findall(r"^```console\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("$ affectune ")]
    return [shlex.split(line.removeprefix("$ affectune ")) for line in lines]


@pytest.mark.ray
@pytest.mark.slow
def test_every_command_of_the_tutorial_does_what_the_page_says(
    ray_local: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("search.trial_pages.CLOSE_S", 0.0)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AFFECTUNE_STORAGE", raising=False)

    said = {}
    for words in commands():
        assert main(words) == 0, shlex.join(words)
        said[" ".join(words[:2])] = capsys.readouterr().out

    assert len(said) == 11
    assert (tmp_path / "faces.png").is_file() and (tmp_path / "runs" / "first" / "report.html").is_file()
    assert "t0000 started    the default" in said["search core"]
    assert "ended" in said["status first"]
    assert "valid  optimism" in said["ensemble first"]
    assert "macro-F1" in said["evaluate model"] and "faces.png" in said["predict model"]
