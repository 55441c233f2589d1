"""A disk that is full for a while: what is written into a search's folder waits, and nothing is torn, lost or twice."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

LINES = """
import json
from pathlib import Path
from spaces.errors import OutputError
from trainables.line_file import LineFile

path, filler = Path("/mnt/lines"), Path("/mnt/filler")
lines = LineFile(path)
lines.hold("first\\n")
lines.flush()
filler.write_bytes(b"x" * 4096 * 15)  # of sixteen pages; the first has room left
told = []
for letter in "ab":
    lines.hold(letter * 6000 + "\\n")
    try:
        lines.flush()
    except OutputError as error:
        told.append((str(error), path.stat().st_size))
filler.unlink()
lines.hold("last\\n")
lines.flush()
print(json.dumps([told, path.read_text().splitlines()]))
"""

SEARCH = """
import json
from pathlib import Path
from search.disk_watch import DiskWatch
from search.folder import SearchFolder, TrialRecord
from search.sampler import StudySampler
from search.study_journal import StudyJournal, read_events
from search.tracking_journal import Journal
from spaces.errors import OutputError
from spaces.loading import parse_space
from trainables.patience import Patience

filler, said = Path("/mnt/filler"), []

def fill():
    try:
        with filler.open("wb", buffering=0) as file:
            while file.write(b"x" * 512):
                pass
    except OSError:
        pass

def hear(sentence):
    said.append(sentence)
    filler.unlink(missing_ok=True)  # somebody makes room

folder = SearchFolder(Path("/mnt/cut"), Patience(hear, retry_s=0.0))
sampler = StudySampler(parse_space("parameters: {optimiser.lr: {log_uniform: [1.0e-4, 1.0e-2]}}"))
record = TrialRecord("t0000", 0, values={}, config={}, error="before")
folder.write_record(record)
study = StudyJournal(folder.path / "study.jsonl", patience=folder.patience)
tracking = Journal(folder.tracking_dir, experiment="cut", uri="http://127.0.0.1:1")

fill()
try:
    tracking.append({"op": "tags", "key": "t0000", "tags": {"first": "x" * 6000}})
except OutputError as error:
    said.append(str(error))
for number in range(60):
    sampler.ask(f"t{number:04d}")
study.follow(sampler.events)
fill()
DiskWatch(folder, every_s=0.0, n_bytes=8192).look()
fill()
record.error = "after"
folder.write_record(record)
tracking.append({"op": "tags", "key": "t0000", "tags": {"second": "y"}})
study.close()
found, _, _ = tracking.read(start=0, max_lines=9)
left = sorted(path.name for path in folder.path.rglob("*") if path.suffix == ".partial" or path.name == "probe")
is_same = read_events(folder.path / "study.jsonl") == list(sampler.events)
print(json.dumps([said, [list(one["tags"]) for one in found], is_same, folder.read_records()[0].error, left]))
"""


@pytest.fixture
def small_disks() -> None:
    """Skip where this user may not have any."""
    probe = ["unshare", "--map-root-user", "--mount", "sh", "-c", "mount -t tmpfs none /mnt"]
    try:
        may = subprocess.run(probe, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        may = False
    if not may:
        pytest.skip("needs a user namespace with mounts (unshare), none is allowed here")


def run_on_a_small_disk(program: str) -> Any:
    """Run Python where /mnt is a disk of 64 kB, in a namespace of its own; the JSON that it prints."""
    script = 'mount -t tmpfs -o size=64k none /mnt && exec "$0" -c "$1"'
    words = ["unshare", "--map-root-user", "--mount", "sh", "-c", script, sys.executable, program]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(words, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def test_lines_that_a_full_disk_cut_are_completed_once_there_is_room(small_disks: None) -> None:
    told, lines = run_on_a_small_disk(LINES)

    assert [sentence for sentence, _ in told] == ["the disk is full, could not append to /mnt/lines"] * 2
    assert len("first\n") < told[0][1] < len("first\n") + 6000  # cut in the middle of a line
    assert lines == ["first", "a" * 6000, "b" * 6000, "last"]


def test_driver_waits_while_its_disk_is_full_and_then_has_written_all(small_disks: None) -> None:
    said, tracked, is_study_whole, record, left = run_on_a_small_disk(SEARCH)

    assert [sentence.split(",")[0] for sentence in said] == [
        "the disk is full",  # the tracking journal keeps what it could not write
        *["the disk is full", "the disk takes what waited for it"] * 3,
    ]
    assert said[1].startswith("the disk is full, could not append to /mnt/cut/study.jsonl; it is tried again for")
    assert said[3].startswith("the disk is full, could not write /mnt/cut/probe; nothing was left there; it is tried")
    assert said[5].startswith("the disk is full, could not write /mnt/cut/trials/t0000/trial.json; nothing was left")
    assert tracked == [["first"], ["second"]]
    assert (is_study_whole, record, left) == (True, "after", [])
