"""Ctrl-C and a polite kill (SIGTERM), which end a command alike."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED_CODE = 130
"""Exit code of a command that was ended by either."""


@contextmanager
def polite_kill() -> Iterator[None]:
    """Let SIGTERM end a command as Ctrl-C does, by KeyboardInterrupt, so that what was begun is closed."""
    with kept_signals() as may_listen:
        if may_listen:
            signal.signal(signal.SIGTERM, signal.default_int_handler)
        yield


@contextmanager
def gentle_signals() -> Iterator[None]:
    """Let a polite kill end the search as Ctrl-C does, and take back the handlers that Tune leaves behind."""
    with kept_signals() as may_listen:
        if may_listen:
            signal.signal(signal.SIGTERM, _as_interrupt)
        yield


@contextmanager
def kept_signals() -> Iterator[bool]:
    """Take back the handlers that the block, or a library in it, leaves behind.

    Yields:
        whether this thread may set handlers at all.
    """
    if threading.current_thread() is not threading.main_thread():
        yield False
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield True
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    tune_listens = callable(signal.getsignal(signal.SIGUSR1))
    if not tune_listens:
        raise KeyboardInterrupt
    os.kill(os.getpid(), signal.SIGUSR1)
