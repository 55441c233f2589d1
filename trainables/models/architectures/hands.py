"""The hand module: does an edge picture show a hand? And the rule that makes a face with a hand a fearful one.

Source: Miao et al. 2022. The paper does not say how edges become channels; here it is the gradient's magnitude on grey,
repeated to three.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from .backbone import Backbone
from .heads import new_linear

GREY_SHARES = (0.299, 0.587, 0.114)


class HandModule(nn.Module):
    """A backbone that sees Sobel edges, and two logits: no hand, hand."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.linear = new_linear(backbone.width, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """[batch, 3, px, px] to [batch, 2]."""
        logits: torch.Tensor = self.linear(self.backbone(sobel_edges(inputs)))
        return logits


def sobel_edges(inputs: torch.Tensor) -> torch.Tensor:
    """The magnitude of the grey picture's gradient by Sobel's kernels, edges of the picture repeated outwards.

    Args:
        inputs: [batch, 3, px, px].

    Returns:
        [batch, 3, px, px], three equal channels.
    """
    grey = (inputs * inputs.new_tensor(GREY_SHARES).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
    across = inputs.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    kernels = torch.stack([across, across.T]).unsqueeze(1)  # [2, 1, 3, 3]
    gradient = F.conv2d(F.pad(grey, (1, 1, 1, 1), mode="replicate"), kernels)  # [batch, 2, px, px]
    return gradient.square().sum(dim=1, keepdim=True).add(1e-12).sqrt().expand(-1, 3, -1, -1)


def apply_hand_rule(
    logits: torch.Tensor, hand: torch.Tensor, *, target: int, threshold: float, exceptions: Sequence[int]
) -> torch.Tensor:
    """Call a face with a hand the target class, unless its own class is an exception.

    The leading class and the target exchange their logits, so that confidences stay those of the network.

    Args:
        logits: [batch, classes].
        hand: [batch, 2], logits of no hand and hand.
        target: index of the class of faces with a hand.
        threshold: least probability of a hand.
        exceptions: indices of classes that the rule leaves alone.

    Returns:
        [batch, classes].
    """
    leading = logits.argmax(dim=1)
    seen = hand.float().softmax(dim=1)[:, 1] >= threshold
    for exception in exceptions:
        seen &= leading != exception
    changed = logits.clone()
    rows = torch.arange(logits.shape[0], device=logits.device)
    changed[rows, leading] = logits[:, target]
    changed[:, target] = logits[rows, leading]
    return torch.where(seen[:, None], changed, logits)
