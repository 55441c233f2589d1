"""The Tune trainable's coat: one trial after the other in one worker. It needs no running Ray."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from spaces.config import TrialConfig
from trainables.data.table import FaceTable
from trainables.run import TrialOrder
from trainables.trial import Trial


@pytest.fixture
def make_order(toy_table: FaceTable, make_config: Callable[..., TrialConfig], tmp_path: Path) -> Callable[..., Any]:
    def make(name: str, settings: dict[str, Any]) -> dict[str, Any]:
        order = TrialOrder(name, make_config(settings).to_flat(), str(toy_table.path), str(tmp_path / name))
        return {"order": order.to_dict()}

    return make


@pytest.fixture
def trial() -> Iterator[Trial]:
    worker = Trial.__new__(Trial)
    yield worker
    worker.cleanup()


def test_trial_is_done_with_the_report_that_carries_the_end(trial: Trial, make_order: Callable[..., Any]) -> None:
    trial.setup(make_order("t0000", {"train.epochs": 2}))

    reports = [trial.step() for _ in range(2)]

    assert [(report["end"], report["done"]) for report in reports] == [("", False), ("completed", True)]


def test_trial_begins_another_in_the_same_worker(trial: Trial, make_order: Callable[..., Any], tmp_path: Path) -> None:
    trial.setup(make_order("t0000", {"model.backbone": "no_such"}))
    assert trial.step()["end"] == "failed"

    taken = trial.reset_config(make_order("t0001", {"train.epochs": 1}))

    assert taken is True
    assert trial.step()["end"] == "completed"
    assert (tmp_path / "t0001" / "weights.safetensors").is_file()


def exits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ending the process is an exception that a test can see."""

    def end(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr("os._exit", end)


def test_trial_is_built_in_the_first_step_and_not_when_it_is_ordered(
    trial: Trial, make_order: Callable[..., Any]
) -> None:
    trial.setup(make_order("t0000", {"train.epochs": 1}))
    before = trial._run
    trial.step()

    assert before is None
    assert trial._run is not None


def test_worker_that_cannot_free_its_gpu_takes_the_next_trial_and_ends_in_its_first_step(
    trial: Trial, make_order: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    trial.setup(make_order("t0000", {"train.epochs": 1}))
    trial.step()
    monkeypatch.setattr("trainables.memory.is_gpu_free", lambda: False)
    exits(monkeypatch)

    taken = trial.reset_config(make_order("t0001", {"train.epochs": 1}))

    assert taken is True
    with pytest.raises(SystemExit, match="1"):
        trial.step()
    assert trial._run is None


def test_worker_whose_gpu_is_out_of_order_ends_with_the_next_trial(
    trial: Trial, make_order: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> bool:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    trial.setup(make_order("t0000", {"train.epochs": 1}))
    trial.step()
    monkeypatch.setattr("trainables.memory.is_gpu_free", fail)
    exits(monkeypatch)
    trial.reset_config(make_order("t0001", {"train.epochs": 1}))

    with pytest.raises(SystemExit, match="1"):
        trial.step()


def test_first_trial_of_a_worker_looks_at_no_gpu(
    trial: Trial, make_order: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainables.memory.is_gpu_free", lambda: False)
    trial.setup(make_order("t0000", {"train.epochs": 1}))

    assert trial.step()["end"] == "completed"
