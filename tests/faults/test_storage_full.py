"""The disk under a search is full for a while."""

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from books import read_records, wrongs_in_books
from measure import Row, Target, compare
from searches import EPOCH, Command, Place

if TYPE_CHECKING:
    from conftest import Scale

EPOCHS = 5
TRIALS = {"small": 8, "full": 12}
FULL_S = {"small": 30.0, "full": 60.0}
DISK, FILLER = "48m", "filler"
SAYS_SO = r"it is tried again for|^affectune: .*disk is full"
"""A line of a search that waits for its disk, or of one that ended; MLflow's own complaints do not count."""


@pytest.fixture
def disk(place: Place) -> Iterator[Path]:
    """A small disk of its own for the storage."""
    place.storage.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=0755", "tmpfs", str(place.storage)]
    try:
        mounted = subprocess.run(words, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("needs mount, there is none")
    if mounted.returncode:
        pytest.skip(f"needs to mount a small disk, got {mounted.stderr.strip()}")
    yield place.storage
    subprocess.run(["umount", "--lazy", str(place.storage)], check=True)


@pytest.mark.faults
def test_search_whose_disk_is_full_says_so_and_goes_on(
    place: Place, disk: Path, scale: "Scale", figures: Callable[[Row], None]
) -> None:
    n_trials = TRIALS[scale]
    command = place.search("tight", trials=n_trials, epochs=EPOCHS)
    command.wait_for(EPOCH)

    full_since_s = time.monotonic()
    still_runs = keep_full(disk / FILLER, command, seconds=FULL_S[scale])
    broken = broken_documents(disk / "tight")
    said = command.text
    (disk / FILLER).unlink()
    freed_s = time.monotonic()
    n_resumed = go_on(place, command)
    seconds_after_s = time.monotonic() - freed_s

    records = read_records(disk / "tight")
    ended = sum(record["end"] in ("completed", "stopped") for record in records)
    how = "it waits" if still_runs else "it ends"
    figures(compare(f"storage full for {FULL_S[scale]:.0f} s ({how}): trials that end", ended, f"of {n_trials}",
                    target=Target(value_at_least=n_trials)))  # fmt: skip
    figures(
        compare("documents that could not be read while it was full", len(broken), "", target=Target(value_at_most=0))
    )
    print(f"full for {freed_s - full_since_s:.0f} s, ended {seconds_after_s:.0f} s later, resumed {n_resumed} times")
    assert broken == []
    assert "Traceback" not in command.text
    assert re.search(SAYS_SO, said, re.MULTILINE), said[-3000:]
    assert wrongs_in_books(disk / "tight", n_trials=n_trials) == []


def keep_full(filler: Path, command: Command, *, seconds: float) -> bool:
    """Take all that is left of a disk, and what becomes free, for so long; whether the command still runs then."""
    until_s = time.monotonic() + seconds
    with filler.open("wb", buffering=0) as file:
        while command.is_running and time.monotonic() < until_s:
            for size in (2**20, 2**12):
                with suppress(OSError):
                    while file.write(bytes(size)) == size:
                        continue
            time.sleep(0.1)
    return command.is_running


def broken_documents(folder: Path) -> list[str]:
    """What of a search's JSON can't be read. Ray Tune's own snapshots, which nobody reads, may be torn."""
    files = (file for file in folder.glob("**/*.json") if not file.relative_to(folder).parts[0].startswith("tune-"))
    return [str(file.relative_to(folder)) for file in files if not is_json(file)]


def is_json(file: Path) -> bool:
    """Whether a file holds a document."""
    try:
        json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:  # replaced or swept meanwhile
        return True
    except ValueError:
        return False
    return True


def go_on(place: Place, command: Command) -> int:
    """Wait for the end of a search that paused, or resume one that said so and ended; how often it was resumed."""
    if command.wait() == 0:
        return 0
    place.resume("tight").finish()
    return 1
