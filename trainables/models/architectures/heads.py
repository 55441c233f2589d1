"""What stands on an embedding: the expression, and where asked for valence, arousal, action units and landmarks.

Source: Savchenko 2022: one linear layer for eight expressions, valence and arousal; then separate heads on its outputs,
on the embeddings, or on both. Jeong et al. 2022 for the landmark head.
"""

import torch
from torch import nn

from .design import Design, Inputs

Outputs = dict[str, torch.Tensor]

INIT_STD = 0.01
"""Spread of a new classifier's weights. A wider one gives some families first losses near 5 and slow starts."""

N_UNITS = 12
N_COORDINATES = 136
"""x and y of 68 landmarks."""


class Heads(nn.Module):
    """All heads of a network, on one embedding.

    Attributes:
        hidden: rectified units below it, where the design asks for them.
        linear: the expression's layer; with joint or separate affect heads it gives valence and arousal too.
    """

    def __init__(self, width: int, n_classes: int, design: Design, *, logit_norm: bool) -> None:
        super().__init__()
        self.n_classes = n_classes
        self.has_affect = design.affect != "none"
        hidden = design.head_width
        self.hidden = nn.Sequential(nn.Linear(width, hidden), nn.ReLU()) if hidden else nn.Identity()
        self.linear = new_linear(hidden or width, n_classes + (2 if self.has_affect else 0))
        self.norm = nn.BatchNorm1d(n_classes) if logit_norm else nn.Identity()
        self.landmarks = new_linear(width, N_COORDINATES) if design.landmarks else None
        self.separate = SeparateHeads(width, n_classes, design) if design.affect == "separate" else None

    def forward(self, embeddings: torch.Tensor) -> Outputs:
        """[batch, width] to `logits` [batch, classes] and whatever else there is a head for.

        `valence_arousal` is [batch, 2], `action_units` logits [batch, 12], `landmarks` [batch, 136]. With separate
        heads the joint layer's own answers are `base_logits` and `base_valence_arousal`.
        """
        numbers = self.linear(self.hidden(embeddings))
        outputs: Outputs = {"logits": self.norm(numbers[:, : self.n_classes])}
        if self.has_affect:
            outputs["valence_arousal"] = numbers[:, self.n_classes :]
        if self.landmarks is not None:
            outputs["landmarks"] = self.landmarks(embeddings)
        if self.separate is not None:
            base = {f"base_{name}": outputs.pop(name) for name in ("logits", "valence_arousal")}
            outputs |= base | self.separate(embeddings, torch.cat(list(base.values()), dim=1))
        return outputs


class SeparateHeads(nn.Module):
    """Heads for expression, valence and arousal, and action units, on what a joint network puts out.

    They read it detached: they never move the network below, as in the paper, where it was trained before.
    """

    def __init__(self, width: int, n_classes: int, design: Design) -> None:
        super().__init__()
        self.inputs: dict[str, Inputs] = {
            "expression": design.expression_inputs, "affect": design.va_inputs, "units": design.unit_inputs
        }  # fmt: skip
        widths = {"embeddings": width, "logits": n_classes + 2, "both": width + n_classes + 2}
        self.expression = new_linear(widths[design.expression_inputs], n_classes)
        self.affect = nn.Sequential(new_linear(widths[design.va_inputs], 2), nn.Tanh())
        self.units = nn.Sequential(
            nn.Linear(widths[design.unit_inputs], design.unit_width), nn.ReLU(), new_linear(design.unit_width, N_UNITS)
        )

    def forward(self, embeddings: torch.Tensor, logits: torch.Tensor) -> Outputs:
        """Embeddings [batch, width] and the joint layer's numbers [batch, classes + 2] to the heads' answers."""
        embeddings, logits = embeddings.detach(), logits.detach()
        read = {"embeddings": embeddings, "logits": logits, "both": torch.cat([embeddings, logits], dim=1)}
        return {
            "logits": self.expression(read[self.inputs["expression"]]),
            "valence_arousal": self.affect(read[self.inputs["affect"]]),
            "action_units": self.units(read[self.inputs["units"]]),
        }


def new_linear(n_inputs: int, n_outputs: int) -> nn.Linear:
    """A linear layer that begins near 0."""
    layer = nn.Linear(n_inputs, n_outputs)
    nn.init.normal_(layer.weight, std=INIT_STD)
    nn.init.zeros_(layer.bias)
    return layer
