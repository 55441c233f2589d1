"""Decode the images of all sources in parallel processes into one file of raw pixels."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spaces.errors import DataError
from trainables.data.decode import DecodedChunk, decode_chunk
from trainables.data.rows import Rows
from trainables.data.source import EncodedImage, Source

Report = Callable[[int, int], None]
"""Told how many images of how many are decoded."""

_CHUNK_BYTES = 2 << 20
_MAX_CHUNK = 256
_ROWS_WORTH_A_PROCESS = 1000


@dataclass(frozen=True, eq=False)
class Decoded:
    """What decoding found, in the order of the rows: see `DecodedChunk`. `reasons` has the rows that failed."""

    digests: NDArray[np.uint8]
    sizes: NDArray[np.int32]
    reasons: dict[int, str]


def decode_rows(
    rows: Rows,
    sources: Sequence[Source],
    *,
    image_px: int,
    channels: int,
    file: Path,
    workers: int | None = None,
    report: Report,
) -> Decoded:
    """Decode every row's image and write the pixels, in the order of the rows, to `file`.

    Memory holds a few chunks of images, however many there are.

    Args:
        file: gets uint8 [n, image_px, image_px, channels]; zeros where an image could not be read.
        workers: processes; as many as there are processors, and fewer for few images, when None. 1 decodes here.

    Raises:
        DataError: a source can't be read any more, or a decoding process died.
    """
    n_workers = workers or min(_n_processors(), 1 + len(rows) // _ROWS_WORTH_A_PROCESS)
    chunk = max(8, min(_MAX_CHUNK, _CHUNK_BYTES // (image_px * image_px * channels)))
    decode = partial(decode_chunk, image_px=image_px, channels=channels)
    done: list[DecodedChunk] = []
    n_done = 0
    with file.open("wb") as pixels:
        for decoded in _map_chunks(decode, _iter_chunks(rows, sources, chunk), n_workers):
            pixels.write(decoded.images.data)
            n_done += len(decoded.reasons)
            done.append(DecodedChunk(decoded.images[:0], decoded.digests, decoded.sizes, decoded.reasons))
            report(n_done, len(rows))
    reasons = [reason for decoded in done for reason in decoded.reasons]
    return Decoded(
        digests=np.concatenate([decoded.digests for decoded in done]),
        sizes=np.concatenate([decoded.sizes for decoded in done]),
        reasons={row: reason for row, reason in enumerate(reasons) if reason is not None},
    )


def _iter_chunks(rows: Rows, sources: Sequence[Source], size: int) -> Iterator[list[EncodedImage]]:
    for index, source in enumerate(sources):
        items = source.iter_images(rows.source_row[rows.source == index])
        while chunk := list(islice(items, size)):
            yield chunk


def _map_chunks(
    decode: Callable[[list[EncodedImage]], DecodedChunk], chunks: Iterable[list[EncodedImage]], n_workers: int
) -> Iterator[DecodedChunk]:
    """Results in order, with at most a few chunks a process under way."""
    if n_workers == 1:
        yield from map(decode, chunks)
        return
    pool = ProcessPoolExecutor(n_workers, mp_context=multiprocessing.get_context("spawn"))
    waiting: deque[Future[DecodedChunk]] = deque()
    try:
        for chunk in chunks:
            waiting.append(_submit(pool, decode, chunk))
            if len(waiting) > 3 * n_workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise DataError(
            "decoding processes must live to the end, got one that died, perhaps for want of memory; "
            "--workers 1 decodes without them"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _submit(
    pool: Executor, decode: Callable[[list[EncodedImage]], DecodedChunk], chunk: list[EncodedImage]
) -> "Future[DecodedChunk]":
    with _interrupts_ignored():
        return pool.submit(decode, chunk)


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Processes started here inherit deafness to Ctrl-C, which is for their parent to handle."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _n_processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
