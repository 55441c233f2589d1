"""The loss on the expression: cross-entropy or focal loss, with class weights and label smoothing."""

import torch
import torch.nn.functional as F
from torch import nn

from spaces.training_sections import LossConfig
from trainables.losses.arithmetic import at_least_float32


class ExpressionLoss(nn.Module):
    """Weighted cross-entropy with smoothed labels, or weighted focal loss.

    torch's own loss weights the smoothing term class by class, so that a rare class is pulled up by every face; with
    a large exponent and much smoothing that ends with one class predicted for all. `smoothing_by="sample"` lets the
    two settings be searched together: a face's whole loss has the weight of its own class. `"class"` is torch's way.

    A face with label -1 doesn't count. A batch without a label has loss 0, and a graph.

    Source: smoothing after Li et al. 2022, y' = y (1 - a) + a / K; focal loss after Lin et al., ICCV 2017, eq. (4)
    and (5): weight * (1 - p)^gamma * -log p, which knows no smoothing.
    """

    weights: torch.Tensor

    def __init__(self, weights: torch.Tensor, config: LossConfig) -> None:
        """
        Args:
            weights: [classes], non-negative.
            config: name, gamma, label_smoothing, smoothing_by and reduction are used.
        """
        super().__init__()
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
        own_log_probs = log_probs.gather(1, labels[:, None]).squeeze(1)  # [batch]
        if self.config.name == "focal":
            losses = -own_weights * _miss(own_log_probs) ** self.config.gamma * own_log_probs
        else:
            a = self.config.label_smoothing
            if self.config.smoothing_by == "class":
                spread = (weights * log_probs).mean(dim=1)
            else:
                spread = own_weights * log_probs.mean(dim=1)
            losses = -(1 - a) * own_weights * own_log_probs - a * spread
        masses = own_weights if self.config.reduction == "weights" else torch.ones_like(own_weights)
        return losses * known, masses * known


def _miss(log_probs: torch.Tensor) -> torch.Tensor:
    """1 - p, just above 0 at the least: a power below 1 has no slope at 0."""
    return (-torch.expm1(log_probs)).clamp(min=torch.finfo(log_probs.dtype).tiny)


def _ratio(losses: torch.Tensor, masses: torch.Tensor) -> torch.Tensor:
    """Sum of the losses over sum of the masses; over 1 where there is no mass."""
    total = masses.sum()
    return losses.sum() / torch.where(total > 0, total, torch.ones_like(total))
