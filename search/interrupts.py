"""Ctrl-C and a polite kill (SIGTERM), which end a command alike."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def polite_kill() -> Iterator[None]:
    """Let SIGTERM end a command as Ctrl-C does, by KeyboardInterrupt, so that what was begun is closed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def kept_signals() -> Iterator[None]:
    """Take back the handler of SIGTERM that a library leaves behind when it starts."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


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
