"""Weighted cross-entropy with smoothed labels."""

import torch

from spaces.training_sections import LossConfig
from trainables.losses.arithmetic import own_log_probs


def per_face(log_probs: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, config: LossConfig) -> torch.Tensor:
    """Each face's loss.

    torch's own loss weights the smoothing term class by class, so that a rare class is pulled up by every face; with
    a large exponent and much smoothing that ends with one class predicted for all. `smoothing_by="sample"` lets the
    two settings be searched together: a face's whole loss has the weight of its own class. `"class"` is torch's way.

    Args:
        log_probs: [batch, classes].
        labels: int64 [batch], all of them classes.
        weights: [classes].
        config: label_smoothing and smoothing_by are used.

    Returns:
        [batch].

    Source: smoothing after Li et al. 2022, y' = y (1 - a) + a / K.
    """
    a = config.label_smoothing
    own_weights = weights[labels]
    if config.smoothing_by == "class":
        spread = (weights * log_probs).mean(dim=1)
    else:
        spread = own_weights * log_probs.mean(dim=1)
    return -(1 - a) * own_weights * own_log_probs(log_probs, labels) - a * spread
