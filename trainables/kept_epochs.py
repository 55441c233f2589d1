"""The epochs that a trial keeps whole: the best one, and the latest ones where they are asked for."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from trainables.checkpoint import NetworkSpec, save_network, state_on_cpu
from trainables.data.table import Split
from trainables.epochs import EPOCHS_FILE, BestEpochs, save_epoch_scores
from trainables.models.architectures.answers import HandRuleByName
from trainables.scores import Scores, save_scores, split_scores
from trainables.scoring import Scored

FloatArray = npt.NDArray[np.float32]

SNAPSHOTS_DIR = "snapshots"


@dataclass(frozen=True, eq=False)
class ScoredEpoch:
    """An epoch's macro-F1, its number, what it scored, its weights, its hand rule and its looks.

    `shift_px` says how far the faces were moved about for the scores; 0 for not at all.
    """

    macro_f1: float
    epoch: int
    logits: FloatArray
    extras: dict[str, FloatArray]
    state: dict[str, torch.Tensor]
    rule: HandRuleByName | None
    shift_px: int = 0

    @classmethod
    def of(cls, scored: Scored, *, epoch: int, state: dict[str, torch.Tensor], shift_px: int = 0) -> "ScoredEpoch":
        """What scored so, with these weights."""
        return cls(scored.macro_f1, epoch, scored.logits, scored.extras, state, scored.rule, shift_px)

    def to_tensors(self) -> dict[str, Any]:
        """Tensors and plain values."""
        extras = {name: torch.from_numpy(numbers) for name, numbers in self.extras.items()}
        rule = None if self.rule is None else vars(self.rule)
        return {**vars(self), "logits": torch.from_numpy(self.logits), "extras": extras, "rule": rule}

    @classmethod
    def from_tensors(cls, stored: dict[str, Any]) -> "ScoredEpoch":
        """What `to_tensors` gave."""
        extras = {name: numbers.numpy() for name, numbers in stored["extras"].items()}
        rule = None if stored["rule"] is None else HandRuleByName(**stored["rule"])
        return cls(**{**stored, "logits": stored["logits"].numpy(), "extras": extras, "rule": rule})


class KeptEpochs:
    """Keeps the best epoch of a trial whole, the latest ones if asked for, and the answers of several good ones.

    Attributes:
        best: by macro-F1, the earliest of those that are as good; None before the first epoch.
        answers: of the best epochs, each of faces that were not moved.
    """

    def __init__(self, split: Split, classes: tuple[str, ...], spec: NetworkSpec, *, n_snapshots: int) -> None:
        """
        Args:
            split: whose faces are scored.
            classes: of the table.
            spec: of the trial's network, without a hand rule.
            n_snapshots: latest epochs to keep beside the best one.
        """
        self.best: ScoredEpoch | None = None
        self.answers = BestEpochs()
        self._split, self._classes, self._spec = split, classes, spec
        self._n_snapshots = n_snapshots
        self._latest: list[ScoredEpoch] = []

    @property
    def snapshots(self) -> list[ScoredEpoch]:
        """The latest epochs beside the best one, as many as were asked for or as there are; ascending."""
        beside = [one for one in self._latest if self.best is None or one.epoch != self.best.epoch]
        return beside[max(len(beside) - self._n_snapshots, 0) :]

    def note(self, scored: Scored, network: torch.nn.Module, *, epoch: int) -> None:
        """Take in an epoch. Its weights are copied where they may be kept; one of the heads alone is number 0."""
        self.answers = self.answers.with_epoch(epoch, scored.logits, macro_f1=scored.macro_f1)
        is_best = self.best is None or scored.macro_f1 > self.best.macro_f1
        is_snapshot = epoch > 0 and self._n_snapshots > 0
        if not (is_best or is_snapshot):
            return
        kept = ScoredEpoch.of(scored, epoch=epoch, state=state_on_cpu(network))
        if is_best:
            self.best = kept
        if is_snapshot:
            self._latest = [*self._latest, kept][-1 - self._n_snapshots :]  # the best may be among them

    def ask_again(self, ask: Callable[[ScoredEpoch], ScoredEpoch | None]) -> bool:
        """Replace what the kept epochs scored by what they answer to other looks at the faces.

        Args:
            ask: gives the same epoch with other scores, or None where a number of those is not finite.

        Returns:
            Whether the best epoch could be asked.
        """
        again = None if self.best is None else ask(self.best)
        if again is None:
            return False
        self._latest = [ask(one) or one for one in self.snapshots]
        self.best = again
        return True

    def scores_of(self, one: ScoredEpoch) -> Scores:
        """What an epoch scored, with the faces that it was scored on."""
        return split_scores(self._split, self._classes, one.logits, extras=one.extras)

    def save_weights(self, path: Path, one: ScoredEpoch) -> None:
        """Write an epoch's weights, with how they are asked."""
        save_network(path, one.state, replace(self._spec, hand_rule=one.rule, shift_px=one.shift_px))

    def save_answers(self, folder: Path) -> None:
        """Write what the best epochs said, into a trial's folder; nothing before the first."""
        if self.answers.kept:
            save_epoch_scores(folder / EPOCHS_FILE, self.answers.scores())

    def save_snapshots(self, folder: Path) -> None:
        """Write scores and weights of the latest epochs into a trial's folder; what an earlier run left there goes."""
        place = folder / SNAPSHOTS_DIR
        shutil.rmtree(place, ignore_errors=True)
        for one in self.snapshots:
            self.save_weights(place / f"e{one.epoch:04d}.safetensors", one)
            save_scores(place / f"e{one.epoch:04d}.arrow", self.scores_of(one))

    def state_dict(self) -> dict[str, Any]:
        """For a run that goes on later; tensors and plain values."""
        return {
            "best": None if self.best is None else self.best.to_tensors(),
            "answers": self.answers.to_tensors(),
            "latest": [one.to_tensors() for one in self._latest],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state."""
        self.best = None if state["best"] is None else ScoredEpoch.from_tensors(state["best"])
        self.answers = BestEpochs.from_tensors(state["answers"])
        self._latest = [ScoredEpoch.from_tensors(one) for one in state["latest"]]
