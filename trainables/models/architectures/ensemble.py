"""A whole ensemble as one network: from decoded faces to the probabilities of its vote."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from .answers import HandRuleByName, Look, Outputs, answer_together, decide, looks_at_face
from .design import Design
from .network import AnyEncoder, ExpressionNetwork

DecodedAs = tuple[int, int]
"""Side in pixels and channels of a decoded face; networks that agree on it share the decoding."""

FACES_AT_ONCE = 64
"""Faces that go through an encoder as one batch, counted once a look: a single face is looked at ten times at once."""


@dataclass(frozen=True)
class Vote:
    """What a network's answer counts for.

    Attributes:
        member: whose network it is here; a member's votes are all of one space.
        weight: share of the whole vote.
        space: whether the member's networks are mixed by their probabilities or by their logits.
    """

    member: str
    weight: float
    space: Literal["probs", "logits"]


@dataclass(frozen=True)
class Feed:
    """What becomes of a face on its way into a network.

    Attributes:
        table_px: side that images are decoded to.
        channels: of the decoded image, 1 or 3.
        image_px: side that the network sees.
        mean: per channel, of images in 0..1.
        std: per channel, of images in 0..1.
    """

    table_px: int
    channels: int
    image_px: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def decoded_as(self) -> DecodedAs:
        """What it wants of the decoding."""
        return self.table_px, self.channels


class FaceInputs(nn.Module):
    """Resizes where sizes differ, repeats grey and normalises, as in training.

    To the last bit: some networks make much of the smallest difference.

    Attributes:
        resize: maps [batch, channels, px, px] to those of another side.
    """

    factors: torch.Tensor
    offsets: torch.Tensor

    def __init__(self, feed: Feed) -> None:
        super().__init__()
        self.px = feed.image_px
        self.resize: Callable[[torch.Tensor, int], torch.Tensor] = _resize
        means, stds = torch.tensor(feed.mean), torch.tensor(feed.std)
        # Of one row of pixels, [px * 3]: over whole rows a processor is ten times as quick as over three channels.
        self.register_buffer("factors", (1.0 / (255.0 * stds)).repeat(self.px), persistent=False)
        self.register_buffer("offsets", (-means / stds).repeat(self.px), persistent=False)

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        """Decoded faces [batch, px, px, 1 or 3] to float32 [batch, 3, px, px], channels last in memory."""
        faces = faces.float()
        if faces.shape[2] != self.px:
            faces = self.resize(faces.permute(0, 3, 1, 2), self.px).permute(0, 2, 3, 1)
        rows = faces.expand(-1, -1, -1, 3).reshape(-1, self.px, self.px * 3)
        inputs = torch.addcmul(self.offsets, rows, self.factors)
        return inputs.view(-1, self.px, self.px, 3).permute(0, 3, 1, 2)


def _resize(maps: torch.Tensor, px: int) -> torch.Tensor:
    return F.interpolate(maps, size=(px, px), mode="bilinear", antialias=True, align_corners=False)


@dataclass(frozen=True)
class Voter:
    """One network of an ensemble, with what its answer is made of and counts for.

    Attributes:
        network: in eval mode; several voters may hold one encoder.
        feed: how its input is made.
        looks: at a face, over which its answer is averaged.
        hand_rule: over that answer; None where there is none.
        classes: its own, in the order of its logits.
        votes: one for each member that it stands in.
    """

    network: ExpressionNetwork
    feed: Feed
    looks: tuple[Look, ...]
    hand_rule: HandRuleByName | None
    classes: tuple[str, ...]
    votes: tuple[Vote, ...]

    def logits_of(self, outputs: Outputs, classes: Sequence[str]) -> torch.Tensor:
        """What the network said, as float64 logits [batch, classes] of the classes asked for."""
        columns = [self.classes.index(name) for name in classes]
        return decide(outputs, self.hand_rule, self.classes)[:, columns].double()


class Crowd(nn.Module):
    """Voters that share an encoder and what it sees: it runs once for all of them."""

    def __init__(self, voters: Sequence[Voter]) -> None:
        super().__init__()
        self.voters = tuple(voters)
        self.networks = nn.ModuleList(voter.network for voter in voters)
        self.inputs = FaceInputs(voters[0].feed)
        self.n_looks = len({look for voter in voters for look in voter.looks})

    def forward(self, faces: torch.Tensor, *, faces_at_once: int | None) -> list[Outputs]:
        """Decoded faces to what each voter's network says of them."""
        at_once = self.n_looks if faces_at_once is None else max(1, faces_at_once // max(1, faces.shape[0]))
        networks, looks = zip(*((voter.network, voter.looks) for voter in self.voters), strict=True)
        return answer_together(networks, self.inputs(faces), looks=looks, looks_at_once=at_once)


class EnsembleNetwork(nn.Module):
    """The weighted vote of networks, each on faces as it saw them in training.

    Attributes:
        classes: names, in the order of the probabilities.
        decoded_as: in what sizes it wants each face.
        crowds: its voters, by what they share.
        temperature: the logarithms of the mixed probabilities are divided by it; 1 leaves them as they are.
        faces_at_once: that go through an encoder as one batch, each look counted; None for all.
    """

    def __init__(self, voters: Sequence[Voter], *, classes: Sequence[str], temperature: float = 1.0) -> None:
        super().__init__()
        together: dict[tuple[Feed, int], list[Voter]] = {}
        for voter in voters:
            together.setdefault((voter.feed, id(voter.network.encoder)), []).append(voter)
        self.crowds = tuple(Crowd(crowd) for crowd in together.values())
        self.parts = nn.ModuleList(self.crowds)  # where torch looks for them
        self.classes = tuple(classes)
        self.decoded_as = tuple(dict.fromkeys(voter.feed.decoded_as for voter in voters))
        self.temperature = temperature
        self.faces_at_once: int | None = FACES_AT_ONCE

    def forward(self, faces: Sequence[torch.Tensor]) -> torch.Tensor:
        """Faces to probabilities.

        Args:
            faces: for each of `decoded_as`, the same faces as uint8 [batch, px, px, channels].

        Returns:
            float64 [batch, classes], rows summing to 1.
        """
        decoded = dict(zip(self.decoded_as, faces, strict=True))
        answers: list[tuple[Vote, torch.Tensor]] = []
        for crowd in self.crowds:
            said = crowd(decoded[crowd.voters[0].feed.decoded_as], faces_at_once=self.faces_at_once)
            for voter, outputs in zip(crowd.voters, said, strict=True):
                logits = voter.logits_of(outputs, self.classes)
                answers += [(vote, logits) for vote in voter.votes]
        mixture = _mix(answers)
        return mixture if self.temperature == 1 else (mixture.log() / self.temperature).softmax(dim=1)


def build_ensemble(members: Mapping[str, Any], read: Callable[[str], Mapping[str, torch.Tensor]]) -> EnsembleNetwork:
    """The ensemble that members.json describes, in eval mode.

    Args:
        members: what stands in it.
        read: from the name of a file beside it to the tensors in it.

    Raises:
        RuntimeError: a file has other tensors than its network.
    """
    networks: dict[str, ExpressionNetwork] = {}
    for entry in members["networks"]:
        shared = networks[entry["encoder_from"]].encoder if entry["encoder_from"] else None
        networks[entry["file"]] = _load(entry, read(entry["file"]), encoder=shared)
    voters = [_voter(networks[entry["file"]], entry) for entry in members["networks"]]
    return EnsembleNetwork(voters, classes=members["classes"], temperature=members["temperature"]).eval()


def _load(
    entry: Mapping[str, Any], state: Mapping[str, torch.Tensor], *, encoder: AnyEncoder | None
) -> ExpressionNetwork:
    design, n_classes = Design(**entry["design"]), len(entry["classes"])
    network = ExpressionNetwork(entry["backbone"], n_classes=n_classes, design=design, encoder=encoder)
    known = {} if encoder is None else {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    network.load_state_dict({**known, **state})
    return network


def _voter(network: ExpressionNetwork, entry: Mapping[str, Any]) -> Voter:
    feed = {name: entry[name] for name in ("table_px", "channels", "image_px")}
    return Voter(
        network=network,
        feed=Feed(**feed, mean=tuple(entry["mean"]), std=tuple(entry["std"])),
        looks=looks_at_face(mirror=entry["mirror"], shift_px=entry["shift_px"]),
        hand_rule=HandRuleByName(**entry["hand_rule"]) if entry["hand_rule"] else None,
        classes=tuple(entry["classes"]),
        votes=tuple(Vote(vote["member"], vote["weight"], vote["space"]) for vote in entry["votes"]),
    )


def _mix(answers: Sequence[tuple[Vote, torch.Tensor]]) -> torch.Tensor:
    """Votes with their logits to probabilities: members by theirs, and within a member as its votes say."""
    shares: list[torch.Tensor] = []
    by_member: dict[str, list[tuple[float, torch.Tensor]]] = {}
    for vote, logits in answers:
        if vote.space == "probs":
            shares.append(vote.weight * logits.softmax(dim=1))
        else:
            by_member.setdefault(vote.member, []).append((vote.weight, logits))
    for own in by_member.values():
        weight = sum(share for share, _ in own)
        shares.append(weight * (_sum([share * logits for share, logits in own]) / weight).softmax(dim=1))
    return _sum(shares)


def _sum(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    total = tensors[0]
    for tensor in tensors[1:]:
        total = total + tensor
    return total
