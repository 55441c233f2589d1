"""The deviation module: how far a trained twin has moved from a frozen one.

Source: Li et al. 2022, deviation fine-tuning; the sign, the place of eps and the frozen batch norm follow their code.
"""

import copy
from typing import Literal, Self

import torch
from torch import nn

from .backbone import Backbone

Outputs = dict[str, torch.Tensor]


class DeviationEncoder(nn.Module):
    """Two copies of one backbone: `backbone` is trained, `frozen` stands still in eval mode.

    Early on the two are nearly equal. Half precision rounds most of their difference away, so that very small rates
    want float32.

    Attributes:
        width: of the embeddings.
        feature_width: of the features, the same.
    """

    def __init__(self, backbone: Backbone, *, eps: float, eps_when: Literal["training", "always"]) -> None:
        super().__init__()
        self.backbone = backbone
        self.frozen = copy.deepcopy(backbone)
        self.frozen.requires_grad_(False)
        self.frozen.eval()
        self.width = self.feature_width = backbone.width
        self.eps = eps
        self.eps_when = eps_when

    def forward(self, inputs: torch.Tensor, frozen: torch.Tensor | None = None) -> Outputs:
        """Trained minus frozen embedding, plus eps.

        Args:
            inputs: [batch, 3, px, px].
            frozen: [batch, width], what the frozen twin says of these inputs, where it is known already.

        Returns:
            `embeddings` and `features`, both [batch, width].
        """
        moved = self.backbone(inputs) - (self.embed_frozen(inputs) if frozen is None else frozen)
        if self.training or self.eps_when == "always":
            moved = moved + self.eps
        return {"embeddings": moved, "features": moved}

    @torch.no_grad()
    def embed_frozen(self, inputs: torch.Tensor) -> torch.Tensor:
        """[batch, 3, px, px] to the frozen twin's embeddings [batch, width]."""
        embeddings: torch.Tensor = self.frozen(inputs)
        return embeddings

    def equal_twins(self) -> None:
        """Make the frozen twin what the trained one is now; at the start, once weights are loaded."""
        self.frozen.load_state_dict(self.backbone.state_dict())

    def train(self, mode: bool = True) -> Self:
        """The frozen twin stays in eval mode whatever the rest does."""
        super().train(mode)
        self.frozen.eval()
        return self
