"""A face table of generated faces: clean ones to train on, wild ones of other people to choose and to test with."""

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from spaces.errors import DataError, UsageError
from trainables.data.faces.expression import EXPRESSIONS
from trainables.data.faces.faces import generate_faces
from trainables.data.table import Faces, FaceTable, SplitName, write_table

LSD_COUNTS = (18_286, 15_150, 10_923, 73_285, 144_631, 14_976)
"""Training images per class (anger, disgust, fear, happiness, sadness, surprise) of the LSD set of the 4th ABAW
competition; source: Li et al. 2022 and Savchenko 2022."""

WILD_SHARES = (0.16, 0.13, 0.12, 0.23, 0.2, 0.16)
"""Classes of the wild splits: none rules, none is equally frequent; ours."""

MIN_PER_CLASS = 2
PX_RANGE = (32, 256)

_BATCH = 128
_PARALLEL_FROM = 4_000
_STREAM = 2


@dataclass(frozen=True)
class SplitPlan:
    """How a split is made. `first_subject` and `first_key` begin number ranges that no other split enters."""

    domain: Literal["clean", "wild"]
    shares: tuple[float, ...]
    faces_per_subject: int
    first_subject: int
    first_key: int
    max_rows: int


PLANS: Mapping[SplitName, SplitPlan] = {
    "train": SplitPlan("clean", LSD_COUNTS, 8, first_subject=0, first_key=0, max_rows=4_000_000),
    "valid": SplitPlan("wild", WILD_SHARES, 4, first_subject=500_000, first_key=10_000_000, max_rows=1_000_000),
    "test": SplitPlan("wild", WILD_SHARES, 4, first_subject=750_000, first_key=20_000_000, max_rows=1_000_000),
}


def write_synth_table(
    out: Path,
    *,
    n_train: int,
    n_valid: int,
    n_test: int,
    image_px: int = 64,
    seed: int = 0,
    progress: bool = False,
) -> FaceTable:
    """Generate faces and write them as a face table, in parallel processes where there are many.

    A split is the same for the same seed, image size and number of its own rows, whatever the other splits hold and
    however many processes work.

    Args:
        out: a new or empty folder.
        n_train, n_valid, n_test: faces; valid and test may be 0, else at least two of each of the six classes.
        image_px: side of the pictures, 32 to 256.
        seed: not negative.
        progress: show a bar on stderr.

    Raises:
        UsageError: a number is out of range.
        OutputError: `out` already holds something, or the disk is full.
    """
    sizes: dict[SplitName, int] = {"train": n_train, "valid": n_valid, "test": n_test}
    _check(sizes, image_px=image_px, seed=seed)
    given = [(name, n) for name, n in sizes.items() if n]
    with _progress_bar(sum(sizes.values()), shown=progress) as advance:
        return write_table(
            out,
            splits={name: _iter_faces(name, n=n, image_px=image_px, seed=seed, advance=advance) for name, n in given},
            classes=EXPRESSIONS,
            sources={name: f"generated {PLANS[name].domain} faces, seed {seed}" for name, _ in given},
            notes=["generated faces: no real person; hand, landmarks and action units are exact"],
        )


def generate_split(name: SplitName, *, n: int, image_px: int = 64, seed: int = 0) -> Faces:
    """A split's faces in memory, drawn in this process; see `write_synth_table`."""
    return _join(list(_iter_faces(name, n=n, image_px=image_px, seed=seed, advance=lambda _: None, workers=1)))


def stratified_counts(n: int, shares: Sequence[float]) -> list[int]:
    """How many of n rows each class gets: in proportion (largest remainder), and at least MIN_PER_CLASS.

    Raises:
        UsageError: n is too small for that.
    """
    least = MIN_PER_CLASS * len(shares)
    if n < least:
        raise UsageError(f"rows of a split must be at least {least}, {MIN_PER_CLASS} a class, got {n}")
    quotas = np.asarray(shares, np.float64) / sum(shares) * n
    counts = np.maximum(np.floor(quotas).astype(np.int64), MIN_PER_CLASS)
    while counts.sum() != n:
        missing = 1 if counts.sum() < n else -1
        room = np.where(counts + missing >= MIN_PER_CLASS, missing * (quotas - counts), -np.inf)
        counts[np.argmax(room)] += missing
    return [int(count) for count in counts]


def _check(sizes: Mapping[SplitName, int], *, image_px: int, seed: int) -> None:
    low, high = PX_RANGE
    if not low <= image_px <= high:
        raise UsageError(f"image_px must be {low} to {high}, got {image_px}")
    if seed < 0:
        raise UsageError(f"seed must not be negative, got {seed}")
    for name, n in sizes.items():
        if n == 0 and name != "train":
            continue
        least, most = MIN_PER_CLASS * len(EXPRESSIONS), PLANS[name].max_rows
        if not least <= n <= most:
            raise UsageError(f"number of {name} faces must be {least} to {most}, got {n}")


def _expressions(name: SplitName, *, n: int, seed: int) -> NDArray[np.int8]:
    """[n]: exact counts per class in an order of the seed's."""
    labels = np.repeat(np.arange(len(EXPRESSIONS), dtype=np.int8), stratified_counts(n, PLANS[name].shares))
    generator = np.random.default_rng(np.random.SeedSequence((seed, _STREAM, PLANS[name].first_key)))
    return generator.permutation(labels)


@dataclass(frozen=True, eq=False)
class _Batch:
    """What a process needs to draw some rows of a split."""

    expression: NDArray[np.int8]
    subjects: list[int]
    keys: range
    domain: Literal["clean", "wild"]
    seed: int
    image_px: int

    def draw(self) -> Faces:
        return generate_faces(
            self.expression,
            subjects=self.subjects,
            keys=self.keys,
            domain=self.domain,
            seed=self.seed,
            image_px=self.image_px,
        )


def _iter_faces(
    name: SplitName, *, n: int, image_px: int, seed: int, advance: Callable[[int], None], workers: int | None = None
) -> Iterator[Faces]:
    """A split in batches whose borders do not depend on the number of processes."""
    plan, labels = PLANS[name], _expressions(name, n=n, seed=seed)
    batches = [
        _Batch(
            expression=labels[rows.start : rows.stop],
            subjects=[plan.first_subject + row // plan.faces_per_subject for row in rows],
            keys=range(plan.first_key + rows.start, plan.first_key + rows.stop),
            domain=plan.domain,
            seed=seed,
            image_px=image_px,
        )
        for rows in (range(start, min(start + _BATCH, n)) for start in range(0, n, _BATCH))
    ]
    workers = workers or (_n_processors() if n >= _PARALLEL_FROM else 1)
    for faces in _draw_parallel(batches, workers=workers) if workers > 1 else map(_Batch.draw, batches):
        advance(len(faces))
        yield faces


def _draw_parallel(batches: Sequence[_Batch], *, workers: int) -> Iterator[Faces]:
    """In order, with no more than a few batches waiting to be written."""
    pending: deque[Future[Faces]] = deque()
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_ignore_interrupts)
    try:
        for batch in batches:
            pending.append(pool.submit(batch.draw))
            if len(pending) > 4 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool as error:
        rule = "processes that draw faces must live to the end, got one that died"
        raise DataError(f"{rule}; perhaps for want of memory: ask for fewer or smaller faces") from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _ignore_interrupts() -> None:
    """Ctrl-C is for the parent to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _n_processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _join(parts: Sequence[Faces]) -> Faces:
    columns = ("images", "expression", "valence", "arousal", "action_units", "landmarks", "hand")
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in columns}
    sample_ids = [sample_id for part in parts for sample_id in part.sample_ids]
    subjects = [subject for part in parts for subject in part.subjects or ()]
    return Faces(sample_ids=sample_ids, subjects=subjects, **arrays)


@contextmanager
def _progress_bar(total: int, *, shown: bool) -> Iterator[Callable[[int], None]]:
    if not shown:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("generating faces"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("faces", total=total)
        yield lambda n: bar.advance(task, n)
