"""Faces mixed with one another."""

from typing import NamedTuple

import torch
from torch import Tensor


class Mixing(NamedTuple):
    """How a batch is mixed: face i becomes `share` of face i and 1 - `share` of face `partners[i]`; so does its loss.

    `partners` is int64 [batch], on the CPU.
    """

    partners: Tensor
    share: float

    def apply(self, inputs: Tensor) -> Tensor:
        """Mixed faces, [batch, ...] like the inputs; these stay as they are."""
        return inputs.lerp(inputs[self.partners.to(inputs.device)], 1.0 - self.share)


def draw_mixing(n_faces: int, *, alpha: float) -> Mixing:
    """Draw a partner for every face of a batch, and one share for all.

    Draws from torch's own random numbers, on the CPU whatever the device. This is mixup (Zhang et al. 2018): the loss
    on a mixed face is share * loss(own label) + (1 - share) * loss(partner's label). Mix-Augment (Psaroudakis and
    Kollias 2022) adds the loss on the faces as they are.

    Args:
        n_faces: in the batch.
        alpha: the share is drawn from Beta(alpha, alpha); 1 draws all shares alike, a small one seldom mixes much.
    """
    share = _draw_share(alpha)
    return Mixing(torch.randperm(n_faces), share)


def _draw_share(alpha: float) -> float:
    """From Beta(alpha, alpha) as A / (A + B), A and B from Gamma(alpha), in logarithms.

    A is drawn as one of Gamma(alpha + 1) times U^(1 / alpha) (Marsaglia and Tsang 2000); for a small alpha it is too
    small a number itself, and torch's own Beta then gives 0.5 where it should give 0 or 1.
    """
    gammas = torch.distributions.Gamma(torch.tensor(alpha + 1, dtype=torch.float64), 1.0).sample((2,))
    logs = gammas.log() + torch.rand(2, dtype=torch.float64).log() / alpha
    return float(torch.sigmoid(logs[0] - logs[1]))
