"""The losses on what a face shows beside its expression: valence and arousal, and action units."""

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from trainables.losses.arithmetic import at_least_float32, mean_of_known

EPS = 1e-8
"""Added to the concordance's divisor, which is 0 where prediction and truth are the same constant."""


def concordance(pred: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Concordance correlation coefficient over a batch: 2 cov / (var + var + (difference of means)^2).

    Args:
        pred: [batch].
        truth: [batch], NaN where unknown; such rows are left out.

    Returns:
        A scalar in [-1, 1], from population moments; 0 where prediction or truth is constant.

    Source: Lin, Biometrics 1989.
    """
    pred, known = at_least_float32(pred), ~torch.isnan(truth)
    truth = torch.where(known, truth, 0.0).to(pred.dtype)
    pred_mean, truth_mean = mean_of_known(pred, known), mean_of_known(truth, known)
    pred_rest, truth_rest = pred - pred_mean, truth - truth_mean
    covariance = mean_of_known(pred_rest * truth_rest, known)
    variances = mean_of_known(pred_rest.square() + truth_rest.square(), known)
    return 2 * covariance / (variances + (pred_mean - truth_mean).square() + EPS)


def affect_loss(pred: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """1 - (CCC of valence + CCC of arousal) / 2.

    Args:
        pred: [batch, 2], valence and arousal.
        truth: [batch, 2], NaN where unknown.

    Returns:
        A scalar in [0, 2]; where only one of the two is known at all, 1 - its CCC; 0, with a graph, where none is.

    Source: Savchenko 2022, eq. (1).
    """
    misses = torch.stack([1 - concordance(pred[:, i], truth[:, i]) for i in range(2)])
    return mean_of_known(misses, ~torch.isnan(truth).all(dim=0))


class UnitLoss(nn.Module):
    """Cross-entropy of action units, in which a unit's presence and absence weigh the same over the training faces.

    Source: Savchenko 2022 (the balanced weights of its published code): total / (2 n).
    """

    weights: torch.Tensor

    def __init__(self, counts: npt.NDArray[np.int64]) -> None:
        """
        Args:
            counts: [units, 2], training faces without and with the unit; none counts as one.
        """
        super().__init__()
        weights = counts.sum(axis=1, keepdims=True) / (2 * np.maximum(counts, 1))
        self.register_buffer("weights", torch.from_numpy(weights).float())

    def forward(self, logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        """Mean over the known truths of weight * cross-entropy.

        Args:
            logits: [batch, units].
            truth: int64 [batch, units]: 0, 1, or -1 where unknown.

        Returns:
            A scalar; 0, with a graph, where nothing is known.
        """
        logits, present = at_least_float32(logits), truth.clamp(min=0)
        absence, presence = self.weights.to(logits.dtype).unbind(dim=1)  # [units] each
        losses = F.binary_cross_entropy_with_logits(
            logits, present.to(logits.dtype), weight=torch.where(present > 0, presence, absence), reduction="none"
        )
        return mean_of_known(losses, truth >= 0)
