"""A worker's sign of life: whoever waits for a trial sees that it moves, however long its epochs take.

Loops that may take long call `beat`; a thread of the worker passes that on as the time stamp of a file. It is only
touched: that needs no room on a full disk, and a slow one never holds up the training.
"""

import faulthandler
import json
import os
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from trainables.host_memory import n_oom_kills

PULSE_FILE = "pulse.json"
STACK_FILE = "silence.txt"
TOUCH_S = 5.0
SILENT_S = 600.0
"""Without a beat for so long, a worker is taken for hung: compiling a network and the slowest disks take less."""


@dataclass
class _Heart:
    """Of this process, which works on one piece at a time."""

    n_beats: int = 0


_heart = _Heart()


def beat() -> None:
    """Say that the work moves on."""
    _heart.n_beats += 1


def read_pulse(folder: Path) -> dict[str, Any]:
    """Who works in a folder (`host`, `pid`, `begun_s` in Unix time); empty where nobody does, or it can't be read."""
    try:
        said = json.loads((folder / PULSE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


class Pulse:
    """The sign of life of one piece of work, from its begin to `stop`.

    Where the work has been silent for half of what makes it count as hung, the stacks of all threads are written beside
    the pulse: nobody could say afterwards where it stood.

    Attributes:
        follows_oom_kill: whether a worker before this one was lost on this machine while the kernel ended processes for
            want of memory, which it says of nobody by name.

    Args:
        folder: of the trial or bag; `pulse.json` says who works on it, and its time stamp when that last moved. It is
            gone once the work was let go of; where it stays, its worker was lost.
        silent_s: seconds without a beat after which others take it for hung.
        touch_s: seconds between two looks.
    """

    def __init__(self, folder: Path, *, silent_s: float = SILENT_S, touch_s: float = TOUCH_S) -> None:
        self._folder = folder
        self._silent_s, self._touch_s = silent_s, touch_s
        self._over = threading.Event()
        who = {"host": socket.gethostname(), "pid": os.getpid(), "begun_s": time.time(), "n_oom_kills": n_oom_kills()}
        before = read_pulse(folder)
        self.follows_oom_kill = (
            before.get("host") == who["host"] and before.get("n_oom_kills", who["n_oom_kills"]) < who["n_oom_kills"]
        )
        with suppress(OSError):  # whoever waits is patient with a disk that takes nothing
            folder.mkdir(parents=True, exist_ok=True)
            (folder / STACK_FILE).unlink(missing_ok=True)
            (folder / PULSE_FILE).write_text(json.dumps(who) + "\n", encoding="utf-8")
        self._thread = threading.Thread(target=self._watch, name="affectune-pulse", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Nothing more is said of this work, and nobody is expected to go on with it."""
        self._over.set()
        with suppress(OSError):
            (self._folder / PULSE_FILE).unlink(missing_ok=True)

    def __enter__(self) -> "Pulse":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _watch(self) -> None:
        n_beats, moved_s, has_told = _heart.n_beats, time.monotonic(), False
        while not self._over.wait(self._touch_s):
            if _heart.n_beats != n_beats:
                n_beats, moved_s, has_told = _heart.n_beats, time.monotonic(), False
                with suppress(OSError):
                    os.utime(self._folder / PULSE_FILE)
            elif time.monotonic() - moved_s > self._silent_s / 2 and not has_told:
                has_told = True
                self._tell_where_it_stands()

    def _tell_where_it_stands(self) -> None:
        with suppress(OSError), (self._folder / STACK_FILE).open("w", encoding="utf-8") as file:
            faulthandler.dump_traceback(file, all_threads=True)
