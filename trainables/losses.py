"""Weighted cross-entropy with label smoothing."""

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from spaces.errors import ConfigError
from spaces.training_sections import LossConfig


def class_weights(counts: npt.NDArray[np.int64], config: LossConfig) -> npt.NDArray[np.float64]:
    """Weights of the classes, mean 1 over the classes.

    Args:
        counts: [classes], training faces of each class in the trial's own subsample.
        config: an explicit list wins over the exponent.

    Returns:
        [classes]: (max N / N_c)^b scaled to mean 1, or the explicit list scaled to mean 1. A class without faces
        has the weight of a class with one.

    Raises:
        ConfigError: the explicit list has another length than the classes.

    Source: Savchenko 2022, eq. (1) for b = 1; Li et al. 2022 for the explicit list.
    """
    if config.class_weights is not None:
        if len(config.class_weights) != len(counts):
            raise ConfigError(
                f"loss.class_weights must have one weight a class ({len(counts)}), got {len(config.class_weights)}"
            )
        weights = np.asarray(config.class_weights, dtype=np.float64)
    else:
        weights = (counts.max() / np.maximum(counts, 1)) ** config.class_weight_exponent
    return np.asarray(weights / weights.mean(), dtype=np.float64)


class SmoothedCrossEntropy(nn.Module):
    """Cross-entropy against smoothed labels, each sample weighted by the weight of its own class.

    torch's own loss weights the smoothing term class by class, so that a rare class is pulled up by every sample;
    with a large exponent and much smoothing that ends with one class predicted for all. Here the two knobs can be
    searched together: the weight multiplies the sample's whole loss.

    Source: smoothing after Li et al. 2022, y' = y (1 - a) + a / K.
    """

    weights: torch.Tensor

    def __init__(self, weights: torch.Tensor, *, label_smoothing: float) -> None:
        super().__init__()
        self.register_buffer("weights", weights.float())
        self.label_smoothing = label_smoothing

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Mean over the batch of weight * loss.

        Args:
            logits: [batch, classes].
            labels: int64 [batch].

        Returns:
            A scalar, computed in float32.
        """
        losses = F.cross_entropy(logits.float(), labels, label_smoothing=self.label_smoothing, reduction="none")
        return (self.weights[labels] * losses).mean()
