"""A network's answer on faces: the mean over a face and its mirror image, and the hand rule over that."""

from dataclasses import dataclass

import torch

from .hands import apply_hand_rule
from .network import ExpressionNetwork

Outputs = dict[str, torch.Tensor]

ANSWERS = ("logits", "valence_arousal", "action_units", "hand")
"""Outputs that mean the same of a mirror image."""


@dataclass(frozen=True)
class HandRuleByName:
    """Call a face with a hand `target` from this probability on, unless its class is one of the exceptions."""

    target: str
    threshold: float
    exceptions: tuple[str, ...]


def answer(network: ExpressionNetwork, inputs: torch.Tensor, *, mirror: bool) -> Outputs:
    """What a network in eval mode says of faces.

    Args:
        network: in eval mode.
        inputs: [batch, 3, px, px].
        mirror: take the mean with what it says of mirror images.

    Returns:
        Float32 `logits` [batch, classes], and `valence_arousal`, `action_units`, `hand` where there are such heads.
    """
    outputs = network.outputs(inputs)
    found = {name: outputs[name].float() for name in ANSWERS if name in outputs}
    if mirror:
        mirrored = network.outputs(inputs.flip(-1))
        found = {name: (numbers + mirrored[name].float()) / 2 for name, numbers in found.items()}
    return found


def decide(outputs: Outputs, rule: HandRuleByName | None, classes: tuple[str, ...]) -> torch.Tensor:
    """The logits [batch, classes] that count: with the hand rule applied where there is one."""
    if rule is None or "hand" not in outputs:
        return outputs["logits"]
    return apply_hand_rule(
        outputs["logits"],
        outputs["hand"],
        target=classes.index(rule.target),
        threshold=rule.threshold,
        exceptions=[classes.index(name) for name in rule.exceptions if name in classes],
    )
