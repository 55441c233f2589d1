"""The state of a trial in its folder, for whoever takes the trial up after its worker was lost."""

import io
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from trainables.outputs import new_file

SHARE = 0.05
"""Of a trial's time, what its checkpoints may take."""


class TrialCheckpoint:
    """Written after every epoch, so that a lost worker costs no more than one; less often where that takes too long.

    There is one generation of it: it is written beside its place and renamed, so that a killed worker can't tear it.
    Where a machine without power does, the trial begins anew.

    Args:
        path: of the file.
        share: of the time since the last one, what a checkpoint may take; 0 for none at all. What it will take is
            guessed from the last two, of which one may have met a disk that was busy.
        clock: seconds from any start.
    """

    def __init__(self, path: Path, *, share: float = SHARE, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._share = share
        self._clock = clock
        self._saved_s = clock()
        self._took_s: deque[float] = deque([0.0], maxlen=2)

    def save(self, state: Callable[[], dict[str, Any]]) -> None:
        """Write a state of tensors and plain values, unless that would take more than its share.

        Raises:
            OutputError: the disk is full, or does not answer.
        """
        began_s = self._clock()
        if min(self._took_s) >= self._share * (began_s - self._saved_s):
            return
        with new_file(self.path) as staging, staging.open("wb") as file:
            torch.save(state(), file)  # to a path, it would not say that the disk is full
        self._saved_s = self._clock()
        self._took_s.append(self._saved_s - began_s)

    def load(self) -> dict[str, Any] | None:
        """The last state that was written, its tensors in main memory; None where there is none.

        Raises:
            OSError: the disk does not answer.
            Exception: as PyTorch has it, where the file is torn, or is no checkpoint.
        """
        try:
            stored = self.path.read_bytes()  # apart from making sense of it: a disk that is silent tears nothing
        except FileNotFoundError:
            return None
        state: dict[str, Any] = torch.load(io.BytesIO(stored), map_location="cpu", weights_only=True)
        return state

    def remove(self) -> None:
        """Have none any more."""
        self.path.unlink(missing_ok=True)
