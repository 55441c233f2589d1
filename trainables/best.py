"""What a trial keeps of its best epoch."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from trainables.models.architectures.answers import HandRuleByName
from trainables.scoring import Scored

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Best:
    """The best epoch so far: its macro-F1, its number, what it scored, its weights, its hand rule and its looks.

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
    def of(cls, scored: Scored, *, epoch: int, state: dict[str, torch.Tensor], shift_px: int = 0) -> "Best":
        """What scored so, with these weights."""
        return cls(scored.macro_f1, epoch, scored.logits, scored.extras, state, scored.rule, shift_px)

    def to_tensors(self) -> dict[str, Any]:
        """Tensors and plain values."""
        extras = {name: torch.from_numpy(numbers) for name, numbers in self.extras.items()}
        rule = None if self.rule is None else vars(self.rule)
        return {**vars(self), "logits": torch.from_numpy(self.logits), "extras": extras, "rule": rule}

    @classmethod
    def from_tensors(cls, stored: dict[str, Any]) -> "Best":
        """What `to_tensors` gave."""
        extras = {name: numbers.numpy() for name, numbers in stored["extras"].items()}
        rule = None if stored["rule"] is None else HandRuleByName(**stored["rule"])
        return cls(**{**stored, "logits": stored["logits"].numpy(), "extras": extras, "rule": rule})
