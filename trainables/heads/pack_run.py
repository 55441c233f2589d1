"""A pack of head-only trials from its order to their ends: what the Tune trainable drives, some trials at a time."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from spaces.config import TrialConfig
from spaces.errors import ConfigError
from trainables.budget import OutOfTime, check_time
from trainables.checkpoint import save_network
from trainables.data.needs import check_labels
from trainables.data.opening import shared_data
from trainables.data.table import FaceTable
from trainables.device import check_device
from trainables.embeddings.cache import default_cache
from trainables.environment import check_environment
from trainables.heads.engine import HeadTask, TrainedHead, group_key, train_together
from trainables.heads.frozen_network import FrozenNetwork, frozen_key, frozen_network
from trainables.heads.settings import why_not_packable
from trainables.losses.expression import ExpressionLoss
from trainables.memory import cap_gpu_memory, free_memory
from trainables.patience import Patience
from trainables.preparation import build_loss, choose_items
from trainables.pulse import SILENT_S, Pulse
from trainables.run import failure_report, prepare_worker
from trainables.scores import SCORES_FILE, save_scores, split_scores
from trainables.scoring import Scored, ValidScorer
from trainables.shared_clock import clock_lead_s, in_own_time
from trainables.trainer import WEIGHTS_FILE, EpochReport

STEP_S = 5.0
"""After so long a step tells what it has, at the next group's end."""

Reports = dict[str, EpochReport]
"""By trial id."""


@dataclass(frozen=True)
class PackedTrial:
    """One trial of a pack.

    Attributes:
        trial_id: of the trial.
        settings: the complete config, flat.
        folder: where its scores and weights go.
    """

    trial_id: str
    settings: dict[str, Any]
    folder: str


@dataclass(frozen=True)
class PackOrder:
    """What a worker is told to do.

    Attributes:
        pack_id: of the pack.
        trials: that are trained.
        table: folder or URI of the face table.
        device: `cpu` or `cuda`.
        n_threads: of the processor.
        keep_weights: weights are written of a trial only where fewer than so many of the pack were better before.
        weights_above: macro-F1 that a trial must beat for its weights to be written.
        keep_always: ids of trials whose weights are written in any case.
        deadline_s: Unix time at which what is not trained is given up; None for no deadline.
        gpu_share: of a GPU, where packs share one; more of its memory the pack can't take.
        silent_s: seconds without a sign of life after which it is taken for hung.
        content_hash: of the face table, which must be that one; empty for whichever is there.
        environment: what the driver computes with, as `read_environment` says it; empty for whatever is there.
        clock_lead_s: of the machine that orders, ahead of the clock of the storage (`shared_clock`).
    """

    pack_id: str
    trials: tuple[PackedTrial, ...]
    table: str
    device: str = "cpu"
    n_threads: int = 1
    keep_weights: int = 12
    weights_above: float = -1.0
    keep_always: tuple[str, ...] = ()
    deadline_s: float | None = None
    gpu_share: float = 1.0
    silent_s: float = SILENT_S
    content_hash: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    clock_lead_s: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a scheduler's config."""
        return asdict(self)

    def in_own_time(self) -> "PackOrder":
        """The same order, its deadline by this machine's clock."""
        own_s = clock_lead_s(Path(self.trials[0].folder)) if self.trials else self.clock_lead_s
        deadline_s = in_own_time(self.deadline_s, lead_s=own_s, sender_lead_s=self.clock_lead_s)
        return replace(self, deadline_s=deadline_s, clock_lead_s=own_s)

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> "PackOrder":
        """The order that `to_dict` told."""
        trials = tuple(PackedTrial(**trial) for trial in told["trials"])
        return cls(**{**told, "trials": trials, "keep_always": tuple(told["keep_always"])})


class _Trial(NamedTuple):
    """A trial of a pack and its config."""

    order: PackedTrial
    config: TrialConfig


class _Prepared(NamedTuple):
    """A trial with all that it is trained and judged by."""

    trial: _Trial
    task: HeadTask
    loss: ExpressionLoss


class PackRun:
    """A pack in progress. An error in some of its trials becomes their end, never the worker's.

    Trials are trained a group at a time: those with one network below them that see the same batches. A group that the
    deadline finds in training, and those behind it, are not reported.
    """

    def __init__(self, order: PackOrder) -> None:
        self._pulse = Pulse(Path(order.trials[0].folder), silent_s=order.silent_s)
        prepare_worker(order.n_threads)
        self._order = order = order.in_own_time()
        self._patience = Patience()
        self._scores: list[float] = []
        self._refused: Reports = {}
        self._groups = self._arrange()

    def step(self) -> dict[str, Any]:
        """Train some groups to their trials' ends.

        Returns:
            `reports`: by trial id the trainer's last report; its `end` is `completed`, `diverged` or `failed`, with the
            error's text under `error`. `end`: `completed` where nothing is left to do, else empty.
        """
        started_s = time.perf_counter()
        reports, self._refused = self._refused, {}
        while self._groups:
            group = self._groups.pop(0)
            try:
                reports |= self._run(group)
            except OutOfTime:
                self._groups.clear()
            except Exception as error:
                reports |= {trial.order.trial_id: _failure(trial.order, error) for trial in group}
            if time.perf_counter() - started_s > STEP_S:
                break
        return {"reports": reports, "end": "" if self._groups else "completed"}

    def release(self) -> None:
        """Let go of what the pack held. The last networks and their embeddings stay in main memory for the next one."""
        self._pulse.stop()
        self._groups.clear()
        free_memory()

    @cached_property
    def _table(self) -> FaceTable:
        order = self._order
        return shared_data(order.table, content_hash=order.content_hash, until_s=order.deadline_s)

    @cached_property
    def _device(self) -> torch.device:
        device = check_device(self._order.device)
        if device.type == "cuda":
            cap_gpu_memory(self._order.gpu_share, device)
        return device

    def _arrange(self) -> list[list[_Trial]]:
        """Groups, those of one network behind each other; trials that can't be in a pack are refused."""
        by_network: dict[str, dict[str, list[_Trial]]] = {}
        for order in self._order.trials:
            try:
                trial = _Trial(order, _packable_config(order))
                groups = by_network.setdefault(frozen_key(trial.config), {})
                groups.setdefault(group_key(trial.config), []).append(trial)
            except Exception as error:
                self._refused[order.trial_id] = _failure(order, error)
        return [group for groups in by_network.values() for group in groups.values()]

    def _run(self, group: Sequence[_Trial]) -> Reports:
        """Train and judge the trials of a group, and write what they leave."""
        started_s, until_s = time.perf_counter(), self._order.deadline_s
        check_time(until_s)
        if self._order.environment:
            check_environment(self._order.environment)
        device = self._device
        below = frozen_network(group[0].config, self._table, device=device, cache=default_cache(), until_s=until_s)
        prepared, reports = self._prepare(group, below)
        if not prepared:
            return reports
        tasks, expression = [one.task for one in prepared], self._table.split("train").expression
        heads = train_together(below.faces, expression, tasks, device=device, until_s=until_s)
        answers = below.answers([head.tensors for head in heads], device=device)
        judged = [self._judge(*one) for one in zip(prepared, heads, answers, strict=True)]
        share_s = (time.perf_counter() - started_s) / len(prepared)
        for place in sorted(range(len(judged)), key=lambda i: -_macro_f1(judged[i])):  # the best are written first
            trial, head, scored = prepared[place].trial, heads[place], judged[place]
            try:
                self._write(trial, head, scored, below)
                reports[trial.order.trial_id] = _report(head, scored, epoch_s=share_s)
            except Exception as error:
                reports[trial.order.trial_id] = _failure(trial.order, error)
        return reports

    def _prepare(self, group: Sequence[_Trial], below: FrozenNetwork) -> tuple[list[_Prepared], Reports]:
        """What the trials begin with; those of which a setting does not fit the table fail."""
        train, width = self._table.split("train"), below.faces.width
        items = choose_items(train, group[0].config)
        prepared, failed = [], {}
        for trial in group:
            try:
                check_labels(trial.config, self._table)
                n_classes = len(self._table.info.classes)
                loss = build_loss(trial.config, train, items, n_classes=n_classes, feature_width=width).expression
                task = HeadTask(trial.config, items, loss.weights.double().numpy(), below.start(trial.config))
                prepared.append(_Prepared(trial, task, loss))
            except Exception as error:
                failed[trial.order.trial_id] = _failure(trial.order, error)
        return prepared, failed

    def _judge(self, prepared: _Prepared, head: TrainedHead, logits: npt.NDArray[np.float32]) -> Scored | None:
        """A trial's scores; None where a number is not finite."""
        if head.diverged:
            return None
        valid, classes = self._table.split("valid"), tuple(self._table.info.classes)
        return ValidScorer(valid, classes, prepared.trial.config, prepared.loss).score({"logits": logits})

    def _write(self, trial: _Trial, head: TrainedHead, scored: Scored | None, below: FrozenNetwork) -> None:
        if scored is None:
            return
        folder = Path(trial.order.folder)
        if self._keeps_weights(trial.order.trial_id, scored.macro_f1):
            self._patience(lambda: save_network(folder / WEIGHTS_FILE, *below.whole(head.tensors, trial.config)))
        valid, classes = self._table.split("valid"), tuple(self._table.info.classes)
        scores = split_scores(valid, classes, scored.logits, extras=scored.extras)
        self._patience(lambda: save_scores(folder / SCORES_FILE, scores))

    def _keeps_weights(self, trial_id: str, macro_f1: float) -> bool:
        if trial_id in self._order.keep_always:  # and takes no other's place
            return True
        n_better = sum(score >= macro_f1 for score in self._scores)
        self._scores.append(macro_f1)
        return macro_f1 > self._order.weights_above and n_better < self._order.keep_weights


def score_pack(order: Mapping[str, Any]) -> dict[str, float]:
    """Run a pack to its end, or its deadline; in a worker of its own, which so loads nothing of the floor above.

    Args:
        order: of `PackOrder.to_dict`.

    Returns:
        Macro-F1 by trial id, without trials that failed.
    """
    run = PackRun(PackOrder.from_dict(order))
    scores: dict[str, float] = {}
    end = ""
    while not end:
        told = run.step()
        end = told["end"]
        scores |= {name: report["best/macro_f1"] for name, report in told["reports"].items() if not report.get("error")}
    return scores


def _packable_config(order: PackedTrial) -> TrialConfig:
    config = TrialConfig.from_flat(order.settings)
    name = why_not_packable(config)
    if name:
        raise ConfigError(
            f"{name} must be such that heads can be trained together, got {config.to_flat()[name]!r}: "
            f"trial {order.trial_id}"
        )
    return config


def _report(head: TrainedHead, scored: Scored | None, *, epoch_s: float) -> EpochReport:
    """As the trainer reports a head-only trial."""
    f1 = _macro_f1(scored)
    found = {} if scored is None else {"head/macro_f1": f1, "train/loss": head.loss, **scored.metrics}
    return {
        "valid/macro_f1": f1,
        "samples_seen": head.n_seen,
        **found,
        "epoch": 1,
        "best/macro_f1": f1,
        "best/epoch": 0,
        "time/epoch_s": epoch_s,
        "end": "diverged" if scored is None else "completed",
    }


def _macro_f1(scored: Scored | None) -> float:
    return 0.0 if scored is None else scored.macro_f1


def _failure(order: PackedTrial, error: Exception) -> EpochReport:
    return failure_report(error, Path(order.folder))
