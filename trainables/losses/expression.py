"""The loss on the expression, by its name: what every form of it shares."""

from importlib import import_module
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import nn

from spaces.registries import EXPRESSION_LOSSES
from spaces.training_sections import LossConfig
from trainables.losses.arithmetic import at_least_float32


class PerFaceLoss(Protocol):
    """What the module of a loss has under the name `per_face`."""

    def __call__(
        self, log_probs: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, config: LossConfig
    ) -> torch.Tensor:
        """Each face's weighted loss.

        Args:
            log_probs: [batch, classes].
            labels: int64 [batch], all of them classes.
            weights: [classes], of the classes.
            config: whatever of it the loss takes.

        Returns:
            [batch].
        """


def loss_of(name: str) -> PerFaceLoss:
    """The loss of a name in `EXPRESSION_LOSSES`."""
    per_face: PerFaceLoss = import_module(EXPRESSION_LOSSES[name].module).per_face
    return per_face


class ExpressionLoss(nn.Module):
    """One of `EXPRESSION_LOSSES`, summed over the faces whose label is known.

    A face with label -1 doesn't count. A batch without a label has loss 0, and a graph.
    """

    weights: torch.Tensor

    def __init__(self, weights: torch.Tensor, config: LossConfig) -> None:
        """
        Args:
            weights: [classes], non-negative.
            config: name and reduction are used, and what the form of that name takes.
        """
        super().__init__()
        self._per_face = loss_of(config.name)
        self.register_buffer("weights", weights.float())
        self.config = config

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The weighted sum over the batch, divided by its faces or by their weights.

        Args:
            logits: [batch, classes].
            labels: int64 [batch], -1 where unknown.

        Returns:
            A scalar, float32 or, for float64 logits, float64.
        """
        losses, masses = self._faces(F.log_softmax(at_least_float32(logits), dim=1), labels)
        return _ratio(losses, masses)

    def mixed(
        self, logits: torch.Tensor, labels_a: torch.Tensor, labels_b: torch.Tensor, share: torch.Tensor | float
    ) -> torch.Tensor:
        """The loss on mixed faces: share * loss against a + (1 - share) * loss against b, face by face.

        Args:
            logits: [batch, classes], of the mixed faces.
            labels_a: int64 [batch], -1 where unknown: that part of a face doesn't count then.
            labels_b: int64 [batch], likewise.
            share: of a in each face, in [0, 1]; a scalar or [batch].

        Returns:
            A scalar; what is divided by is mixed as the losses are.

        Source: Zhang et al., ICLR 2018 (mixup).
        """
        log_probs = F.log_softmax(at_least_float32(logits), dim=1)
        share = torch.as_tensor(share, dtype=log_probs.dtype, device=log_probs.device)
        losses_a, masses_a = self._faces(log_probs, labels_a)
        losses_b, masses_b = self._faces(log_probs, labels_b)
        return _ratio(share * losses_a + (1 - share) * losses_b, share * masses_a + (1 - share) * masses_b)

    def _faces(self, log_probs: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Each face's weighted loss [batch], and what it adds to the divisor [batch]; both 0 where unknown."""
        known = labels >= 0
        labels = labels.clamp(min=0)
        weights = self.weights.to(log_probs.dtype)
        own_weights = weights[labels]  # [batch]
        losses = self._per_face(log_probs, labels, weights, self.config)
        masses = own_weights if self.config.reduction == "weights" else torch.ones_like(own_weights)
        return losses * known, masses * known


def _ratio(losses: torch.Tensor, masses: torch.Tensor) -> torch.Tensor:
    """Sum of the losses over sum of the masses; over 1 where there is no mass."""
    total = masses.sum()
    return losses.sum() / torch.where(total > 0, total, torch.ones_like(total))
