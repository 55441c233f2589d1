"""The loss on the expression for many configs at once, with its slope written out."""

from collections.abc import Sequence

import torch

from spaces.training_sections import LossConfig


class BatchedLoss:
    """`ExpressionLoss` of every config, each on its own logits for the same faces.

    Each of its forms is -sum_c q_c log p_c for some masses q_c, so that its slope by the logits is p_c sum(q) - q_c.
    The masses depend on a face's label alone, and are looked up; those of a focal loss are multiplied by a factor of
    the face's own probability, one for the loss and another for the slope.
    """

    def __init__(self, configs: Sequence[LossConfig], weights: torch.Tensor, *, are_labels_known: bool = False) -> None:
        """
        Args:
            configs: [trials], the loss of each.
            weights: [trials, classes], of the classes; the logits are of the same type, on the same device.
            are_labels_known: whether no face is without one; then most losses are divided by a plain number.
        """
        n_classes = weights.shape[1]

        def column(values: Sequence[float]) -> torch.Tensor:
            return weights.new_tensor(values)[:, None]  # [trials, 1]

        smoothing = column([0.0 if c.name == "focal" else c.label_smoothing for c in configs])
        by_class = column([c.smoothing_by == "class" for c in configs])
        by_weights = column([c.reduction == "weights" for c in configs])
        own = torch.diag_embed((1.0 - smoothing) * weights)  # [trials, classes, labels]
        spread = smoothing / n_classes * weights  # [trials, classes or labels]
        masses = own + (by_class * spread)[:, :, None] + ((1.0 - by_class) * spread)[:, None, :]
        self._masses = _with_unknown(masses)
        self._totals = _with_unknown(masses.sum(dim=1))
        self._divisors = _with_unknown(by_weights * weights + (1.0 - by_weights))
        self._counts_faces = are_labels_known and not any(c.reduction == "weights" for c in configs)
        self._gamma = column([c.gamma if c.name == "focal" else 0.0 for c in configs])
        self._has_focal = any(c.name == "focal" for c in configs)

    def losses(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """What training minimises.

        Args:
            logits: [trials, classes, batch].
            labels: int64 [batch], the number of classes where unknown: such a face doesn't count.

        Returns:
            [trials].
        """
        masses = self._masses.index_select(2, labels)  # [trials, classes, batch]
        if self._has_focal:
            _, miss = self._own(logits, labels)
            masses.mul_((miss**self._gamma)[:, None])
        return -(masses * logits.log_softmax(dim=1)).sum(dim=(1, 2)) / self._divide_by(labels)

    def slopes(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """How the losses change with the logits: [trials, classes, batch]; the arguments are those of `losses`."""
        masses = self._masses.index_select(2, labels)
        totals = self._totals.index_select(1, labels)  # [trials, batch]
        if self._has_focal:
            log_probs, miss = self._own(logits, labels)
            # The slope of -(1 - p)^g log p by -log p; with g = 0, as for all other losses, it is 1 exactly.
            factors = miss**self._gamma * (1.0 - self._gamma * log_probs.exp() * log_probs / miss)
            masses.mul_(factors[:, None])
            totals.mul_(factors)
        divisors = self._divide_by(labels)
        slopes = logits.softmax(dim=1).mul_(totals[:, None]).sub_(masses)
        return slopes.div_(divisors if isinstance(divisors, int) else divisors[:, None, None])

    def _divide_by(self, labels: torch.Tensor) -> torch.Tensor | int:
        """[trials], or one for all: faces or their weights; 1 where there are none."""
        if self._counts_faces:
            return len(labels)
        divisors = self._divisors.index_select(1, labels).sum(dim=1)
        return divisors.masked_fill_(divisors == 0, 1.0)

    def _own(self, logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[trials, batch] each: log p of a face's own class, and 1 - p, just above 0 at the least."""
        known = labels.clamp(max=logits.shape[1] - 1).expand(len(logits), 1, -1)
        log_probs = logits.log_softmax(dim=1).gather(1, known).squeeze(1)
        return log_probs, (-torch.expm1(log_probs)).clamp_(min=torch.finfo(logits.dtype).tiny)


def _with_unknown(table: torch.Tensor) -> torch.Tensor:
    """A table whose last dimension is the label, with zeros for an unknown one behind."""
    return torch.cat([table, torch.zeros_like(table[..., :1])], dim=-1).contiguous()
