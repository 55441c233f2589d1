"""Checkpoints come after every epoch, unless they would take too much of a trial's time."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from trainables.trial_checkpoint import TrialCheckpoint


class Day:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def save_after(checkpoint: TrialCheckpoint, day: Day, epoch_s: float, *, takes_s: float) -> bool:
    """Whether a checkpoint was written after an epoch of so many seconds."""
    asked = []

    def state() -> dict[str, Any]:
        day.now_s += takes_s
        asked.append(1)
        return {"epoch": 1}

    day.now_s += epoch_s
    checkpoint.save(state)
    return bool(asked)


def test_checkpoint_comes_back_as_it_was_written(tmp_path: Path) -> None:
    day = Day()
    checkpoint = TrialCheckpoint(tmp_path / "checkpoint.pt", clock=day)
    assert checkpoint.load() is None
    day.now_s = 1.0

    checkpoint.save(lambda: {"epoch": 3, "weights": torch.ones(2), "kept": None})

    state = checkpoint.load()
    assert state is not None
    assert (state["epoch"], state["weights"].tolist(), state["kept"]) == (3, [1.0, 1.0], None)
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize(
    ("takes_s", "written"),
    [(0.04, [True] * 6), (0.12, [True, True, False, False, True, False])],
    ids=["quick disk", "slow disk"],
)
def test_checkpoint_is_written_after_every_epoch_that_pays_for_it(
    tmp_path: Path, takes_s: float, written: list[bool]
) -> None:
    day = Day()
    checkpoint = TrialCheckpoint(tmp_path / "checkpoint.pt", share=0.05, clock=day)

    found = [save_after(checkpoint, day, 1.0, takes_s=takes_s) for _ in range(6)]

    assert found == written


def test_disk_that_was_busy_once_puts_no_later_checkpoint_off(tmp_path: Path) -> None:
    day = Day()
    checkpoint = TrialCheckpoint(tmp_path / "checkpoint.pt", share=0.05, clock=day)
    save_after(checkpoint, day, 1.0, takes_s=0.01)
    save_after(checkpoint, day, 1.0, takes_s=60.0)

    assert save_after(checkpoint, day, 1.0, takes_s=0.01)


def test_no_checkpoint_is_written_where_it_may_take_nothing(tmp_path: Path) -> None:
    day = Day()

    assert not save_after(TrialCheckpoint(tmp_path / "checkpoint.pt", share=0.0, clock=day), day, 100.0, takes_s=0.0)


def test_torn_checkpoint_raises_and_can_be_removed(tmp_path: Path) -> None:
    day = Day()
    checkpoint = TrialCheckpoint(tmp_path / "checkpoint.pt", clock=day)
    day.now_s = 1.0
    checkpoint.save(lambda: {"weights": torch.ones(100)})
    os.truncate(checkpoint.path, checkpoint.path.stat().st_size // 2)

    with pytest.raises(RuntimeError):
        checkpoint.load()

    checkpoint.remove()
    assert checkpoint.load() is None
