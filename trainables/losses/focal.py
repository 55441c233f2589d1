"""Weighted focal loss, which knows no smoothing."""

import torch

from spaces.training_sections import LossConfig
from trainables.losses.arithmetic import own_log_probs


def per_face(log_probs: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, config: LossConfig) -> torch.Tensor:
    """Each face's loss, weight * (1 - p)^gamma * -log p.

    Args:
        log_probs: [batch, classes].
        labels: int64 [batch], all of them classes.
        weights: [classes].
        config: gamma is used.

    Returns:
        [batch].

    Source: Lin et al., ICCV 2017, eq. (4) and (5).
    """
    own = own_log_probs(log_probs, labels)
    return -weights[labels] * _miss(own) ** config.gamma * own


def _miss(log_probs: torch.Tensor) -> torch.Tensor:
    """1 - p, just above 0 at the least: a power below 1 has no slope at 0."""
    return (-torch.expm1(log_probs)).clamp(min=torch.finfo(log_probs.dtype).tiny)
