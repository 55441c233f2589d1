"""Searches of a test, each a command in a process group of its own, as a user's shell would start it."""

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from processes import MARK, clean_environment, kill, marked, new_mark, wait_until

ROOT = Path(__file__).resolve().parents[2]
MAIN = "import sys; from search.cli import main; sys.exit(main())"
SPACE = """
name: faults
description: a tiny network, whose trials take some seconds and all about as long
parameters:
  optimiser.lr: {{log_uniform: [1.0e-3, 1.0e-2], default: 3.0e-3}}
  loss.label_smoothing: {{uniform: [0.0, 0.5], default: 0.1}}
fixed:
  model.backbone: test_efficientnet
  model.weights: none
  model.image_px: 32
  train.batch_size: 16
  train.epochs: {epochs}
"""
LONG_S = 600.0
STARTED = re.compile(r"(t\d{4}) started ")
EPOCH = re.compile(r"(t\d{4}) epoch (\d+)/")


@dataclass
class Command:
    """A command of ours that was started, and what it printed so far.

    Attributes:
        process: the driver; it leads a process group.
        log: what it prints, both streams.
        began_s: when it was started, by the monotonic clock.
    """

    process: "subprocess.Popen[bytes]"
    log: Path
    began_s: float = field(default_factory=time.monotonic)

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    @property
    def text(self) -> str:
        """What it printed so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def wait(self, timeout_s: float = LONG_S) -> int:
        """Its exit code, once it has ended."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"command must end within {timeout_s:g} s, printed:\n{self.text[-3000:]}") from None

    def finish(self, timeout_s: float = LONG_S) -> str:
        """Wait for its good end; what it printed."""
        code = self.wait(timeout_s)
        assert code == 0, f"command must end with 0, got {code}:\n{self.text[-3000:]}"
        return self.text

    def wait_for(self, pattern: "str | re.Pattern[str]", *, timeout_s: float = 300.0) -> float:
        """Wait until it has printed something; returns the seconds since it was started."""

        def is_there() -> bool:
            assert re.search(pattern, self.text) or self.is_running, f"command ended early:\n{self.text[-3000:]}"
            return re.search(pattern, self.text) is not None

        wait_until(is_there, timeout_s=timeout_s, what=f"the command prints {pattern!r}", every_s=0.05)
        return time.monotonic() - self.began_s

    def run_for(self, seconds: float) -> bool:
        """Let it run so long; whether it still runs then."""
        until_s = time.monotonic() + seconds
        while self.is_running and time.monotonic() < until_s:
            time.sleep(0.02)
        return self.is_running

    def kill(self) -> None:
        """SIGKILL to the driver alone: its workers outlive it for a moment."""
        self.process.kill()
        self.process.wait()

    def interrupt(self) -> None:
        """Ctrl-C, which a terminal sends to all of the process group."""
        os.killpg(self.process.pid, signal.SIGINT)


@dataclass
class Place:
    """A storage for searches, and what has to be gone when its test ends.

    Attributes:
        folder: for everything.
        table: the face table.
        ray_dir: for Ray's own files.
        mark: in the environment of all processes.
        settings: further variables of their environment.
        commands: that were started.
    """

    folder: Path
    table: Path
    ray_dir: Path
    mark: str = field(default_factory=new_mark)
    settings: dict[str, str] = field(default_factory=dict)
    commands: list[Command] = field(default_factory=list)

    @property
    def storage(self) -> Path:
        """Of the searches."""
        return self.folder / "runs"

    @property
    def environment(self) -> dict[str, str]:
        """Of all processes."""
        own = {
            MARK: self.mark,
            "PYTHONPATH": str(ROOT),
            "AFFECTUNE_CACHE": str(self.folder / "cache"),
            "AFFECTUNE_STORAGE": str(self.storage),
            "RAY_TMPDIR": str(self.ray_dir),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_raylet_start_wait_time_s": "90",  # few cores, many processes
        }
        return {**clean_environment(), **own, **self.settings}

    def start(self, *words: str) -> Command:
        """Start a command of ours."""
        log = self.folder / f"command-{len(self.commands):02d}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-c", MAIN, *words],
                cwd=self.folder,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.commands.append(Command(process, log))
        return self.commands[-1]

    def search(self, name: str, *words: str, trials: int, epochs: int) -> Command:
        """Start a search of so many trials of so many epochs."""
        space = str(self.write_space(epochs))
        return self.start("search", space, "--data", str(self.table), "--name", name, "--trials", str(trials), *words)

    def write_space(self, epochs: int) -> Path:
        """A space whose trials run so many epochs."""
        space = self.folder / f"space-{epochs}.yaml"
        space.write_text(SPACE.format(epochs=epochs), encoding="utf-8")
        return space

    def resume(self, name: str, *words: str) -> Command:
        """Go on with a search."""
        return self.start("resume", name, *words)

    def kill_everything_of(self, command: Command) -> None:
        """SIGKILL to a driver and to all processes of the place at once, as when a machine goes down."""
        there = [process for process in marked(self.mark) if process.pid != command.process.pid]
        kill([psutil.Process(command.process.pid), *there] if command.is_running else there)
        command.process.wait()


def epochs_told(text: str) -> Mapping[tuple[str, int], int]:
    """How often a command printed each epoch of each trial."""
    return Counter((trial_id, int(epoch)) for trial_id, epoch in EPOCH.findall(text))
