"""A trial from its order to its end: what the Tune trainable and the bagging tasks both drive, epoch by epoch."""

import logging
import os
import time
import traceback
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from spaces.config import TrialConfig
from spaces.errors import AffectuneError
from trainables.budget import OutOfTime
from trainables.data.opening import shared_data
from trainables.device import check_device
from trainables.embeddings.cache import default_cache
from trainables.environment import check_environment
from trainables.epochs import BestEpochs
from trainables.kept_epochs import ScoredEpoch
from trainables.memory import cap_gpu_memory, free_memory, keep_pages
from trainables.patience import Patience, is_passing
from trainables.pulse import SILENT_S, Pulse
from trainables.shared_clock import clock_lead_s, in_own_time
from trainables.trainer import EpochReport, Trainer
from trainables.trial_checkpoint import SHARE, TrialCheckpoint

logger = logging.getLogger(__name__)

CHECKPOINT_FILE = "checkpoint.pt"
ERROR_FILE = "error.txt"
REPORT = "report"
"""In a checkpoint, beside the trainer's own state: what was reported with it."""


@dataclass(frozen=True)
class TrialOrder:
    """What a worker is told to do.

    Attributes:
        trial_id: of the trial or bag.
        settings: the complete config, flat.
        table: folder or URI of the face table.
        folder: where scores, weights and checkpoints go.
        device: `cpu` or `cuda`.
        n_threads: of the processor.
        n_workers: processes that prepare batches.
        deadline_s: Unix time by which the trial must have ended; None for no deadline.
        search_ends_s: Unix time by which the search must have; None for no end.
        gpu_share: of a GPU, where trials share one; more of its memory the trial can't take.
        checkpoint_share: of its time, what its checkpoints may take; it has one after every epoch that pays for it.
        asks_unseen: when it completes, training faces that it left out are scored too.
        silent_s: seconds without a sign of life after which it is taken for hung.
        content_hash: of the face table, which must be that one; empty for whichever is there.
        environment: what the driver computes with, as `read_environment` says it; empty for whatever is there.
        n_told: epochs whose reports have arrived, from workers before.
        clock_lead_s: of the machine that orders, ahead of the clock of the storage (`shared_clock`).
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
    checkpoint_share: float = SHARE
    asks_unseen: bool = False
    silent_s: float = SILENT_S
    content_hash: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    n_told: int = 0
    clock_lead_s: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a scheduler's config."""
        return asdict(self)

    def in_own_time(self) -> "TrialOrder":
        """The same order, its times by this machine's clock."""
        own_s = clock_lead_s(Path(self.folder))
        leads = {"lead_s": own_s, "sender_lead_s": self.clock_lead_s}
        return replace(
            self,
            deadline_s=in_own_time(self.deadline_s, **leads),
            search_ends_s=in_own_time(self.search_ends_s, **leads),
            clock_lead_s=own_s,
        )


class TrialRun:
    """A trial in progress. An error inside becomes the trial's end, never the worker's.

    Where its folder holds a checkpoint it goes on from that, and tells the epoch before it again where that has not
    arrived. The checkpoint stays when the trial ends: whoever ordered it may be gone without having heard of it, and
    removes it when he has.

    While the disk of its folder is full, or does not answer, it waits at the end of an epoch, and then goes on.
    """

    def __init__(self, order: TrialOrder) -> None:
        self._order = order = order.in_own_time()
        self._folder = Path(order.folder)
        self._trainer: Trainer | None = None
        self._error: EpochReport | None = None
        self._saved: ScoredEpoch | None = None
        self._saved_answers: BestEpochs | None = None
        self._untold: EpochReport | None = None
        self._checkpoint = TrialCheckpoint(self._folder / CHECKPOINT_FILE, share=order.checkpoint_share)
        self._patience = Patience(logger.warning, is_over=self._is_late)
        self._pulse = Pulse(self._folder, silent_s=order.silent_s)
        prepare_worker(order.n_threads)
        try:
            self._trainer = self._build()
            self._go_on()
            self._spare_memory()
        except OutOfTime:
            self._error = last_report("preempted")
        except Exception as error:
            self._error = self._failure(error)

    def step(self) -> EpochReport:
        """One epoch.

        Returns:
            The trainer's report; `end` may also be `failed`, with the error's text under `error`, or `preempted`, where
            the time was up before anything could be scored, or while a full disk was waited for.
        """
        if self._trainer is None:
            return self._error or self._failure(RuntimeError("trial has ended"))
        if self._untold is not None:
            report, self._untold = self._untold, None
            return report
        try:
            report = self._trainer.run_epoch()
            self._patience(lambda: self._save(report))
        except OutOfTime:
            report = last_report("preempted")
        except Exception as error:
            report = self._failure(error)
            if isinstance(error, OSError) and is_passing(error) and self._is_late():
                report = {**report, "end": "preempted"}
        return report

    def release(self) -> None:
        """Let go of the network, so that the next trial finds the memory free."""
        self._pulse.stop()
        if self._trainer is not None:
            self._trainer.close()
        self._trainer = None
        free_memory()

    def _build(self) -> Trainer:
        order = self._order
        self._patience(lambda: self._folder.mkdir(parents=True, exist_ok=True))
        if order.environment:
            check_environment(order.environment)
        device = check_device(order.device)
        if device.type == "cuda":
            cap_gpu_memory(order.gpu_share, device)
        trainer = Trainer(
            TrialConfig.from_flat(order.settings),
            shared_data(order.table, content_hash=order.content_hash, until_s=order.search_ends_s),
            device=order.device,
            deadline_s=order.deadline_s,
            search_ends_s=order.search_ends_s,
            n_workers=order.n_workers,
            embeddings=default_cache(),
            asks_unseen=order.asks_unseen,
        )
        return trainer

    def _go_on(self) -> None:
        """Take up the checkpoint, if there is one; one that makes no sense is given up, and the trial begins anew."""
        assert self._trainer is not None
        try:
            state = self._patience(self._checkpoint.load)
            if state is not None:
                report = state.pop(REPORT, None)
                self._trainer.load_state_dict(state)
                self._untold = report if report and report["epoch"] > self._order.n_told else None
        except OSError:  # it may be well; the disk is what is not
            raise
        except Exception as error:
            logger.warning("checkpoint can't be read, and the trial begins anew, %s: %s", error, self._checkpoint.path)
            self._checkpoint.remove()
            self._untold = None
            self._trainer.close()
            self._trainer = self._build()

    def _spare_memory(self) -> None:
        """Where the worker before was lost while memory ran out; noted at once, should this one be lost too."""
        trainer = self._trainer
        if trainer is not None and self._pulse.follows_oom_kill:
            trainer.spare_memory()
            untold = self._untold
            state = {} if untold is None else {REPORT: untold}
            self._patience(lambda: self._checkpoint.save(lambda: {**trainer.state_dict(), **state}))

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
        if not report["end"]:
            trainer = self._trainer
            self._checkpoint.save(lambda: {**trainer.state_dict(), REPORT: dict(report)})

    def _is_late(self) -> bool:
        """Whether the trial must have ended by now."""
        return self._order.deadline_s is not None and time.time() >= self._order.deadline_s

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
