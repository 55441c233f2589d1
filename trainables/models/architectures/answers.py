"""A network's answer on faces: the mean over several looks at each, and the hand rule over that."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
import torch.nn.functional as F

from .hands import apply_hand_rule
from .network import ExpressionNetwork

Outputs = dict[str, torch.Tensor]

ANSWERS = ("logits", "valence_arousal", "action_units", "hand")
"""Outputs that mean the same of a mirror image and of a shifted face."""

MOVES = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))
"""Down and right, in steps of `shift_px`."""

Look = tuple[int, int, bool]
"""How many pixels down and right a face is moved, and whether it is mirrored then."""


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
    return answer_together([network], inputs, looks=[looks_at_face(mirror=mirror, shift_px=shift_px)])[0]


def answer_together(
    networks: Sequence[ExpressionNetwork],
    inputs: torch.Tensor,
    *,
    looks: Sequence[Sequence[Look]],
    looks_at_once: int = 1,
) -> list[Outputs]:
    """What networks that share an encoder say of faces; it runs once a look, whoever takes that.

    Args:
        networks: in eval mode, all with the same encoder.
        inputs: [batch, 3, px, px].
        looks: of each network.
        looks_at_once: how many looks go through the networks as one batch.

    Returns:
        Of each network, what `answer` gives.
    """
    totals: list[Outputs] = [{} for _ in networks]
    asked = list(dict.fromkeys(look for own in looks for look in own))
    pictures = _iter_looks(inputs, asked)
    for start in range(0, len(asked), looks_at_once):
        some = asked[start : start + looks_at_once]
        faces = _as_one_batch(list(islice(pictures, len(some))))
        encoded = networks[0].encode(faces)
        for network, own, total in zip(networks, looks, totals, strict=True):
            if places := [place for place, look in enumerate(some) if look in own]:
                outputs = network.outputs_of(encoded, faces)
                _add(total, _by_look(outputs, shape=(len(some), inputs.shape[0])), places)
    return [{name: total / len(own) for name, total in said.items()} for said, own in zip(totals, looks, strict=True)]


def looks_at_face(*, mirror: bool, shift_px: int) -> tuple[Look, ...]:
    """The face as it is, the moved ones after it, and each followed by its mirror image."""
    moves = MOVES if shift_px else MOVES[:1]
    sides = (False, True) if mirror else (False,)
    return tuple((down * shift_px, right * shift_px, side) for down, right in moves for side in sides)


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


def _as_one_batch(looks: list[torch.Tensor]) -> torch.Tensor:
    """[looks * batch, 3, px, px]"""
    return looks[0] if len(looks) == 1 else torch.cat(looks)


def _by_look(outputs: Outputs, *, shape: tuple[int, int]) -> Outputs:
    """The answers of several looks that went through as one batch, each [looks, batch, ...]."""
    return {name: outputs[name].float().view(*shape, *outputs[name].shape[1:]) for name in ANSWERS if name in outputs}


def _add(totals: Outputs, outputs: Outputs, places: Sequence[int]) -> None:
    """Add what was said at some of the looks, in their order."""
    for name, numbers in outputs.items():
        for place in places:
            totals[name] = totals[name] + numbers[place] if name in totals else numbers[place]


def _iter_looks(inputs: torch.Tensor, looks: Sequence[Look]) -> Iterator[torch.Tensor]:
    """The faces at each look; what a move bares repeats the edge."""
    height, width = inputs.shape[-2:]
    margin = max(max(abs(down), abs(right)) for down, right, _ in looks)
    padded = F.pad(inputs, (margin,) * 4, mode="replicate") if margin else inputs
    for down, right, is_mirrored in looks:
        top, left = margin - down, margin - right
        look = padded[..., top : top + height, left : left + width]
        yield look.flip(-1) if is_mirrored else look
