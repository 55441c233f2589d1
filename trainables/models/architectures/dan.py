"""DAN: several heads of cross attention over a backbone's maps, fused into one embedding.

Source: Wen et al., Distract Your Attention, 2021 (the network); Jeong et al. 2022 (four heads, ResNet-50).
"""

import torch
import torch.nn.functional as F
from torch import nn

from .backbone import Backbone
from .design import Fusion

Outputs = dict[str, torch.Tensor]


class CrossAttentionHead(nn.Module):
    """Spatial attention, then channel attention; 2.14 million parameters at a width of 512.

    The spatial map is a sum over channels after a ReLU, neither normalised nor squashed: activations go into the
    hundreds, which bfloat16 and float32 hold and float16 may not.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        half, narrow = max(1, width // 2), max(1, width // 16)
        self.squeeze = nn.Sequential(nn.Conv2d(width, half, 1), nn.BatchNorm2d(half))
        self.square = nn.Sequential(nn.Conv2d(half, width, 3, padding=1), nn.BatchNorm2d(width))
        self.row = nn.Sequential(nn.Conv2d(half, width, (1, 3), padding=(0, 1)), nn.BatchNorm2d(width))
        self.column = nn.Sequential(nn.Conv2d(half, width, (3, 1), padding=(1, 0)), nn.BatchNorm2d(width))
        self.gate = nn.Sequential(
            nn.Linear(width, narrow), nn.BatchNorm1d(narrow), nn.ReLU(), nn.Linear(narrow, width), nn.Sigmoid()
        )

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """[batch, width, height, width of the map] to [batch, width]."""
        squeezed = self.squeeze(maps)
        attention = F.relu(self.square(squeezed) + self.row(squeezed) + self.column(squeezed))
        attended = maps * attention.sum(dim=1, keepdim=True)
        pooled = attended.mean(dim=(2, 3))  # [batch, width]
        gated: torch.Tensor = pooled * self.gate(pooled)
        return gated


class DanEncoder(nn.Module):
    """A backbone whose maps are looked at by several heads.

    Fusion by `logsoftmax_sum` lets heads compete channel by channel: whatever all heads agree on cancels out. With one
    head there is nothing to compete with, and its output is the embedding.

    Attributes:
        width: of the embeddings.
        feature_width: of the features: the pooled maps, after their projection where there is one.
    """

    def __init__(self, backbone: Backbone, *, n_heads: int, width: int, fusion: Fusion) -> None:
        super().__init__()
        self.backbone = backbone
        is_wide = backbone.n_channels != width
        self.project = nn.Conv2d(backbone.n_channels, width, 1) if is_wide else nn.Identity()
        self.heads = nn.ModuleList(CrossAttentionHead(width) for _ in range(n_heads))
        self.fusion = fusion
        self.feature_width = width
        self.width = width * n_heads if fusion == "concat" else width
        _initialise(self.heads)
        _initialise(self.project)

    def forward(self, inputs: torch.Tensor) -> Outputs:
        """[batch, 3, px, px] to `embeddings`, `features` [batch, width] and `attention` [batch, heads, width]."""
        maps = self.project(self.backbone.maps(inputs))
        heads = torch.stack([head(maps) for head in self.heads], dim=1)  # [batch, heads, width]
        if self.fusion == "logsoftmax_sum" and len(self.heads) > 1:
            heads = torch.log_softmax(heads.float(), dim=1)
        embeddings = heads.flatten(1) if self.fusion == "concat" else heads.sum(dim=1)
        return {"embeddings": embeddings, "features": maps.mean(dim=(2, 3)), "attention": heads}


def _initialise(module: nn.Module) -> None:
    """He's start by fan-out for convolutions, narrow ones for linear layers, as the original begins."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=0.001)
            nn.init.zeros_(part.bias)
