"""Ctrl-C and a polite kill, while Tune runs."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def gentle_signals() -> Iterator[None]:
    """Let a polite kill end the search as Ctrl-C does, and take back the handlers that Tune leaves behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    tune_listens = callable(signal.getsignal(signal.SIGUSR1))
    if not tune_listens:
        raise KeyboardInterrupt
    os.kill(os.getpid(), signal.SIGUSR1)
