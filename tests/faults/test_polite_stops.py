"""A search is asked to end: by Ctrl-C, by SIGTERM, and as Ray's jobs are stopped."""

import importlib.util
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from books import ask, read_manifest, read_records, wrongs_in_books
from clusters import Cluster
from measure import Row, Target, compare
from processes import stragglers, wait_until
from searches import EPOCH, MAIN, Command, Place

if TYPE_CHECKING:
    from conftest import Scale

EPOCHS = 6
TRIALS = {"small": 4, "full": 5}
STOPPED_S = 20.0
GRACE_S = 3.0
"""After which `ray job stop` kills what it has asked to end (ray.dashboard.modules.job.job_supervisor)."""

POLITE = '{"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "20"}}'
"""As docs/cluster.md has it."""


def ctrl_c(command: Command) -> None:
    """SIGINT to the whole process group, as a terminal sends it."""
    command.interrupt()


def sigterm(command: Command) -> None:
    """A polite kill of the driver."""
    command.process.send_signal(signal.SIGTERM)


def job_stop(command: Command) -> None:
    """SIGTERM, and SIGKILL where the driver is still there after Ray's grace."""
    command.process.send_signal(signal.SIGTERM)
    if command.run_for(GRACE_S):
        command.kill()


STOPS: dict[str, Callable[[Command], None]] = {"Ctrl-C": ctrl_c, "SIGTERM": sigterm, "a job's stop": job_stop}


@pytest.mark.faults
def test_search_that_is_asked_to_end_does_so_soon_and_can_be_resumed(
    place: Place, scale: "Scale", figures: Callable[[Row], None]
) -> None:
    n_trials = TRIALS[scale]
    command = place.search("asked", trials=n_trials, epochs=EPOCHS)

    for way, stop in STOPS.items():
        command.wait_for(EPOCH)
        took_s, code = until_ended(command, stop)
        figures(compare(f"{way}: until the search has ended", took_s, "s", target=Target(value_at_most=STOPPED_S)))
        assert took_s <= STOPPED_S
        if code != -signal.SIGKILL:  # else Ray's agents stay for a minute, and the books are left to `resume`
            manifest, records = read_manifest(place.storage / "asked"), read_records(place.storage / "asked")
            assert (code, manifest["status"]) == (130, "interrupted")
            assert [record["trial_id"] for record in records if record["end"] is None] == []
            assert stragglers(place.mark) == []
        command = place.resume("asked")
    command.finish()

    assert wrongs_in_books(place.storage / "asked", n_trials=n_trials) == []
    assert ask(place.storage / "mlflow.db", "select run_uuid from runs where status = 'RUNNING'") == []


def until_ended(command: Command, stop: Callable[[Command], None]) -> tuple[float, int]:
    """Ask a command to end; the seconds until it has, and its exit code."""
    asked_s = time.monotonic()
    stop(command)
    code = command.wait(timeout_s=60.0)
    return time.monotonic() - asked_s, code


@pytest.mark.faults
@pytest.mark.skipif(importlib.util.find_spec("aiohttp_cors") is None, reason="needs ray[default], whose jobs it stops")
def test_job_that_ray_stops_ends_soon_and_can_be_resumed(
    place: Place, scale: "Scale", figures: Callable[[Row], None]
) -> None:
    n_trials, cluster = TRIALS[scale], Cluster(place).start(cpus=[1, 1], jobs=True)
    words = ["search", str(place.write_space(EPOCHS)), "--data", str(place.table), "--name", "job",
             "--trials", str(n_trials), "--address", cluster.address]  # fmt: skip

    submitted = cluster.job("submit", "--no-wait", "--submission-id", "search", "--runtime-env-json", POLITE, "--",
                            sys.executable, "-c", MAIN, *words)  # fmt: skip
    wait_until(lambda: has_begun(place.storage / "job"), timeout_s=180.0, what="the job's first epoch")
    asked_s = time.monotonic()
    stopped = cluster.job("stop", "search")
    took_s = time.monotonic() - asked_s
    status = read_manifest(place.storage / "job")["status"]
    place.resume("job").finish()

    figures(compare("ray job stop: until the search has ended", took_s, "s", target=Target(value_at_most=STOPPED_S)))
    assert (submitted.returncode, stopped.returncode) == (0, 0), submitted.stdout + stopped.stdout
    assert took_s <= STOPPED_S
    assert status == "interrupted"
    assert wrongs_in_books(place.storage / "job", n_trials=n_trials) == []


def has_begun(folder: Path) -> bool:
    """Whether a search has told an epoch."""
    return folder.is_dir() and any(record["epochs"] for record in read_records(folder))
