"""Whoever writes into a search's folder waits while its disk is full, or does not answer, and then goes on."""

import errno
import logging
import signal
import time
from collections.abc import Callable
from typing import TypeVar

from trainables.pulse import beat

T = TypeVar("T")

LIMIT_S = 600.0
"""So long a disk is waited for: a person can make room meanwhile, and a file server can come back."""
RETRY_S = 3.0

PASSING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.ETIMEDOUT})
"""What may pass: no room, or a disk or a file server that does not answer."""

_log = logging.getLogger(__name__)


class Patience:
    """Does what needs the disk, again and again while that is full or does not answer.

    Once it has given up it waits no more: what comes after fails at once, so that a search can end.

    Args:
        say: is told once that something waits, and once that it goes on; by default the log.
        limit_s: seconds after which it gives up.
        retry_s: seconds between two tries.
        is_over: whether there is no point in waiting on.
    """

    def __init__(
        self,
        say: Callable[[str], None] = _log.warning,
        *,
        limit_s: float = LIMIT_S,
        retry_s: float = RETRY_S,
        is_over: Callable[[], bool] = lambda: False,
    ) -> None:
        self._say = say
        self._limit_s, self._retry_s = limit_s, retry_s
        self._is_over = is_over
        self._has_given_up = False

    def __call__(self, action: Callable[[], T]) -> T:
        """What the action gives, which may be begun several times.

        Raises:
            OSError: what the action met last: it is none that passes, the time was up, or Ctrl-C was pressed.
        """
        try:
            return action()
        except OSError as error:
            if not is_passing(error) or self._has_given_up:
                raise
            self._say(f"{error}; it is tried again for {self._limit_s / 60:.0f} minutes")
        began_s, listener = time.monotonic(), signal.getsignal(signal.SIGINT)
        while True:
            time.sleep(self._retry_s)
            beat()
            try:
                result = action()
            except OSError as error:
                # Ray Tune only notes a Ctrl-C; with that it gives the handler back which was there before its own.
                is_told_to_end = signal.getsignal(signal.SIGINT) is not listener
                is_late = time.monotonic() - began_s > self._limit_s
                self._has_given_up = is_late or is_told_to_end or self._is_over()
                if self._has_given_up or not is_passing(error):
                    raise
            else:
                self._say(
                    f"the disk takes what waited for it, {time.monotonic() - began_s:.0f} s later; the work goes on"
                )
                return result


def is_passing(error: OSError) -> bool:
    """Whether an error may pass by itself, or by a person who makes room."""
    return error.errno in PASSING
