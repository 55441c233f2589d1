"""The loss on the expression for many configs at once, with its gradient written out."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from spaces.training_sections import LossConfig


class BatchedLoss:
    """`ExpressionLoss` of every config, each on its own logits for the same faces.

    Every form of it is -sum_c q_c log p_c for some masses q_c (a focal loss in its slope alone), so that its gradient
    by the logits is p_c sum(q) - q_c. The trial is the last dimension throughout: processors are quick along it.
    """

    def __init__(self, configs: Sequence[LossConfig], weights: npt.NDArray[np.float64], device: torch.device) -> None:
        """
        Args:
            configs: [trials], the loss of each.
            weights: [trials, classes], of the classes.
            device: of the logits.
        """

        def row(values: Sequence[float | bool]) -> torch.Tensor:
            return torch.tensor(values, device=device)  # [trials]

        self._weights = torch.from_numpy(weights).float().T.contiguous().to(device)  # [classes, trials]
        self._n_classes = len(self._weights)
        smoothing = row([0.0 if c.name == "focal" else c.label_smoothing for c in configs])
        by_class = row([c.smoothing_by == "class" for c in configs])
        self._own_share = 1.0 - smoothing
        # What smoothing adds to every class: a share of the weight of the face's class, or of the class's own.
        self._by_face = torch.where(by_class, 0.0, smoothing) / self._n_classes
        self._by_class = torch.where(by_class, smoothing, 0.0) * self._weights / self._n_classes
        self._has_by_class = bool(self._by_class.any())
        self._focal = row([c.name == "focal" for c in configs])
        self._gamma = row([c.gamma if c.name == "focal" else 0.0 for c in configs])
        self._has_focal = bool(self._focal.any())
        self._by_weights = row([c.reduction == "weights" for c in configs])

    def gradient(self, logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Losses, and their gradients by the logits.

        Args:
            logits: float [batch, classes, trials].
            labels: int64 [batch], -1 where unknown: such a face doesn't count.

        Returns:
            [trials], and [batch, classes, trials].
        """
        log_probs = logits.log_softmax(dim=1)
        known = (labels >= 0).to(logits.dtype)[:, None]  # [batch, 1]
        index = labels.clamp(min=0)
        is_own = (F.one_hot(index, self._n_classes) * known)[:, :, None]  # [batch, classes, 1]
        weights = self._weights.to(logits.dtype)[index] * known  # [batch, trials], of the face's class
        own_masses, extra = weights * self._own_share, torch.zeros_like(self._own_share)
        if self._has_focal:
            own_masses, extra = self._focus(weights, own_masses, (log_probs * is_own).sum(dim=1))
        masses = torch.addcmul((weights * self._by_face)[:, None], is_own, own_masses[:, None])
        if self._has_by_class:
            masses = masses + self._by_class * known[:, :, None]
        losses = extra - (masses * log_probs).sum(dim=(0, 1))  # [trials]
        divisor = torch.where(self._by_weights, weights.sum(dim=0), known.sum())
        divisor = torch.where(divisor > 0, divisor, torch.ones_like(divisor))
        slopes = log_probs.exp_().mul_(masses.sum(dim=1, keepdim=True)).sub_(masses).div_(divisor)
        return losses / divisor, slopes

    def _focus(
        self, weights: torch.Tensor, masses: torch.Tensor, log_probs: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Masses with those of focal trials in place, and what their losses are beyond -mass * log p.

        The mass is the loss's slope by -log p: (1 - p)^g (1 - g p log p / (1 - p)) times the weight.
        """
        probs = log_probs.exp()
        miss = (-torch.expm1(log_probs)).clamp(min=torch.finfo(log_probs.dtype).tiny)
        power = weights * miss**self._gamma
        focal_masses = power * (1.0 - self._gamma * probs * log_probs / miss)
        beyond = torch.where(self._focal, (focal_masses - power) * log_probs, 0.0)
        return torch.where(self._focal, focal_masses, masses), beyond.sum(dim=0)
