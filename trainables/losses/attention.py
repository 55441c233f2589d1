"""DAN's two losses beside the expression's: faces near their class's centre, attention heads apart.

Both are computed in float32 under autocast too: half precision loses the small variances that they divide by.

Source: Wen et al. 2021, *Distract Your Attention* (DAN); Jeong et al. 2022 (3rd ABAW). Where the published code of DAN
and the papers differ, a docstring says which is computed.
"""

from typing import Literal

import torch
from torch import nn

from trainables.losses.arithmetic import at_least_float32, mean_of_known

EPS = 1e-6
"""Added to a variance over heads. The code's 2.2e-16 is 0 in half precision, where equal heads cost infinitely much."""


class AffinityLoss(nn.Module):
    """Squared distances of faces to their class's centre, over the spread of the centres.

    The code's form: divided by the batch size, the spread is the trace of the centres' covariance, and the gradient
    flows through it too, so that centres are pushed apart. The centres are learnt, and saved with this module.
    """

    def __init__(self, n_classes: int, width: int, *, generator: torch.Generator | None = None) -> None:
        """
        Args:
            n_classes: at least 2.
            width: of the features.
            generator: of the first centres, drawn from N(0, 1).
        """
        super().__init__()
        self.centres = nn.Parameter(torch.randn(n_classes, width, generator=generator))

    def forward(self, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Mean over the known faces of |x - c_y|^2, over the sum over features of the variance across centres.

        Args:
            features: [batch, width].
            labels: int64 [batch], -1 where unknown.

        Returns:
            A scalar; 0, with a graph, where no label is known.
        """
        with torch.autocast(features.device.type, enabled=False):
            features = at_least_float32(features)
            centres = self.centres.to(features.dtype)  # [classes, width]
            distances = (features - centres[labels.clamp(min=0)]).square().sum(dim=1)  # [batch]
            return mean_of_known(distances, labels >= 0) / centres.var(dim=0).sum()


def partition_loss(heads: torch.Tensor, form: Literal["log_of_mean", "mean_of_log"]) -> torch.Tensor:
    """Small where the attention heads differ: log(1 + k / variance over the k heads).

    Args:
        heads: [batch, heads, width], what the heads put out.
        form: log_of_mean, the code's: of the mean variance over faces and channels; mean_of_log, the papers': the mean
            over faces and channels of the logarithm, which is never smaller (Jensen).

    Returns:
        A scalar; 0, with a graph, where there is one head.
    """
    with torch.autocast(heads.device.type, enabled=False):
        heads = at_least_float32(heads)
        n_heads = heads.shape[1]
        if n_heads == 1:
            return (heads * 0).sum()
        variances = heads.var(dim=1)  # [batch, width]
        if form == "log_of_mean":
            return torch.log1p(n_heads / (variances.mean() + EPS))
        return torch.log1p(n_heads / (variances + EPS)).mean()
