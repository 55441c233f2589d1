"""How many processes the kernel has ended for want of memory."""

from pathlib import Path

import pytest

from trainables import host_memory
from trainables.host_memory import n_oom_kills


@pytest.fixture
def counters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    files = (tmp_path / "vmstat", tmp_path / "memory.events")
    monkeypatch.setattr(host_memory, "COUNTERS", files)
    return files


def test_kills_are_read_from_the_machine_and_the_container(counters: tuple[Path, Path]) -> None:
    counters[0].write_text("nr_free_pages 7\noom_kill 3\n")
    counters[1].write_text("oom 9\noom_kill 5\noom_group_kill 8\n")

    assert n_oom_kills() == 5


@pytest.mark.parametrize("text", [None, "", "oom_kill\n", "oom_kill many\n"], ids=["none", "empty", "short", "words"])
def test_kills_are_none_where_nothing_is_known(counters: tuple[Path, Path], text: str | None) -> None:
    if text is not None:
        counters[0].write_text(text)

    assert n_oom_kills() == 0
