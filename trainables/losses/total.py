"""All terms of a trial's loss, each by its name and with its weight."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from spaces.config import TrialConfig
from trainables.losses.affect import UnitLoss, affect_loss
from trainables.losses.arithmetic import at_least_float32, mean_of_known
from trainables.losses.attention import AffinityLoss, partition_loss
from trainables.losses.class_weights import class_weights
from trainables.losses.expression import ExpressionLoss
from trainables.losses.landmarks import landmark_loss

Tensors = Mapping[str, torch.Tensor]


class TrialLoss(nn.Module):
    """The losses that a trial's config asks for. Its parameters, DAN's class centres, are learnt with the network's."""

    def __init__(
        self,
        config: TrialConfig,
        *,
        class_counts: npt.NDArray[np.int64],
        feature_width: int,
        unit_counts: npt.NDArray[np.int64] | None = None,
    ) -> None:
        """
        Args:
            config: its loss section is used, and its seed for the first centres.
            class_counts: [classes], training faces of each class in the trial's own subsample.
            feature_width: of the features that the affinity loss sees.
            unit_counts: [12, 2], training faces without and with each action unit; None for a table without units.

        Raises:
            ConfigError: an explicit list of class weights has another length than the classes.
        """
        super().__init__()
        loss = self.config = config.loss
        self.expression = ExpressionLoss(torch.from_numpy(class_weights(class_counts, loss)), loss)
        self.affinity: AffinityLoss | None = None
        if loss.affinity_weight:
            generator = torch.Generator().manual_seed(config.train.seed)
            self.affinity = AffinityLoss(len(class_counts), feature_width, generator=generator)
        self.units = None if unit_counts is None else UnitLoss(unit_counts)

    def forward(self, outputs: Tensors, targets: Tensors) -> dict[str, torch.Tensor]:
        """The terms, to be summed up. One is left out where its output, its target or its weight is missing.

        Args:
            outputs: of these what the network has: logits [batch, classes], features [batch, width],
                attention [batch, heads, width], valence_arousal [batch, 2], action_units [batch, 12] (logits),
                landmarks [batch, 136], hand [batch, 2] (logits), and, from the joint heads below separate ones,
                base_logits and base_valence_arousal.
            targets: of these what the table has: expression int64 [batch] (-1 unknown), valence_arousal [batch, 2]
                (NaN unknown), action_units int64 [batch, 12] (-1), landmarks [batch, 136] (NaN), hand int64 [batch]
                (-1).

        Returns:
            Scalars by name, weights multiplied in: expression, base_expression, affinity, partition, affect,
            base_affect, units, landmarks, hand.
        """
        config = self.config
        terms: dict[str, torch.Tensor] = {}
        if "expression" in targets:
            labels = targets["expression"]
            for name, key in (("expression", "logits"), ("base_expression", "base_logits")):
                if key in outputs:
                    terms[name] = self.expression(outputs[key], labels)
            if self.affinity is not None and "features" in outputs:
                terms["affinity"] = config.affinity_weight * self.affinity(outputs["features"], labels)
        if config.partition_weight and "attention" in outputs:
            partition = partition_loss(outputs["attention"], config.partition_form)
            terms["partition"] = config.partition_weight * partition
        return terms | self._affect_terms(outputs, targets) | self._side_terms(outputs, targets)

    def mixed(
        self, outputs: Tensors, labels_a: torch.Tensor, labels_b: torch.Tensor, share: torch.Tensor | float
    ) -> torch.Tensor:
        """The expression's loss on mixed faces, that of the joint heads below separate ones included.

        Args:
            outputs: logits [batch, classes], and base_logits where there are any.
            labels_a: int64 [batch], -1 where unknown.
            labels_b: int64 [batch], likewise.
            share: of a in each face; a scalar or [batch].

        Returns:
            A scalar.
        """
        loss = self.expression.mixed(outputs["logits"], labels_a, labels_b, share)
        if "base_logits" in outputs:
            loss = loss + self.expression.mixed(outputs["base_logits"], labels_a, labels_b, share)
        return loss

    def _affect_terms(self, outputs: Tensors, targets: Tensors) -> dict[str, torch.Tensor]:
        """Valence and arousal."""
        if not self.config.va_weight or "valence_arousal" not in targets:
            return {}
        truth, weight = targets["valence_arousal"], self.config.va_weight
        keys = {"affect": "valence_arousal", "base_affect": "base_valence_arousal"}
        return {name: weight * affect_loss(outputs[key], truth) for name, key in keys.items() if key in outputs}

    def _side_terms(self, outputs: Tensors, targets: Tensors) -> dict[str, torch.Tensor]:
        """Action units, landmarks and the hand: one output, one target, one weight each, of the same key."""
        config = self.config
        terms: dict[str, torch.Tensor] = {}
        if config.unit_weight and "action_units" in outputs and "action_units" in targets:
            assert self.units is not None, "a table with action units has counts of them"
            terms["units"] = config.unit_weight * self.units(outputs["action_units"], targets["action_units"])
        if config.landmark_weight and "landmarks" in outputs and "landmarks" in targets:
            terms["landmarks"] = config.landmark_weight * landmark_loss(outputs["landmarks"], targets["landmarks"])
        if config.hand_weight and "hand" in outputs and "hand" in targets:
            terms["hand"] = config.hand_weight * _hand_loss(outputs["hand"], targets["hand"])
        return terms


def _hand_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy over the faces whose label is known; logits [batch, 2], labels int64 [batch]."""
    losses = F.cross_entropy(at_least_float32(logits), labels, ignore_index=-1, reduction="none")
    return mean_of_known(losses, labels >= 0)
