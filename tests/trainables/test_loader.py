"""Worker processes that make batches: the same batches, epoch after epoch, and no process left behind."""

import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from spaces.training_sections import AugmentConfig
from trainables.data.augment import Augmenter
from trainables.data.batches import Batch, EpochBatches
from trainables.data.loader import BatchLoader, MakeBatches, workers_with_room
from trainables.data.sampling import training_items
from trainables.data.table import FaceTable

TARGETS = ("valence_arousal", "action_units", "landmarks", "hand")
BUSY = AugmentConfig(jitter_p=0.5, crop_p=0.5, rand_p=0.5)
ENDS_WITHIN_S = 30.0
"""A worker looks every few seconds whether its parent lives."""


def make(table: FaceTable, **settings: Any) -> MakeBatches:
    split = table.split("train")
    items = training_items(split.expression, np.arange(24), sampler="upsample")
    made = {"sampler": "upsample", "sampler_power": 1.0, "batch_size": 8, "seed": 3, **settings}
    return partial(EpochBatches, split, items, Augmenter(BUSY), **made)  # type: ignore[arg-type]


def assert_same(made: list[Batch], expected: list[Batch]) -> None:
    assert len(made) == len(expected) > 1
    for one, other in zip(made, expected, strict=True):
        assert isinstance(one, Batch)
        assert (one.appearance is None) == (other.appearance is None)
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True, allow_subclasses=True)


@pytest.mark.parametrize("two_views", [False, True], ids=["one view", "two views"])
def test_batches_are_the_same_in_every_epoch_whoever_makes_them(labelled_table: FaceTable, two_views: bool) -> None:
    make_batches = make(labelled_table, labels=TARGETS, two_views=two_views)
    alone, helped = BatchLoader(make_batches), BatchLoader(make_batches, n_workers=2)

    made = [list(helped.epoch(epoch)) for epoch in (1, 2, 1_000_001)]

    for epoch, batches in zip((1, 2, 1_000_001), made, strict=True):
        assert_same(batches, list(alone.epoch(epoch)))
    helped.close()


def test_workers_live_on_from_epoch_to_epoch_and_end_when_the_loader_is_closed(toy_table: FaceTable) -> None:
    loader = BatchLoader(make(toy_table), n_workers=2)
    before = {child.pid for child in psutil.Process().children()}

    workers = []
    for epoch in (1, 2):
        list(loader.epoch(epoch))
        workers.append({child.pid for child in psutil.Process().children()} - before)
    loader.close()

    assert workers[0] == workers[1]
    assert len(workers[0]) == 2
    assert not workers[0] & {child.pid for child in psutil.Process().children()}


@pytest.mark.parametrize(("n_batches", "n_workers"), [(9, 0), (10, 1), (35, 3), (500, 4)], ids=str)
def test_workers_are_as_many_as_shared_memory_has_room_for(
    toy_table: FaceTable, monkeypatch: pytest.MonkeyPatch, n_batches: int, n_workers: int
) -> None:
    batch = make(toy_table)(epoch=1)[0]
    pages = [-(-tensor.nbytes // 4096) for tensor in (batch.images, batch.positions, *batch.targets.values())]
    usage = shutil.disk_usage("/")._replace(free=n_batches * sum(pages) * 4096)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)

    assert workers_with_room(4, batch) == n_workers


def test_batches_are_made_in_between_when_shared_memory_is_full(
    toy_table: FaceTable, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    full = shutil.disk_usage("/")._replace(free=0)
    monkeypatch.setattr("shutil.disk_usage", lambda _: full)
    make_batches, before = make(toy_table), psutil.Process().children()

    made = [list(BatchLoader(make_batches, n_workers=3).epoch(1)) for _ in range(2)]

    assert psutil.Process().children() == before
    for batches in made:
        assert_same(batches, list(BatchLoader(make_batches).epoch(1)))
    assert caplog.messages == ["0 of 3 workers make batches: /dev/shm has no room for more"]


def test_workers_end_when_the_loader_is_let_go_of(toy_table: FaceTable) -> None:
    loader = BatchLoader(make(toy_table), n_workers=1)
    before = {child.pid for child in psutil.Process().children()}
    next(loader.epoch(1))

    del loader

    assert {child.pid for child in psutil.Process().children()} <= before


def test_epoch_left_in_its_middle_leaves_nothing_to_the_next(toy_table: FaceTable) -> None:
    make_batches = make(toy_table)
    loader = BatchLoader(make_batches, n_workers=2)

    next(loader.epoch(1))
    made = list(loader.epoch(2))

    assert_same(made, list(BatchLoader(make_batches).epoch(2)))
    loader.close()


def test_workers_draw_none_of_the_callers_random_numbers(toy_table: FaceTable) -> None:
    loader = BatchLoader(make(toy_table), n_workers=1)
    state = torch.random.get_rng_state()

    for epoch in (1, 2):
        list(loader.epoch(epoch))
    loader.close()

    assert torch.equal(torch.random.get_rng_state(), state)


TRAINER = """
import sys, time
from functools import partial
from pathlib import Path
import numpy as np, psutil
from spaces.training_sections import AugmentConfig
from trainables.data.augment import Augmenter
from trainables.data.batches import EpochBatches
from trainables.data.loader import BatchLoader
from trainables.data.sampling import training_items
from trainables.data.table import open_table

split = open_table(Path(sys.argv[1])).split("train")
items = training_items(split.expression, np.arange(len(split)), sampler="shuffle")
make = partial(
    EpochBatches, split, items, Augmenter(AugmentConfig()), sampler="shuffle", sampler_power=1.0, batch_size=2, seed=0
)
batches = BatchLoader(make, n_workers=2).epoch(1)
next(batches)
print(*(child.pid for child in psutil.Process().children()), flush=True)
time.sleep(600)
"""


@pytest.mark.slow
def test_workers_end_when_their_trainer_is_killed(toy_table: FaceTable) -> None:
    command = [sys.executable, "-c", TRAINER, str(toy_table.path)]
    trainer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).resolve().parents[2])
    assert trainer.stdout is not None
    workers = [int(pid) for pid in trainer.stdout.readline().split()]

    os.kill(trainer.pid, signal.SIGKILL)
    trainer.wait()

    deadline_s = time.monotonic() + ENDS_WITHIN_S
    while any(map(_lives, workers)) and time.monotonic() < deadline_s:
        time.sleep(0.2)
    assert len(workers) == 2
    assert not any(map(_lives, workers))


def _lives(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.mark.gpu
def test_batches_come_to_the_gpu_whole_and_unchanged(labelled_table: FaceTable) -> None:
    make_batches = make(labelled_table, labels=TARGETS, two_views=True)
    loader = BatchLoader(make_batches, n_workers=1, device=torch.device("cuda"))

    made = list(loader.epoch(1))

    assert {tensor.device.type for batch in made for tensor in (batch.images, *batch.targets.values())} == {"cuda"}
    assert_same([batch.to(torch.device("cpu")) for batch in made], list(BatchLoader(make_batches).epoch(1)))
    loader.close()
