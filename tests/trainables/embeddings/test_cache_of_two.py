"""Two processes want the same embeddings: one computes; where it is killed, the other takes over."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from trainables.budget import OutOfTime
from trainables.embeddings.cache import EmbeddingCache
from trainables.embeddings.key import EmbeddingKey
from trainables.embeddings.turns import one_at_a_time

MakeKey = Callable[..., EmbeddingKey]
Start = Callable[..., "subprocess.Popen[str]"]

ROOT = Path(__file__).resolve().parents[3]
ROWS, WIDTH = 50, 24

PROCESS = """
import os, sys, time
from pathlib import Path
import numpy as np
from trainables.embeddings import cache as module
from trainables.embeddings.key import EmbeddingKey

folder, name, computes_s, writes_s = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
key = EmbeddingKey(
    "e0", "test_efficientnet", "{}", 32, 1, (0.5,) * 3, (0.25,) * 3, "t0", "train", "plain", "", 50, 24, "float16",
    "cpu", "torch 2",
)
write_entry = module.write_entry

def compute():
    (folder / f"{name} computes").touch()
    time.sleep(computes_s)
    return np.full((50, 24), 1 if name == "first" else 2, np.float16)

def write_slowly(path, *rest):
    write_entry(path, *rest)
    os.truncate(path, 1000)
    (folder / f"{name} writes").touch()
    time.sleep(writes_s)
    write_entry(path, *rest)

module.write_entry = write_slowly
(folder / f"{name} starts").touch()
print(module.EmbeddingCache(folder / "cache", max_bytes=10**6).fetch(key, compute)[0, 0])
"""


def wait_for(path: Path) -> None:
    deadline_s = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline_s, f"{path.name}: has not come"
        time.sleep(0.01)


def left_in(folder: Path) -> list[str]:
    """Files of the cache but for entries."""
    return [path.name for path in (folder / "cache" / "embeddings").iterdir() if path.suffix != ".arrow"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a process that wants the embeddings: `start("first", computes_s=, writes_s=)`."""
    started: list[subprocess.Popen[str]] = []

    def begin(name: str, *, computes_s: float = 0.0, writes_s: float = 0.0) -> "subprocess.Popen[str]":
        words = [sys.executable, "-c", PROCESS, str(tmp_path), name, str(computes_s), str(writes_s)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        started.append(subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def test_second_process_waits_and_maps_what_the_first_computed(tmp_path: Path, start: Start) -> None:
    first = start("first", computes_s=1.0)
    wait_for(tmp_path / "first computes")
    second = start("second")

    said = [process.communicate(timeout=60)[0].strip() for process in (first, second)]

    assert said == ["1.0", "1.0"]
    assert not (tmp_path / "second computes").exists()
    assert left_in(tmp_path) == []


def test_whoever_waits_for_another_process_gives_up_when_its_time_is_over(
    tmp_path: Path,
) -> None:
    path = tmp_path / "some.lock"
    with one_at_a_time(path), pytest.raises(OutOfTime), one_at_a_time(path, until_s=time.time() + 0.3):
        pytest.fail("the lock was held twice")

    with one_at_a_time(path, until_s=time.time() + 60) as is_held:
        assert is_held
    assert not path.exists()


@pytest.mark.parametrize(("moment", "computes_s", "writes_s"), [("computes", 60.0, 0.0), ("writes", 0.0, 60.0)])
def test_second_process_takes_over_where_the_first_is_killed(
    tmp_path: Path, start: Start, moment: str, computes_s: float, writes_s: float
) -> None:
    first = start("first", computes_s=computes_s, writes_s=writes_s)
    wait_for(tmp_path / f"first {moment}")
    second = start("second")
    wait_for(tmp_path / "second starts")
    time.sleep(0.3)  # it waits for the lock by now
    assert second.poll() is None and not (tmp_path / "second computes").exists()

    first.send_signal(signal.SIGKILL)
    said, _ = second.communicate(timeout=60)

    assert said.strip() == "2.0"
    assert left_in(tmp_path) == []


def test_killed_computation_that_nobody_waits_for_is_made_up_for_by_the_next(
    tmp_path: Path, start: Start, make_key: MakeKey
) -> None:
    first = start("first", writes_s=60.0)
    wait_for(tmp_path / "first writes")
    first.kill()
    first.wait()
    assert len(left_in(tmp_path)) == 3  # half a file and two locks that nobody holds

    cache = EmbeddingCache(tmp_path / "cache", max_bytes=10**6)
    found = cache.fetch(make_key(), lambda: np.full((ROWS, WIDTH), 3, np.float16))

    assert found[0, 0] == 3
    assert left_in(tmp_path) == []


def test_many_processes_compute_once(tmp_path: Path, start: Start) -> None:
    processes = [start(f"number {i}", computes_s=0.2) for i in range(4)]

    said = {process.communicate(timeout=60)[0].strip() for process in processes}

    assert said == {"2.0"}
    assert len(list(tmp_path.glob("* computes"))) == 1
    assert left_in(tmp_path) == []
