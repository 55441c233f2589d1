"""Which workers have stopped moving, by the pulses that they leave in their folders (`trainables/pulse.py`).

Only this process's own clock is read: a pulse counts as new where its time stamp is another one than before, whatever
the clock of the machine that set it says.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from trainables.pulse import PULSE_FILE, SILENT_S

LOOK_S = 5.0
PAUSE_S = 30.0


@dataclass(frozen=True)
class _Seen:
    """A pulse as it was last new."""

    stamp_ns: int | None
    at_s: float


class Watchdog:
    """Looks at pulses every few seconds.

    Args:
        silent_s: seconds without a beat after which a worker is taken for hung.
        look_s: seconds between two looks; a call in between finds nothing.
        clock: seconds from any start.
    """

    def __init__(
        self, *, silent_s: float = SILENT_S, look_s: float = LOOK_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.silent_s = silent_s
        self._look_s = look_s
        self._clock = clock
        self._looked_s = -look_s
        self._seen: dict[str, _Seen] = {}

    @property
    def is_due(self) -> bool:
        """Whether it is time for another look."""
        return self._clock() - self._looked_s >= self._look_s

    def hung(self, folders: Mapping[str, Path]) -> list[str]:
        """The names of work that has not moved for too long; each counts as new afterwards.

        Args:
            folders: of all work that has a worker now, by any name. What is left out is forgotten.
        """
        now_s, before_s = self._clock(), self._looked_s
        self._looked_s = now_s
        if now_s - before_s > PAUSE_S:  # it was this process that stood still
            self._seen.clear()
        self._seen = {name: seen for name, seen in self._seen.items() if name in folders}
        silent = []
        for name, folder in folders.items():
            stamp_ns = _stamp_ns(folder)
            before = self._seen.get(name)
            if before is None or stamp_ns != before.stamp_ns:
                self._seen[name] = _Seen(stamp_ns, now_s)
            elif now_s - before.at_s > self.silent_s:
                silent.append(name)
                del self._seen[name]
        return silent


def _stamp_ns(folder: Path) -> int | None:
    """None where there is no pulse yet, or the disk does not answer."""
    try:
        return (folder / PULSE_FILE).stat().st_mtime_ns
    except OSError:
        return None
