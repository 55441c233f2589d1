"""One training run: epochs, scores, state. It needs neither Ray nor MLflow."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from spaces.config import TrialConfig
from spaces.errors import DataError
from trainables.budget import StepBudget
from trainables.checkpoint import save_network, state_on_cpu
from trainables.data.augment import Augmenter
from trainables.data.batches import EpochBatches, iter_batches
from trainables.data.sampling import stratified_subsample
from trainables.data.table import FaceTable
from trainables.device import check_device
from trainables.head_only import train_head
from trainables.losses import SmoothedCrossEntropy, class_weights
from trainables.metrics import confusion_matrix, f1_per_class
from trainables.models.build import build_trial_network
from trainables.models.inputs import predict_logits
from trainables.models.partner import partner_probs
from trainables.scores import Scores, save_scores, softmax
from trainables.stepper import Stepper

EpochReport = dict[str, Any]
FloatArray = npt.NDArray[np.float64]

WEIGHTS_FILE = "weights.safetensors"
HEAD_FILE = "head.safetensors"
SCORES_FILE = "scores/valid.arrow"


@dataclass(frozen=True)
class Best:
    """The best epoch so far: its macro-F1, its number, its scores with the partner blended in, its weights."""

    macro_f1: float
    epoch: int
    logits: npt.NDArray[np.float32]
    state: dict[str, torch.Tensor]


class Trainer:
    """Trains one config on one table and keeps what its best epoch left."""

    def __init__(
        self,
        config: TrialConfig,
        table: FaceTable,
        *,
        device: str = "cpu",
        deadline_s: float | None = None,
        n_workers: int = 0,
    ) -> None:
        """
        Args:
            config: complete.
            table: its train and valid splits are used.
            device: `cpu`, `cuda` or `cuda:N`.
            deadline_s: Unix time by which the run must have ended; its schedule shrinks to fit.
            n_workers: processes that prepare batches; 0 prepares them in between.

        Raises:
            ModelError: backbone, weights or partner do not fit.
            ConfigError: a setting does not fit the table.
            DataError: a split has too few labelled faces.
            DeviceError: the device is not there.
        """
        self.config = config
        self.classes = tuple(table.info.classes)
        self.epoch = 0
        self.best: Best | None = None
        self._device = check_device(device)
        self._n_workers = n_workers
        self._train, self._valid = table.split("train"), table.split("valid")
        if not (self._valid.expression >= 0).any():
            raise DataError(f"valid split must have labelled faces, got 0 of {len(self._valid)}: {table.path}")
        self._rows = stratified_subsample(
            self._train.expression, ratio=config.data.subsample_ratio, seed=config.train.seed
        )
        self._augmenter = Augmenter(config.augment)
        with self._seeded(epoch=0):
            network, self.spec = build_trial_network(config, table.info)
            network.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._loss = SmoothedCrossEntropy(
            torch.from_numpy(class_weights(self._class_counts(), config.loss)),
            label_smoothing=config.loss.label_smoothing,
        ).to(self._device)
        self._stepper = Stepper(network, self.spec, loss=self._loss, config=config)
        n_batches = len(self._batches(epoch=1))
        self._faces_per_step = len(self._rows) / n_batches
        self._budget = StepBudget(
            planned_steps=n_batches * config.train.epochs,
            deadline_s=deadline_s,
            reserve_steps=0.5 * len(self._valid) / self._faces_per_step,
        )
        self._partner: FloatArray | None = None
        if config.blend.partner not in ("none", "head"):
            path = Path(config.blend.partner).expanduser()
            self._partner = partner_probs(path, self._valid, self.classes, device=self._device)
        self._head_state: dict[str, torch.Tensor] | None = None
        self._diverged = False

    @property
    def is_done(self) -> bool:
        """Whether another epoch would change nothing."""
        if self._diverged or self.epoch >= max(self.config.train.epochs, 1):
            return True
        return self.epoch > 0 and self._budget.is_spent

    def run_epoch(self) -> EpochReport:
        """Train an epoch (after the head-only epochs, the first time), score it, and say how it went.

        Returns:
            Finite numbers by metric name; `end` is `completed` or `diverged` in the last report, else empty.
        """
        started_s = time.perf_counter()
        report: EpochReport = {}
        self.epoch += 1
        with self._seeded(epoch=self.epoch):
            if self.epoch == 1 and self.config.train.head_epochs:
                report |= self._run_head_epochs()
            if self.config.train.epochs:
                report |= self._run_full_epoch()
        best_f1, best_epoch = (self.best.macro_f1, self.best.epoch) if self.best else (0.0, 0)
        return {
            "valid/macro_f1": best_f1,  # where this epoch has none of its own
            **report,
            "epoch": self.epoch,
            "samples_seen": round(self._budget.step * self._faces_per_step),
            "best/macro_f1": best_f1,
            "best/epoch": best_epoch,
            "time/epoch_s": time.perf_counter() - started_s,
            "end": "diverged" if self._diverged else "completed" if self.is_done else "",
        }

    def scores(self) -> Scores:
        """The best epoch's scores on the valid split, the partner blended in."""
        assert self.best is not None, "there are scores after the first epoch"
        return Scores(
            sample_ids=tuple(self._valid.sample_ids),
            subjects=tuple(self._valid.subjects),
            labels=self._valid.expression,
            logits=self.best.logits,
            classes=self.classes,
        )

    def save_outputs(self, folder: Path) -> None:
        """Write the best epoch's scores and weights, and the head-only network where it is the partner."""
        if self.best is None:
            return
        save_network(folder / WEIGHTS_FILE, self.best.state, self.spec)
        if self._head_state is not None and self.config.blend.partner == "head":
            save_network(folder / HEAD_FILE, self._head_state, self.spec)
        save_scores(folder / SCORES_FILE, self.scores())

    def state_dict(self) -> dict[str, Any]:
        """All that a run which was cut off needs to go on after its last epoch; tensors and plain values."""
        best = None if self.best is None else {**vars(self.best), "logits": torch.from_numpy(self.best.logits)}
        return {
            "epoch": self.epoch,
            "step": self._budget.step,
            "stepper": self._stepper.state_dict(),
            "partner": None if self._partner is None else torch.from_numpy(self._partner),
            "head_state": self._head_state,
            "best": best,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state of a run of the same config."""
        self.epoch = state["epoch"]
        self._budget.step = state["step"]
        self._stepper.load_state_dict(state["stepper"])
        self._partner = None if state["partner"] is None else state["partner"].numpy()
        self._head_state = state["head_state"]
        best = state["best"]
        self.best = None if best is None else Best(**{**best, "logits": best["logits"].numpy()})

    @contextmanager
    def _seeded(self, *, epoch: int) -> Iterator[None]:
        """Random numbers of torch that depend on seed and epoch alone; the caller's own are left as they were."""
        devices = [self._device] if self._device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(self.config.train.seed * 1000 + epoch)
            yield

    def _class_counts(self) -> npt.NDArray[np.int64]:
        counts = np.bincount(self._train.expression[self._rows], minlength=len(self.classes))
        if counts.sum() < 2:
            raise DataError(f"train split must have at least 2 labelled faces, got {counts.sum()}")
        return counts.astype(np.int64)

    def _batches(self, *, epoch: int) -> EpochBatches:
        train = self.config.train
        return EpochBatches(
            self._train, self._rows, self._augmenter, batch_size=train.batch_size, seed=train.seed, epoch=epoch
        )

    def _run_head_epochs(self) -> EpochReport:
        network = self._stepper.network
        images, labels = self._train.images, self._train.expression
        train_head(network, self.spec, images, labels, rows=self._rows, loss=self._loss, config=self.config)
        self._stepper.average.restart(network)
        logits = predict_logits(network, self._valid.images, self.spec)
        scored = self._score(logits, epoch=0)
        if self._diverged:
            return {}
        if self.config.blend.partner == "head":
            self._head_state = state_on_cpu(network)
            self._partner = softmax(logits)
        report = {"head/macro_f1": scored["valid/macro_f1"]}
        return report if self.config.train.epochs else report | scored

    def _run_full_epoch(self) -> EpochReport:
        train_loss = math.nan if self._diverged else self._train_pass()
        if not math.isfinite(train_loss):
            self._diverged = True
            return {}
        started_s = time.perf_counter()
        logits = predict_logits(self._stepper.average.network, self._valid.images, self.spec)
        report = self._score(logits, epoch=self.epoch)
        self._budget.reserve_s = 1.0 + 1.5 * (time.perf_counter() - started_s)
        return {"train/loss": train_loss, **report}

    def _train_pass(self) -> float:
        """One pass over the subsample, or what the budget leaves of it; the mean loss, NaN once one is not finite."""
        self._stepper.network.train()
        total, n_steps = torch.zeros((), device=self._device), 0
        batches = self._batches(epoch=self.epoch)
        self._budget.start_clock()
        for images, labels in iter_batches(batches, n_workers=self._n_workers, pin_memory=self._device.type == "cuda"):
            if n_steps and self._budget.is_spent:
                break
            total += self._stepper.step(images, labels, progress=self._budget.progress)
            self._budget.count_step()
            n_steps += 1
            if n_steps % 20 == 0 and not bool(torch.isfinite(total)):
                break
        return float(total) / n_steps

    def _score(self, logits: npt.NDArray[np.float32], *, epoch: int) -> EpochReport:
        """Blend, measure, and keep the weights where they are the best so far; nothing once a number is not finite."""
        labels = self._valid.expression
        labelled = labels >= 0
        loss = self._loss(
            torch.from_numpy(logits[labelled]).to(self._device),
            torch.from_numpy(labels[labelled].astype(np.int64)).to(self._device),
        )
        if not (math.isfinite(loss) and np.isfinite(logits).all()):
            self._diverged = True
            return {}
        blended = self._blend(logits)
        f1 = f1_per_class(confusion_matrix(labels, blended.argmax(axis=1), len(self.classes)))
        if self.best is None or float(f1.mean()) > self.best.macro_f1:
            state = state_on_cpu(self._stepper.average.network)
            self.best = Best(macro_f1=float(f1.mean()), epoch=epoch, logits=blended, state=state)
        per_class = {f"valid/f1/{name}": float(value) for name, value in zip(self.classes, f1, strict=True)}
        return {"valid/loss": float(loss), "valid/macro_f1": float(f1.mean()), **per_class}

    def _blend(self, logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """w * partner + (1 - w) * fine-tuned on probabilities, as logits (their logarithm)."""
        if self._partner is None:
            return logits
        weight = self.config.blend.weight
        probs = weight * self._partner + (1.0 - weight) * softmax(logits)
        return np.log(np.maximum(probs, 1e-12)).astype(np.float32)
