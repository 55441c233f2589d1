"""A network's answer on faces: the mean over several looks at each, and the hand rule over that."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .hands import apply_hand_rule
from .network import ExpressionNetwork

Outputs = dict[str, torch.Tensor]

ANSWERS = ("logits", "valence_arousal", "action_units", "hand")
"""Outputs that mean the same of a mirror image and of a shifted face."""

MOVES = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))
"""Down and right, in steps of `shift_px`."""


@dataclass(frozen=True)
class HandRuleByName:
    """Call a face with a hand `target` from this probability on, unless its class is one of the exceptions."""

    target: str
    threshold: float
    exceptions: tuple[str, ...]


def answer(network: ExpressionNetwork, inputs: torch.Tensor, *, mirror: bool, shift_px: int = 0) -> Outputs:
    """What a network in eval mode says of faces: the mean over one look at each, or two, five or ten.

    Args:
        network: in eval mode.
        inputs: [batch, 3, px, px].
        mirror: look at mirror images too.
        shift_px: look, too, at the faces moved by so many pixels up, down, left and right; 0 does not.

    Returns:
        Float32 `logits` [batch, classes], and `valence_arousal`, `action_units`, `hand` where there are such heads.
    """
    totals: Outputs = {}
    n_looks = 0
    for look in _looks(inputs, mirror=mirror, shift_px=shift_px):
        outputs = network.outputs(look)
        for name in ANSWERS:
            if name in outputs:
                numbers = outputs[name].float()
                totals[name] = totals[name] + numbers if name in totals else numbers
        n_looks += 1
    return {name: total / n_looks for name, total in totals.items()}


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


def _looks(inputs: torch.Tensor, *, mirror: bool, shift_px: int) -> Iterator[torch.Tensor]:
    """The faces, moved ones after them, each followed by its mirror image; what a move bares repeats the edge."""
    height, width = inputs.shape[-2:]
    padded = F.pad(inputs, (shift_px,) * 4, mode="replicate") if shift_px else inputs
    for down, right in MOVES if shift_px else MOVES[:1]:
        top, left = shift_px * (1 - down), shift_px * (1 - right)
        look = padded[..., top : top + height, left : left + width]
        yield look
        if mirror:
            yield look.flip(-1)
