"""A trial from its order to its end: files, checkpoints, and errors that become ends."""

import errno
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from spaces.config import TrialConfig
from trainables import checkpoint
from trainables.data.table import FaceTable
from trainables.epochs import EPOCHS_FILE, load_epoch_scores
from trainables.kept_epochs import SNAPSHOTS_DIR
from trainables.out_of_bag import OUT_OF_BAG_FILE
from trainables.pulse import PULSE_FILE
from trainables.run import CHECKPOINT_FILE, ERROR_FILE, TrialOrder, TrialRun
from trainables.scores import SCORES_FILE, load_scores
from trainables.trainer import HEAD_FILE, WEIGHTS_FILE, Trainer

MakeOrder = Callable[..., TrialOrder]


@pytest.fixture
def make_order(toy_table: FaceTable, make_config: Callable[..., TrialConfig], tmp_path: Path) -> MakeOrder:
    def make(settings: dict[str, Any] | None = None, **fields: Any) -> TrialOrder:
        config = make_config(settings).to_flat()
        given = {"table": str(toy_table.path), "folder": str(tmp_path / "t0000"), **fields}
        return TrialOrder(trial_id="t0000", settings=config, **given)

    return make


def run(order: TrialOrder) -> list[dict[str, Any]]:
    trial = TrialRun(order)
    reports = [trial.step()]
    while not reports[-1]["end"]:
        reports.append(trial.step())
    trial.release()
    return reports


def test_run_leaves_scores_and_weights(make_order: MakeOrder) -> None:
    order = make_order({"train.head_epochs": 1, "blend.partner": "head"})

    reports = run(order)

    folder = Path(order.folder)
    assert [report["end"] for report in reports] == ["", "completed"]
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert found == sorted([HEAD_FILE, SCORES_FILE, EPOCHS_FILE, WEIGHTS_FILE, CHECKPOINT_FILE])


def test_epoch_that_did_not_arrive_is_told_by_the_next_worker(make_order: MakeOrder) -> None:
    order = make_order({"train.epochs": 4})
    lost = TrialRun(order)
    reports = [lost.step(), lost.step()]

    again = TrialRun(replace(order, n_told=1))
    told = [again.step(), again.step()]
    after = TrialRun(replace(order, n_told=3)).step()

    assert told[0] == reports[1]
    assert (told[1]["epoch"], after["epoch"]) == (3, 4)


def test_run_takes_half_as_many_faces_at_once_after_a_worker_that_memory_ran_out_under(
    make_order: MakeOrder, monkeypatch: pytest.MonkeyPatch
) -> None:
    order, n_kills = make_order({"train.epochs": 4, "train.batch_size": 16}, n_told=9), 1
    monkeypatch.setattr("trainables.pulse.n_oom_kills", lambda: n_kills)
    sizes = []
    for _ in range(3):  # workers that are lost in their first epoch; nothing is released
        lost = TrialRun(order)
        n_kills += 1
        sizes.append(lost.step().get("train/micro_batch"))
        (Path(order.folder) / PULSE_FILE).touch()

    assert sizes == [None, 8, 4]


def test_run_that_is_stopped_has_left_the_answers_of_all_its_epochs_and_no_snapshot(make_order: MakeOrder) -> None:
    order = make_order({"train.epochs": 9, "train.snapshots": 2})
    trial = TrialRun(order)

    reports = [trial.step() for _ in range(3)]

    left = load_epoch_scores(Path(order.folder) / EPOCHS_FILE)
    assert left.epochs.tolist() == [1, 2, 3]
    assert left.best_epoch == reports[-1]["best/epoch"]
    assert not (Path(order.folder) / SNAPSHOTS_DIR).exists()


def test_run_leaves_its_latest_epochs_beside_the_best_one_when_it_completes(make_order: MakeOrder) -> None:
    order = make_order({"train.epochs": 4, "train.snapshots": 2})
    (Path(order.folder) / SNAPSHOTS_DIR).mkdir(parents=True)
    (Path(order.folder) / SNAPSHOTS_DIR / "e0009.arrow").touch()  # of a run whose end nobody heard of

    reports = run(order)

    beside = [epoch for epoch in range(1, 5) if epoch != reports[-1]["best/epoch"]][-2:]
    found = sorted(path.name for path in (Path(order.folder) / SNAPSHOTS_DIR).iterdir())
    assert found == sorted(f"e{epoch:04d}.{ending}" for epoch in beside for ending in ("arrow", "safetensors"))


def test_run_scores_the_faces_it_left_out_only_when_it_completes_and_was_asked_to(make_order: MakeOrder) -> None:
    settings = {"data.subsample_ratio": 0.5}
    path = Path(make_order().folder) / OUT_OF_BAG_FILE
    run(make_order(settings, checkpoint_share=0.0))
    assert not path.exists()
    trial = TrialRun(make_order(settings, asks_unseen=True))
    trial.step()
    assert not path.exists()

    trial.step()

    assert len(load_scores(path).labels) == 24


def test_run_goes_on_from_its_checkpoint(make_order: MakeOrder, tmp_path: Path) -> None:
    settings = {"train.epochs": 2}
    whole = run(make_order(settings, folder=str(tmp_path / "whole")))
    order = make_order(settings, checkpoint_share=1.0, n_told=1)
    TrialRun(order).step()
    assert (Path(order.folder) / CHECKPOINT_FILE).is_file()

    reports = run(order)

    assert [report["epoch"] for report in reports] == [2]
    assert reports[-1]["best/macro_f1"] == whole[-1]["best/macro_f1"]
    scores, expected = (load_scores(folder / SCORES_FILE) for folder in (Path(order.folder), tmp_path / "whole"))
    assert scores.logits.tolist() == expected.logits.tolist()


def test_run_begins_anew_when_its_checkpoint_cannot_be_read(
    make_order: MakeOrder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"train.epochs": 2}
    whole = run(make_order(settings, folder=str(tmp_path / "whole")))
    order = make_order(settings, checkpoint_share=1.0, n_told=1)
    TrialRun(order).step()
    torn = Path(order.folder) / CHECKPOINT_FILE
    os.truncate(torn, torn.stat().st_size // 2)

    reports = run(order)

    assert [report["epoch"] for report in reports] == [1, 2]
    assert reports[-1]["best/macro_f1"] == whole[-1]["best/macro_f1"]
    assert "and the trial begins anew" in caplog.text and str(torn) in caplog.text


@pytest.mark.parametrize("batch_norm", ["eval", "train"])
@pytest.mark.parametrize("epochs", [0, 1], ids=["head only", "two stages"])
def test_run_is_preempted_when_the_search_ends_before_its_head_only_epochs(
    make_order: MakeOrder, batch_norm: str, epochs: int
) -> None:
    settings = {"train.epochs": epochs, "train.head_epochs": 1, "train.head_batch_norm": batch_norm}
    order = make_order(settings, search_ends_s=1.0)

    (report,) = run(order)

    assert (report["end"], report["best/macro_f1"]) == ("preempted", 0.0)
    assert [path.name for path in Path(order.folder).iterdir()] == []


def test_run_leaves_no_process_behind_when_it_is_released_in_its_middle(make_order: MakeOrder) -> None:
    before = {child.pid for child in psutil.Process().children()}
    trial = TrialRun(make_order(n_workers=1))
    trial.step()
    n_helping = len({child.pid for child in psutil.Process().children()} - before)

    trial.release()

    assert n_helping == 1
    assert {child.pid for child in psutil.Process().children()} <= before


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let so many writes of a checkpoint or of weights meet a full disk; waiting for room takes no time."""

    def fill(n_writes: int) -> None:
        left = iter(range(n_writes))
        for module, name in ((torch, "save"), (checkpoint, "save_file")):
            monkeypatch.setattr(module, name, partial(refuse_first, left, getattr(module, name)))

    monkeypatch.setattr("trainables.patience.time.sleep", lambda _: None)
    return fill


def refuse_first(left: Iterator[int], write: Callable[..., None], *args: Any, **words: Any) -> None:
    if next(left, None) is not None:
        raise OSError(errno.ENOSPC, "No space left on device")
    write(*args, **words)


def test_run_waits_while_its_disk_is_full_and_neither_loses_nor_repeats_an_epoch(
    make_order: MakeOrder, tmp_path: Path, full_disk: Callable[[int], None], caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"train.epochs": 3, "train.snapshots": 1}
    whole = run(make_order(settings, folder=str(tmp_path / "whole")))
    full_disk(4)

    reports = run(make_order(settings))

    assert [report["epoch"] for report in reports] == [1, 2, 3]
    assert [report["best/macro_f1"] for report in reports] == [report["best/macro_f1"] for report in whole]
    left, expected = (load_epoch_scores(tmp_path / name / EPOCHS_FILE) for name in ("t0000", "whole"))
    assert left.epochs.tolist() == expected.epochs.tolist()
    assert caplog.text.count("the disk is full, could not write") == 1
    assert caplog.text.count("the disk takes what waited for it") == 1


def test_run_is_preempted_when_its_time_is_up_before_the_disk_has_room(
    make_order: MakeOrder, full_disk: Callable[[int], None]
) -> None:
    full_disk(10**9)
    order = make_order({"train.epochs": 2}, deadline_s=time.time() + 3.0)

    reports = run(order)

    assert (reports[-1]["end"], reports[-1]["epoch"]) == ("preempted", 1)
    assert "the disk is full, could not write" in reports[-1]["error"]
    assert not (Path(order.folder) / WEIGHTS_FILE).exists()


def test_run_writes_no_checkpoint_where_it_may_take_no_time(make_order: MakeOrder) -> None:
    order = make_order(checkpoint_share=0.0)

    TrialRun(order).step()

    assert not (Path(order.folder) / CHECKPOINT_FILE).exists()


@pytest.mark.parametrize(
    ("settings", "fields", "sentence"),
    [
        ({"model.backbone": "lcnet_51"}, {}, "backbone must be a timm model, got 'lcnet_51'; did you mean 'lcnet_"),
        ({"model.weights": "/gone"}, {}, "weights must be none, hub or a safetensors file that exists, got '/gone'"),
        ({"blend.partner": "/gone"}, {}, "saved model could not be read"),
        ({}, {"table": "/gone"}, "face table"),
        ({}, {"device": "cuda:99"}, "device must be there, got 'cuda:99'"),
    ],
    ids=["backbone", "weights", "partner", "table", "device"],
)
def test_run_ends_failed_with_the_sentence_when_it_cannot_begin(
    make_order: MakeOrder, settings: dict[str, Any], fields: dict[str, Any], sentence: str
) -> None:
    (report,) = run(make_order(settings, **fields))

    assert report["end"] == "failed"
    assert report["error"].startswith(sentence)
    assert report["best/macro_f1"] == 0.0


def test_run_ends_failed_and_keeps_the_traceback_when_an_epoch_breaks(
    make_order: MakeOrder, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = make_order()
    trial = TrialRun(order)
    first = trial.step()

    def break_down(self: Trainer) -> None:
        raise torch.OutOfMemoryError("out of memory\nby a lot")

    monkeypatch.setattr(Trainer, "run_epoch", break_down)
    report = trial.step()

    assert (report["end"], report["error"]) == ("failed", "OutOfMemoryError: out of memory")
    assert report["best/macro_f1"] == first["best/macro_f1"]
    assert "break_down" in (Path(order.folder) / ERROR_FILE).read_text()


def test_run_is_failed_when_it_is_asked_after_its_release(make_order: MakeOrder) -> None:
    trial = TrialRun(make_order())
    trial.release()

    assert trial.step()["end"] == "failed"


def test_order_survives_plain_values(make_order: MakeOrder) -> None:
    order = make_order({"loss.class_weights": [1, 2, 3]}, deadline_s=5.0)

    assert TrialOrder(**order.to_dict()) == order
