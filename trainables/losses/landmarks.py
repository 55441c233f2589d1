"""The loss on a face's landmarks."""

import torch

from trainables.losses.arithmetic import at_least_float32, mean_of_known


def landmark_loss(pred: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Mean squared error over the coordinates that are known.

    Args:
        pred: [batch, 136], x and y of 68 points.
        truth: [batch, 136], NaN where unknown.

    Returns:
        A scalar; 0, with a graph, where nothing is known.

    Source: Jeong et al. 2022 (4th ABAW), the appearance task of the multi-task network.
    """
    pred, known = at_least_float32(pred), ~torch.isnan(truth)
    truth = torch.where(known, truth, 0.0).to(pred.dtype)
    return mean_of_known((pred - truth).square(), known)
