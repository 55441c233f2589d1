"""One training run: epochs, scores, state. It needs neither Ray nor MLflow."""

import logging
import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from spaces.config import TrialConfig
from trainables.budget import StepBudget
from trainables.checkpoint import save_network, state_on_cpu
from trainables.data.augment import Augmenter
from trainables.data.batches import Batch, EpochBatches
from trainables.data.loader import BatchLoader
from trainables.data.needs import check_labels
from trainables.data.table import FaceTable
from trainables.device import check_device
from trainables.embeddings.cache import EmbeddingCache
from trainables.head_stage import HeadStage
from trainables.kept_epochs import KeptEpochs, ScoredEpoch
from trainables.models.architectures.answers import MOVES
from trainables.models.build import build_trial_network
from trainables.models.freezing import set_training_mode
from trainables.models.inputs import predict_outputs
from trainables.models.partner import partner_logits
from trainables.out_of_bag import OUT_OF_BAG_FILE, UnseenFaces
from trainables.preparation import batch_maker, build_loss, build_stepper, choose_items
from trainables.randomness import seeded
from trainables.scores import SCORES_FILE, Scores, save_scores
from trainables.scoring import ValidScorer

EpochReport = dict[str, Any]
FloatArray = npt.NDArray[np.float32]

logger = logging.getLogger(__name__)

WEIGHTS_FILE = "weights.safetensors"
HEAD_FILE = "head.safetensors"


class Trainer:
    """Trains one config on one table and keeps what its best epoch left.

    Attributes:
        config: of the run.
        classes: of the table.
        epoch: that was run last.
        spec: of the network, without a hand rule.
        kept: the epochs that are kept whole, and the answers of the best ones.
    """

    def __init__(
        self,
        config: TrialConfig,
        table: FaceTable,
        *,
        device: str = "cpu",
        deadline_s: float | None = None,
        search_ends_s: float | None = None,
        n_workers: int = 0,
        embeddings: EmbeddingCache | None = None,
        asks_unseen: bool = False,
    ) -> None:
        """
        Args:
            config: complete.
            table: its train and valid splits are used.
            device: `cpu`, `cuda` or `cuda:N`.
            deadline_s: Unix time by which the run must have ended; its schedule shrinks to fit.
            search_ends_s: Unix time at which head-only epochs, whose schedule does not shrink, are given up, and
                embedding faces for them, which serves other runs too.
            n_workers: processes that prepare batches; 0 prepares them in between.
            embeddings: where those of encoders that stand still are kept; None computes them anew.
            asks_unseen: time is kept for `save_out_of_bag`.

        Raises:
            ModelError: backbone, weights or partner do not fit.
            ConfigError: a setting does not fit the table.
            DataError: a split has too few labelled faces.
            DeviceError: the device is not there.
        """
        self.config = config
        self.classes = tuple(table.info.classes)
        self.epoch = 0
        self._table, self._embeddings, self._search_ends_s = table, embeddings, search_ends_s
        self._device = check_device(device)
        self._train, self._valid = table.split("train"), table.split("valid")
        check_labels(config, table)
        self._items = choose_items(self._train, config)
        augmenter = Augmenter(config.augment)
        make_batches = batch_maker(self._train, self._items, augmenter, config)
        self._loader = BatchLoader(make_batches, n_workers=n_workers, device=self._device)
        with self._seeded(epoch=0):
            network, self.spec = build_trial_network(config, table.info)
            network.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.kept = KeptEpochs(self._valid, self.classes, self.spec, n_snapshots=config.train.snapshots)
        n_classes, feature_width = len(self.classes), network.encoder.feature_width
        loss = build_loss(config, self._train, self._items, n_classes=n_classes, feature_width=feature_width)
        self._loss = loss.to(self._device)
        n_batches = len(self._batches(epoch=1))
        self._stepper, self._memory = build_stepper(
            network, self.spec, loss=self._loss, config=config, table=table, items=self._items,
            augmenter=augmenter, n_batches=n_batches, embeddings=embeddings, deadline_s=deadline_s,
        )  # fmt: skip
        self._faces_per_step = len(self._items.rows) / n_batches
        self._budget = StepBudget(
            planned_steps=n_batches * config.train.epochs,
            deadline_s=deadline_s,
            reserve_steps=0.5 * self._n_scorings * len(self._valid) / self._faces_per_step,
        )
        self._scorer = ValidScorer(self._valid, self.classes, config, self._loss.expression)
        self._unseen: UnseenFaces | None = None
        if asks_unseen:
            n_valid = len(self._valid)
            self._unseen = UnseenFaces(self._train, self._items, config, n_valid=n_valid, deadline_s=deadline_s)
        self._scoring_s = 0.0
        if config.blend.partner not in ("none", "head"):
            path = Path(config.blend.partner).expanduser()
            self._scorer.partner = partner_logits(path, self._valid, self.classes, device=self._device)
        self._head_state: dict[str, torch.Tensor] | None = None
        self._diverged = False

    @property
    def best(self) -> ScoredEpoch | None:
        """The best epoch so far, whole."""
        return self.kept.best

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

        Raises:
            OutOfTime: the search ends before the head-only epochs do.
        """
        started_s = time.perf_counter()
        report: EpochReport = {}
        self.epoch += 1
        with self._seeded(epoch=self.epoch):
            if self.epoch == 1 and self.config.train.head_epochs:
                report |= self._run_head_epochs()
            if self.config.train.epochs:
                report |= self._run_full_epoch()
            if self.is_done and self.config.train.epochs and self.config.model.shift:
                report |= self._look_again()
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
        return self.kept.scores_of(self.best)

    def save_outputs(self, folder: Path) -> None:
        """Write the best epoch's scores and weights, and the head-only network where it is the partner."""
        if self.best is None:
            return
        self.kept.save_weights(folder / WEIGHTS_FILE, self.best)
        if self._head_state is not None and self.config.blend.partner == "head":
            save_network(folder / HEAD_FILE, self._head_state, self.spec)
        save_scores(folder / SCORES_FILE, self.scores())

    def save_out_of_bag(self, folder: Path) -> None:
        """Write what the best epoch's network says of training faces that it has not seen, where there is time left."""
        if self._unseen is None or self.best is None or not len(self._unseen.rows):
            return
        if not self._unseen.is_in_time(self._scoring_s):
            logger.info("no time is left to score %d faces out of bag", len(self._unseen.rows))
            return
        network = self._stepper.average.network
        scores = self._unseen.scores(network, self.best, self.spec, head_state=self._head_state)
        save_scores(folder / OUT_OF_BAG_FILE, scores)

    def spare_memory(self) -> None:
        """Take half as many faces at once from here on: a worker before this one was lost for want of memory."""
        self._stepper.spare_memory()

    def close(self) -> None:
        """End the worker processes that prepare batches, and let go of what was compiled; scores and weights stay."""
        self._loader.close()
        self._stepper.close()

    def state_dict(self) -> dict[str, Any]:
        """All that a run which was cut off needs to go on after its last epoch; tensors and plain values."""
        partner = self._scorer.partner
        return {
            "epoch": self.epoch,
            "step": self._budget.step,
            "stepper": self._stepper.state_dict(),
            "partner": None if partner is None else torch.from_numpy(partner),
            "head_state": self._head_state,
            "kept": self.kept.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state of a run of the same config."""
        self.epoch = state["epoch"]
        self._budget.step = state["step"]
        self._stepper.load_state_dict(state["stepper"])
        self._scorer.partner = None if state["partner"] is None else state["partner"].numpy()
        self._head_state = state["head_state"]
        self.kept.load_state_dict(state["kept"])

    def _seeded(self, *, epoch: int) -> AbstractContextManager[None]:
        return seeded(self.config.train.seed, epoch=epoch, device=self._device)

    def _batches(self, *, epoch: int) -> EpochBatches:
        return self._loader.batches(epoch=epoch)

    def _run_head_epochs(self) -> EpochReport:
        network = self._stepper.network
        stage = HeadStage(
            network, self.spec, self._loss, self.config, self._table, self._items, self._embeddings,
            until_s=self._search_ends_s,
        )  # fmt: skip
        outputs, self._diverged = stage.run(self._loader)
        self._stepper.average.restart(network)
        if self.config.blend.partner == "head":  # set before scoring: should this stay the best, it votes twice
            self._head_state = state_on_cpu(network)
            self._scorer.partner = outputs["logits"]
        if self.config.train.epochs:  # the hand module has not been trained yet, and has no say
            outputs.pop("hand", None)
        scored = {} if self._diverged else self._score(outputs, epoch=0)
        if self._diverged:
            return {}
        report = {"head/macro_f1": scored["valid/macro_f1"]}
        if self._embeddings is not None:
            report["head/embedded"] = float(self.config.train.head_batch_norm == "eval")
        return report if self.config.train.epochs else report | scored

    def _run_full_epoch(self) -> EpochReport:
        losses = {"train/loss": math.nan} if self._diverged else self._train_pass()
        if not math.isfinite(losses["train/loss"]):
            self._diverged = True
            return {}
        started_s = time.perf_counter()
        outputs = predict_outputs(self._stepper.average.network, self._valid.images, self.spec)
        report = self._score(outputs, epoch=self.epoch)
        self._scoring_s = time.perf_counter() - started_s
        unseen_s = self._unseen.reserve_s(self._scoring_s) if self._unseen else 0.0
        self._budget.reserve_s = 1.0 + (self._n_scorings + 0.5) * self._scoring_s + unseen_s
        return {**losses, **report}

    @property
    def _n_scorings(self) -> int:
        """What the end of an epoch may take, the trial's last looks at the valid split included, in plain scorings."""
        return 1 + len(MOVES) * (1 + self.config.train.snapshots) if self.config.model.shift else 1

    def _look_again(self) -> EpochReport:
        """Let the networks that are kept answer with the mean over moved faces too, and take that for their scores."""
        unmoved = self.best
        if self._diverged or unmoved is None or not self.kept.ask_again(self._with_moves):
            return {}
        return {"unmoved/macro_f1": unmoved.macro_f1}

    def _with_moves(self, unmoved: ScoredEpoch) -> ScoredEpoch | None:
        """The same network with its answers for moved faces; None where a number of those is not finite."""
        network = self._stepper.average.network
        network.load_state_dict(unmoved.state)
        shift_px = max(1, round(self.config.model.shift * self.spec.image_px))
        outputs = predict_outputs(network, self._valid.images, replace(self.spec, shift_px=shift_px))
        scored = self._scorer.score(outputs)
        if scored is None:
            return None
        return ScoredEpoch.of(scored, epoch=unmoved.epoch, state=unmoved.state, shift_px=shift_px)

    def _iter_batches(self, epoch: int) -> Iterator[Batch]:
        return self._loader.epoch(epoch)

    def _train_pass(self) -> dict[str, float]:
        """One pass over the items, or what the budget leaves of it; mean loss and terms, NaN once one is not finite."""
        set_training_mode(self._stepper.network, self.config.train)
        totals: dict[str, torch.Tensor] = {}
        n_steps = 0
        if self._memory is not None:
            self._memory.learn()
        self._budget.start_clock()
        for batch in self._iter_batches(self.epoch):
            if n_steps and self._budget.is_spent:
                break
            for name, term in self._stepper.step(batch, progress=self._budget.progress).items():
                totals[name] = totals.get(name, torch.zeros((), device=self._device)) + term
            self._budget.count_step()
            n_steps += 1
            if n_steps % 20 == 0 and not bool(torch.isfinite(totals["loss"])):
                break
        means = {name: float(total) / n_steps for name, total in totals.items()}
        report = {"train/loss": means.pop("loss")}
        report |= {f"train/{name}": mean for name, mean in means.items()} if len(means) > 1 else {}
        return report | self._stepper.notes()

    def _score(self, outputs: dict[str, FloatArray], *, epoch: int) -> EpochReport:
        """Measure, and keep what is asked for of an epoch that did well; nothing once a number is not finite."""
        scored = self._scorer.score(outputs)
        if scored is None:
            self._diverged = True
            return {}
        self.kept.note(scored, self._stepper.average.network, epoch=epoch)
        return dict(scored.metrics)
