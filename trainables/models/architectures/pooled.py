"""The plain encoder: a backbone's pooled maps."""

import torch
from torch import nn

from .backbone import Backbone

Outputs = dict[str, torch.Tensor]


class PooledEncoder(nn.Module):
    """A backbone and its global pooling.

    Attributes:
        width: of the embeddings.
        feature_width: of the features, the same.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.width = self.feature_width = backbone.width

    def forward(self, inputs: torch.Tensor) -> Outputs:
        """[batch, 3, px, px] to `embeddings` and `features`, both [batch, width]."""
        embeddings = self.backbone(inputs)
        return {"embeddings": embeddings, "features": embeddings}
