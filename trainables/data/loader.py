"""The batches of a trial's epochs, made in between or by worker processes, and brought to where they are needed."""

import logging
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Protocol

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from trainables.data.batches import Batch, EpochBatches

logger = logging.getLogger(__name__)

CPU = torch.device("cpu")
PREFETCHED = 4
"""Batches that a worker makes ahead."""

SHARED_MEMORY = Path("/dev/shm")
"""Through which workers hand batches over. Docker gives a container 64 MB of it; beyond that a bus error kills."""

SHARE_OF_FREE = 0.5
"""Of what is free there: other trials may be about to take theirs."""

PAGE_BYTES = 4096


class MakeBatches(Protocol):
    """From the number of an epoch to its batches; the same in whichever process."""

    def __call__(self, *, epoch: int) -> EpochBatches:
        """The epoch's batches."""


class BatchLoader:
    """One epoch's batches after the other, made by worker processes that live until it is closed or let go of.

    A worker whose parent was killed ends by itself within seconds.
    """

    def __init__(self, make_batches: MakeBatches, *, n_workers: int = 0, device: torch.device = CPU) -> None:
        """
        Args:
            make_batches: from the number of an epoch to its batches; they are the same in whichever process.
            n_workers: processes, fewer where shared memory does not hold their batches; with 0 batches are made in
                between, here.
            device: where batches are copied to; where it is a GPU, the copies run beside its computations.
        """
        self.batches = make_batches
        self._n_workers = n_workers
        self._device = device
        self._places = _Places(make_batches)
        self._loader: DataLoader[Batch] | None = None

    def epoch(self, number: int) -> Iterator[Batch]:
        """All batches of an epoch in order. It may be left before its end; only one epoch is gone through at a time."""
        if self._n_workers and self._loader is None:
            self._n_workers = workers_with_room(self._n_workers, self.batches(epoch=number)[0])
        if self._n_workers == 0:
            batches = self.batches(epoch=number)
            made: Iterator[Batch] = (batches[i] for i in range(len(batches)))
        else:
            if self._loader is None:
                self._loader = self._start_workers()
            self._places.epoch = number
            made = iter(self._loader)
        return _copied_beside(made, self._device) if self._device.type == "cuda" else made

    def close(self) -> None:
        """End the worker processes; another epoch would start new ones."""
        self._loader = None  # they end with the loader's iterator, which nobody else holds

    def _start_workers(self) -> "DataLoader[Batch]":
        return DataLoader(
            _AnyEpoch(self.batches),
            sampler=self._places,
            batch_size=None,
            num_workers=self._n_workers,
            pin_memory=self._device.type == "cuda",
            prefetch_factor=PREFETCHED,
            persistent_workers=True,
            multiprocessing_context="fork",  # the mapped table is handed on as it is: it must never be pickled
            generator=torch.Generator(),  # without it the loader draws from the numbers that dropout is about to draw
        )


def workers_with_room(n_workers: int, batch: Batch) -> int:
    """How many of so many workers find room in shared memory for the batches that they make ahead.

    Args:
        n_workers: that are wanted.
        batch: as large as any.
    """
    try:
        room_bytes = int(SHARE_OF_FREE * shutil.disk_usage(SHARED_MEMORY).free)
    except OSError:  # a system that shares memory in another way
        return n_workers
    tensors = [t for t in (batch.images, batch.appearance, batch.positions, *batch.targets.values()) if t is not None]
    batch_bytes = sum(-(-tensor.nbytes // PAGE_BYTES) * PAGE_BYTES for tensor in tensors)
    n = min(n_workers, room_bytes // (batch_bytes * (PREFETCHED + 1)))  # one more is being made or used
    if n < n_workers:
        _warn_of_little_room(n, n_workers)
    return n


@cache
def _warn_of_little_room(n: int, n_wanted: int) -> None:
    """Once a process, not in each of its trials."""
    logger.warning("%d of %d workers make batches: %s has no room for more", n, n_wanted, SHARED_MEMORY)


class _Places(Sampler[tuple[int, int]]):
    """Epoch and number of each batch, of the epoch that is on."""

    def __init__(self, make_batches: MakeBatches) -> None:
        self.epoch = 0
        self._make_batches = make_batches

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch = self.epoch
        return ((epoch, index) for index in range(len(self._make_batches(epoch=epoch))))


class _AnyEpoch(Dataset[Batch]):
    """Batches by epoch and number. A worker draws an epoch's order when its first batch is asked for."""

    def __init__(self, make_batches: MakeBatches) -> None:
        self._make_batches = make_batches
        self._latest: tuple[int, EpochBatches] | None = None

    def __getitem__(self, place: tuple[int, int]) -> Batch:
        epoch, index = place
        if self._latest is None or self._latest[0] != epoch:
            self._latest = epoch, self._make_batches(epoch=epoch)
        return self._latest[1][index]


def _copied_beside(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Batches on a GPU, each copied on a stream of its own: the step before it may still be computed meanwhile."""
    beside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    for batch in batches:
        with torch.cuda.stream(beside):
            moved = batch.to(device)
        here = torch.cuda.current_stream(device)
        here.wait_stream(beside)
        for tensor in (moved.images, moved.appearance, *moved.targets.values()):
            if tensor is not None:
                tensor.record_stream(here)  # its memory belongs to the other stream, which must not reuse it too soon
        yield moved
