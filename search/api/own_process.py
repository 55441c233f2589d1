"""A command of ours in a process of its own: a notebook's kernel may be interrupted or end, the work goes on."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from search.checkout import path_with_checkout

_MARK = "affectune: "
"""Before the sentence in which a command says why it ended."""
_LAST_CHARS = 2000
_COLOURS = ("CLICOLOR_FORCE", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
"""Variables that make a program take a file for a terminal; Jupyter sets some for its kernels."""


class OwnProcess:
    """A command that runs beside this process.

    Args:
        words: of the command, without the program's name.
        log: to which what it prints is appended; its folder is made.

    Attributes:
        log: what it prints, both streams.
    """

    def __init__(self, words: Sequence[str], log: Path) -> None:
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = {name: value for name, value in os.environ.items() if name not in _COLOURS}
        environment["PYTHONPATH"] = path_with_checkout()
        with log.open("ab") as output:
            self._log_start = output.tell()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "search.cli", *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # a Ctrl-C here is not meant for it
            )

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    @property
    def text(self) -> str:
        """What it printed so far."""
        with self.log.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode("utf-8", errors="replace")

    @property
    def complaint(self) -> str:
        """The sentence in which it said why it ended; its last words where it said none."""
        lines = self.text.strip().splitlines()
        said = [line.removeprefix(_MARK) for line in lines if line.startswith(_MARK)]
        return said[-1] if said else "\n".join(lines)[-_LAST_CHARS:] or f"it ended with {self.exit_code}"

    def interrupt(self) -> None:
        """Ctrl-C."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGINT)
