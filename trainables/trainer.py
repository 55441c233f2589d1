"""One training run: epochs, scores, state. It needs neither Ray nor MLflow."""

import logging
import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from spaces.config import TrialConfig
from trainables.best import Best
from trainables.budget import StepBudget
from trainables.checkpoint import NetworkSpec, save_network, state_on_cpu
from trainables.data.augment import Augmenter
from trainables.data.batches import Batch, EpochBatches, split_targets
from trainables.data.loader import BatchLoader, MakeBatches
from trainables.data.needs import check_labels, needed_labels
from trainables.data.table import FaceTable
from trainables.device import check_device
from trainables.embeddings.cache import EmbeddingCache
from trainables.embeddings.compute import embed_faces, predict_embedded, valid_embeddings
from trainables.embeddings.encoder import FrozenEncoder
from trainables.embeddings.faces import EmbeddedFaces
from trainables.frozen_memory import KeptTwin
from trainables.gpu_profile import compiles, load_profile
from trainables.head_only import train_heads, train_heads_drifting
from trainables.heads.blocks import HEAD_EPOCHS_FROM, head_order
from trainables.heads.engine import HeadTask, train_together
from trainables.heads.settings import why_stage_not_packable
from trainables.models.architectures.answers import MOVES
from trainables.models.build import build_trial_network
from trainables.models.freezing import set_training_mode
from trainables.models.inputs import predict_outputs
from trainables.models.partner import partner_logits
from trainables.preparation import build_loss, build_memory, choose_items
from trainables.randomness import seeded
from trainables.scores import Scores, save_scores, split_scores
from trainables.scoring import ValidScorer
from trainables.stepper import Stepper, arithmetic

logger = logging.getLogger(__name__)

EpochReport = dict[str, Any]
FloatArray = npt.NDArray[np.float32]

WEIGHTS_FILE = "weights.safetensors"
HEAD_FILE = "head.safetensors"
SCORES_FILE = "scores/valid.arrow"


class Trainer:
    """Trains one config on one table and keeps what its best epoch left."""

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
        self._search_ends_s = search_ends_s
        self._device = check_device(device)
        self._train, self._valid = table.split("train"), table.split("valid")
        check_labels(config, table)
        self._labels = tuple(needed_labels(config))
        self._items = choose_items(self._train, config)
        self._augmenter = Augmenter(config.augment)
        self._loader = BatchLoader(self._batch_maker(), n_workers=n_workers, device=self._device)
        with self._seeded(epoch=0):
            network, self.spec = build_trial_network(config, table.info)
            network.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._loss = build_loss(
            config,
            self._train,
            self._items,
            n_classes=len(self.classes),
            feature_width=network.encoder.feature_width,
        ).to(self._device)
        looks_the_same = self._augmenter.is_idle and config.augment.mix != "mixup"
        kept = None
        if embeddings is not None and arithmetic(config, self._device) is torch.float32:
            kept = KeptTwin(embeddings, table, self.spec, self._items, until_s=deadline_s)
        memory = build_memory(network.encoder, n_items=len(self._items), is_offline=looks_the_same, kept=kept)
        n_batches = len(self._batches(epoch=1))
        profile = (
            load_profile(config, table.info, self._device, cache=embeddings.folder) if embeddings is not None else None
        )
        is_worth = compiles(config, profile, n_steps=n_batches * config.train.epochs, deadline_s=deadline_s)
        self._stepper = Stepper(network, self.spec, loss=self._loss, config=config, memory=memory, compiles=is_worth)
        self._table, self._memory, self._embeddings = table, memory, embeddings
        self._faces_per_step = len(self._items.rows) / n_batches
        self._budget = StepBudget(
            planned_steps=n_batches * config.train.epochs,
            deadline_s=deadline_s,
            reserve_steps=0.5 * self._n_scorings * len(self._valid) / self._faces_per_step,
        )
        self._scorer = ValidScorer(self._valid, self.classes, config, self._loss.expression)
        if config.blend.partner not in ("none", "head"):
            path = Path(config.blend.partner).expanduser()
            self._scorer.partner = partner_logits(path, self._valid, self.classes, device=self._device)
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
        return split_scores(self._valid, self.classes, self.best.logits, extras=self.best.extras)

    def save_outputs(self, folder: Path) -> None:
        """Write the best epoch's scores and weights, and the head-only network where it is the partner."""
        if self.best is None:
            return
        spec: NetworkSpec = replace(self.spec, hand_rule=self.best.rule, shift_px=self.best.shift_px)
        save_network(folder / WEIGHTS_FILE, self.best.state, spec)
        if self._head_state is not None and self.config.blend.partner == "head":
            save_network(folder / HEAD_FILE, self._head_state, self.spec)
        save_scores(folder / SCORES_FILE, self.scores())

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
            "best": None if self.best is None else self.best.to_tensors(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state of a run of the same config."""
        self.epoch = state["epoch"]
        self._budget.step = state["step"]
        self._stepper.load_state_dict(state["stepper"])
        self._scorer.partner = None if state["partner"] is None else state["partner"].numpy()
        self._head_state = state["head_state"]
        self.best = None if state["best"] is None else Best.from_tensors(state["best"])

    def _seeded(self, *, epoch: int) -> AbstractContextManager[None]:
        return seeded(self.config.train.seed, epoch=epoch, device=self._device)

    def _batch_maker(self) -> MakeBatches:
        """What makes an epoch's batches; it does not hold the trainer, which would keep its own workers alive."""
        config = self.config
        return partial(
            EpochBatches,
            self._train,
            self._items,
            self._augmenter,
            sampler=config.data.sampler,
            sampler_power=config.data.sampler_power,
            batch_size=config.train.batch_size,
            seed=config.train.seed,
            labels=self._labels,
            two_views=config.model.encoder == "two_branch",
        )

    def _batches(self, *, epoch: int) -> EpochBatches:
        return self._loader.batches(epoch=epoch)

    def _run_head_epochs(self) -> EpochReport:
        network = self._stepper.network
        if self.config.train.head_batch_norm == "train":
            outputs = self._train_heads_drifting()
        else:
            outputs = self._train_embedded_heads()
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

    def _train_embedded_heads(self) -> dict[str, FloatArray]:
        """Head-only epochs on embeddings; what the network then says of the valid split."""
        network, cache = self._stepper.network, self._embeddings
        encoder = FrozenEncoder(network, self.spec)
        rows = np.unique(self._items.rows)
        until_s = self._search_ends_s
        faces = embed_faces(encoder, self._table, rows=rows, config=self.config, cache=cache, until_s=until_s)
        if why_stage_not_packable(self.config) == "":
            self._train_head_of_a_pack(faces)
        else:
            targets = split_targets(self._train, faces.rows, self._labels)
            order = partial(self._head_order, faces.rows)
            train_heads(network, faces, targets, order=order, loss=self._loss, config=self.config, until_s=until_s)
        if cache is None or network.hand is not None:
            return predict_outputs(network, self._valid.images, self.spec)
        return predict_embedded(network, valid_embeddings(encoder, self._table, cache=cache, until_s=until_s))

    def _train_head_of_a_pack(self, faces: EmbeddedFaces) -> None:
        """A pack of one, so that a head learns the same alone and beside others."""
        heads = self._stepper.network.heads
        weights = self._loss.expression.weights.double().cpu().numpy()
        task = HeadTask(self.config, self._items, weights, start=heads.state_dict())
        (head,) = train_together(
            faces, self._train.expression, [task], device=self._device, until_s=self._search_ends_s
        )
        heads.load_state_dict(head.tensors)
        self._diverged = head.diverged

    def _train_heads_drifting(self) -> dict[str, FloatArray]:
        """Head-only epochs on faces, since batch norm's statistics move; what the network then says of valid."""
        if self._embeddings is not None:
            logger.info("head-only epochs embed no face ahead, since train.head_batch_norm is 'train'")
        network = self._stepper.network
        train_heads_drifting(
            network, self.spec, lambda epoch: self._iter_batches(HEAD_EPOCHS_FROM + epoch),
            n_batches=len(self._batches(epoch=1)), loss=self._loss, config=self.config, until_s=self._search_ends_s,
        )  # fmt: skip
        return predict_outputs(network, self._valid.images, self.spec)

    def _head_order(self, rows: npt.NDArray[np.int64], epoch: int) -> npt.NDArray[np.int64]:
        """Places among the rows that a head-only epoch takes, as often as the sampler has it."""
        return head_order(self._items, self._train.expression, self.config, rows=rows, epoch=epoch)

    def _run_full_epoch(self) -> EpochReport:
        losses = {"train/loss": math.nan} if self._diverged else self._train_pass()
        if not math.isfinite(losses["train/loss"]):
            self._diverged = True
            return {}
        started_s = time.perf_counter()
        outputs = predict_outputs(self._stepper.average.network, self._valid.images, self.spec)
        report = self._score(outputs, epoch=self.epoch)
        self._budget.reserve_s = 1.0 + (self._n_scorings + 0.5) * (time.perf_counter() - started_s)
        return {**losses, **report}

    @property
    def _n_scorings(self) -> int:
        """What the end of an epoch may take, the trial's last look at the valid split included, in plain scorings."""
        return 1 + len(MOVES) if self.config.model.shift else 1

    def _look_again(self) -> EpochReport:
        """Let the best epoch's network answer with the mean over moved faces as well, and take that for its scores."""
        if self._diverged or self.best is None:
            return {}
        network = self._stepper.average.network
        network.load_state_dict(self.best.state)
        shift_px = max(1, round(self.config.model.shift * self.spec.image_px))
        outputs = predict_outputs(network, self._valid.images, replace(self.spec, shift_px=shift_px))
        scored = self._scorer.score(outputs)
        if scored is None:
            return {}
        unmoved = self.best
        self.best = Best.of(scored, epoch=unmoved.epoch, state=unmoved.state, shift_px=shift_px)
        return {"best/unmoved_macro_f1": unmoved.macro_f1}

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
        """Measure, and keep the weights where they are the best so far; nothing once a number is not finite."""
        scored = self._scorer.score(outputs)
        if scored is None:
            self._diverged = True
            return {}
        if self.best is None or scored.macro_f1 > self.best.macro_f1:
            self.best = Best.of(scored, epoch=epoch, state=state_on_cpu(self._stepper.average.network))
        return dict(scored.metrics)
