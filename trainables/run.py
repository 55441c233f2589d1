"""A trial from its order to its end: what the Tune trainable and the bagging tasks both drive, epoch by epoch."""

import logging
import os
import time
import traceback
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from spaces.config import TrialConfig
from spaces.errors import AffectuneError
from trainables.budget import OutOfTime
from trainables.data.table import shared_table
from trainables.device import check_device
from trainables.embeddings.cache import default_cache
from trainables.epochs import BestEpochs
from trainables.kept_epochs import ScoredEpoch
from trainables.memory import cap_gpu_memory, free_memory, keep_pages
from trainables.outputs import new_file
from trainables.trainer import EpochReport, Trainer

logger = logging.getLogger(__name__)

CHECKPOINT_FILE = "checkpoint.pt"
ERROR_FILE = "error.txt"


@dataclass(frozen=True)
class TrialOrder:
    """What a worker is told to do.

    Attributes:
        trial_id: of the trial or bag.
        settings: the complete config, flat.
        table: folder of the face table.
        folder: where scores, weights and checkpoints go.
        device: `cpu` or `cuda`.
        n_threads: of the processor.
        n_workers: processes that prepare batches.
        deadline_s: Unix time by which the trial must have ended; None for no deadline.
        search_ends_s: Unix time by which the search must have; None for no end.
        gpu_share: of a GPU, where trials share one; more of its memory the trial can't take.
        checkpoint_s: seconds between checkpoints, so that a lost worker costs no more than this and an epoch.
        asks_unseen: when it completes, training faces that it left out are scored too.
    """

    trial_id: str
    settings: dict[str, Any]
    table: str
    folder: str
    device: str = "cpu"
    n_threads: int = 1
    n_workers: int = 0
    deadline_s: float | None = None
    search_ends_s: float | None = None
    gpu_share: float = 1.0
    checkpoint_s: float = 20.0
    asks_unseen: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a scheduler's config."""
        return asdict(self)


class TrialRun:
    """A trial in progress. An error inside becomes the trial's end, never the worker's.

    Where its folder holds a checkpoint it goes on from that. The checkpoint stays when the trial ends: whoever
    ordered it may be gone without having heard of it, and removes it when he has.
    """

    def __init__(self, order: TrialOrder) -> None:
        self._order = order
        self._folder = Path(order.folder)
        self._trainer: Trainer | None = None
        self._error: EpochReport | None = None
        self._saved: ScoredEpoch | None = None
        self._saved_answers: BestEpochs | None = None
        self._saved_s = time.monotonic()
        prepare_worker(order.n_threads)
        try:
            self._trainer = self._build()
            self._go_on()
        except Exception as error:
            self._error = self._failure(error)

    def step(self) -> EpochReport:
        """One epoch.

        Returns:
            The trainer's report; `end` may also be `failed`, with the error's text under `error`, or `preempted`, where
            the search's time was up before anything could be scored.
        """
        if self._trainer is None:
            return self._error or self._failure(RuntimeError("trial has ended"))
        try:
            report = self._trainer.run_epoch()
            self._save(report)
        except OutOfTime:
            report = last_report("preempted")
        except Exception as error:
            report = self._failure(error)
        return report

    def release(self) -> None:
        """Let go of the network, so that the next trial finds the memory free."""
        if self._trainer is not None:
            self._trainer.close()
        self._trainer = None
        free_memory()

    def _build(self) -> Trainer:
        order = self._order
        self._folder.mkdir(parents=True, exist_ok=True)
        device = check_device(order.device)
        if device.type == "cuda":
            cap_gpu_memory(order.gpu_share, device)
        trainer = Trainer(
            TrialConfig.from_flat(order.settings),
            shared_table(Path(order.table)),
            device=order.device,
            deadline_s=order.deadline_s,
            search_ends_s=order.search_ends_s,
            n_workers=order.n_workers,
            embeddings=default_cache(),
            asks_unseen=order.asks_unseen,
        )
        return trainer

    def _go_on(self) -> None:
        """Take up the checkpoint, if there is one; one that can't be read is given up, and the trial begins anew."""
        checkpoint = self._folder / CHECKPOINT_FILE
        if self._trainer is None or not checkpoint.exists():
            return
        try:
            self._trainer.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True))
        except Exception as error:
            logger.warning("checkpoint can't be read, and the trial begins anew, %s: %s", error, checkpoint)
            checkpoint.unlink(missing_ok=True)
            self._trainer.close()
            self._trainer = self._build()

    def _save(self, report: EpochReport) -> None:
        assert self._trainer is not None
        kept = self._trainer.kept
        if kept.best is not None and kept.best is not self._saved:
            self._trainer.save_outputs(self._folder)
            self._saved = kept.best
        if kept.answers is not self._saved_answers:
            kept.save_answers(self._folder)
            self._saved_answers = kept.answers
        if report["end"] == "completed":
            kept.save_snapshots(self._folder)
            self._trainer.save_out_of_bag(self._folder)
        if not report["end"] and time.monotonic() - self._saved_s > self._order.checkpoint_s:
            with new_file(self._folder / CHECKPOINT_FILE) as staging, staging.open("wb") as file:
                torch.save(self._trainer.state_dict(), file)  # to a path, it would not say that the disk is full
            self._saved_s = time.monotonic()

    def _failure(self, error: Exception) -> EpochReport:
        best = self._trainer.best if self._trainer else None
        return failure_report(
            error,
            self._folder,
            epoch=self._trainer.epoch if self._trainer else 0,
            best_f1=best.macro_f1 if best else 0.0,
            best_epoch=best.epoch if best else 0,
        )


def prepare_worker(n_threads: int) -> None:
    """Settle this process for trials that use so many threads."""
    torch.set_num_threads(n_threads)
    keep_pages()
    _keep_opencv_single()


def failure_report(
    error: Exception, folder: Path, *, epoch: int = 0, best_f1: float = 0.0, best_epoch: int = 0
) -> EpochReport:
    """The last report of a trial that an error ended; the whole of the error is written into the trial's folder."""
    text = str(error) if isinstance(error, AffectuneError) else f"{type(error).__name__}: {error}"
    with suppress(OSError):  # the disk may be what failed; the sentence still reaches the driver
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ERROR_FILE).write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    report = last_report("failed", epoch=epoch, best_f1=best_f1, best_epoch=best_epoch)
    return {**report, "error": text.splitlines()[0] if text else type(error).__name__}


def last_report(
    end: Literal["failed", "preempted"], *, epoch: int = 0, best_f1: float = 0.0, best_epoch: int = 0
) -> EpochReport:
    """What is told of an epoch that did not come to its end."""
    return {
        "epoch": epoch,
        "valid/macro_f1": best_f1,
        "best/macro_f1": best_f1,
        "best/epoch": best_epoch,
        "time/epoch_s": 0.0,
        "end": end,
    }


def _keep_opencv_single() -> None:
    """Augmentation of one small face gains nothing from OpenCV's threads, and they take the trainer's cores."""
    import cv2

    cv2.setNumThreads(0)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
