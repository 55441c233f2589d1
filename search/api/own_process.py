"""A command of ours in a process of its own: a notebook's kernel may be interrupted or end, the work goes on."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from search.checkout import path_with_checkout
from spaces.errors import SearchError

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

    def wait_for(self, has_begun: Callable[[], bool]) -> None:
        """Until it has begun its work, or has ended well. Raises SearchError with its complaint where it failed."""
        while True:
            code = self.exit_code
            if code == 0 or (code is None and has_begun()):
                return
            if code is not None:
                raise SearchError(self.complaint)
            time.sleep(0.1)

    def follow(self, tell: Callable[[str], object] | None) -> None:
        """Hand on what it prints until it ends; whoever leaves early ends it too.

        Raises:
            SearchError: it failed; with its complaint.
        """
        n_told = 0
        try:
            while True:
                code, text = self.exit_code, self.text
                n_whole = len(text) if code is not None else text.rfind("\n") + 1
                if tell is not None and n_whole > n_told:
                    tell(text[n_told:n_whole].rstrip("\n"))
                n_told = n_whole
                if code is not None:
                    break
                time.sleep(0.2)
        except BaseException:
            self.interrupt()
            raise
        if code:
            raise SearchError(self.complaint)
