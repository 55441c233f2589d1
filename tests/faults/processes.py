"""Processes that a test started, found by a mark in their environment, whoever their parent is by now."""

import os
import signal
import socket
import time
import uuid
from collections.abc import Callable, Iterable

import psutil

MARK = "AFFECTUNE_FAULTS"
"""The environment variable that all processes of a place inherit; its value is the place's own."""

NODE_MARK = "AFFECTUNE_FAULTS_NODE"
"""Likewise, of one Ray node."""

TRAINING = ("ray::ResourceTrainable", "ray::Trial")
"""How the titles of processes begin that run trials."""

LINGERING_S = 90.0
"""Ray's agents stay for a minute when what they served was killed."""


def new_mark() -> str:
    """A value that no other test has."""
    return uuid.uuid4().hex


def marked(value: str, *, name: str = MARK) -> list[psutil.Process]:
    """Processes alive whose environment has this mark; what is dead and only not reaped yet is left out."""
    return [process for process in psutil.process_iter() if _has_mark(process, name, value)]


def _has_mark(process: psutil.Process, name: str, value: str) -> bool:
    try:
        return process.environ().get(name) == value and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, OSError):
        return False


def trial_workers(value: str, *, name: str = MARK) -> list[psutil.Process]:
    """Of them those that train trials, or are about to; Ray names its processes by what they do."""
    return [process for process in marked(value, name=name) if title_of(process).startswith(TRAINING)]


def title_of(process: psutil.Process) -> str:
    """The command line, which a Ray worker changes as it goes; empty where the process has gone."""
    try:
        return " ".join(process.cmdline())
    except (psutil.Error, OSError):
        return ""


def kill(processes: Iterable[psutil.Process]) -> None:
    """SIGKILL to each by its pid; one that has gone is left in peace."""
    for process in processes:
        try:
            process.send_signal(signal.SIGKILL)
        except (psutil.Error, OSError):
            continue


def end_all(value: str, *, name: str = MARK, timeout_s: float = 30.0) -> None:
    """Kill what has the mark until nothing of it is left: what dies may just have started another."""
    until_s = time.monotonic() + timeout_s
    while left := marked(value, name=name):
        assert time.monotonic() < until_s, f"processes must end by SIGKILL, got {left}"
        kill(left)
        time.sleep(0.1)


def stragglers(value: str, *, timeout_s: float = LINGERING_S) -> list[str]:
    """What is still alive with the mark after at most so long, in words."""
    until_s = time.monotonic() + timeout_s
    while (left := marked(value)) and time.monotonic() < until_s:
        time.sleep(0.5)
    return [f"{process.pid} {title_of(process)[:80]}" for process in left]


def wait_until(is_so: Callable[[], object], *, timeout_s: float, what: str, every_s: float = 0.1) -> float:
    """Wait for something to be so, which must not take longer than told; returns the seconds that it took."""
    began_s = time.monotonic()
    while not is_so():
        waited_s = time.monotonic() - began_s
        assert waited_s < timeout_s, f"{what} must happen within {timeout_s:g} s, waited {waited_s:.0f}"
        time.sleep(every_s)
    return time.monotonic() - began_s


def free_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def clean_environment() -> dict[str, str]:
    """This process's environment without what its own Ray or test run put there."""
    strange = ("RAY_", "AFFECTUNE_", "MLFLOW_", "PYTEST_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(strange)}
    return {**kept, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "SPT_NOENV": "1"}
