"""Two branches with a shared trunk: what a face expresses, and what it looks like.

Source: Jeong et al. 2022, ensemble of multi-task networks. The paper gives no widths of the shared layers; ours are
settings, and each layer ends in a ReLU. A DAN's fused heads have no bounds. Alone it ends in batch norm on its logits;
here that stands on its embedding, without which the trunk learns little.
"""

import torch
from torch import nn

from .backbone import Backbone
from .dan import DanEncoder
from .pooled import PooledEncoder

Outputs = dict[str, torch.Tensor]


class TwoBranchEncoder(nn.Module):
    """An emotion encoder and an appearance backbone, joined by two fully connected layers.

    Attributes:
        width: of the embeddings, the trunk's second width.
        feature_width: of the features, the emotion branch's.
    """

    def __init__(
        self, emotion: PooledEncoder | DanEncoder, appearance: Backbone, *, trunk: tuple[int, int], norm: bool
    ) -> None:
        super().__init__()
        self.emotion = emotion
        self.norm = nn.BatchNorm1d(emotion.width) if norm else nn.Identity()
        self.appearance = appearance
        first, second = trunk
        self.trunk = nn.Sequential(
            nn.Linear(emotion.width + appearance.width, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU()
        )
        self.width, self.feature_width = second, emotion.feature_width

    @property
    def backbone(self) -> Backbone:
        """The emotion branch's."""
        return self.emotion.backbone

    def forward(self, inputs: torch.Tensor, appearance: torch.Tensor | None = None) -> Outputs:
        """Each branch sees its own copy of the faces.

        Args:
            inputs: [batch, 3, px, px], for the emotion branch.
            appearance: the same faces, not moved, for the appearance branch; `inputs` when omitted.

        Returns:
            `embeddings` [batch, width]; `features` and, of a DAN, `attention` of the emotion branch.
        """
        emotion: Outputs = self.emotion(inputs)
        looks = self.appearance(inputs if appearance is None else appearance)
        embeddings = self.trunk(torch.cat([self.norm(emotion["embeddings"]), looks], dim=1))
        return {**emotion, "embeddings": embeddings}
