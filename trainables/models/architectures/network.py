"""The whole network: an encoder, the heads on its embedding, and the hand module beside it."""

from typing import Any

import torch
from torch import nn

from .backbone import Backbone
from .dan import DanEncoder
from .design import Design, Encoder
from .deviation import DeviationEncoder
from .hands import HandModule
from .heads import Heads
from .pooled import PooledEncoder
from .two_branch import TwoBranchEncoder

Outputs = dict[str, torch.Tensor]
AnyEncoder = PooledEncoder | DanEncoder | DeviationEncoder | TwoBranchEncoder

ATTENTION = ("attention_heads", "attention_width", "attention_fusion")
ENCODER_FIELDS: dict[Encoder, tuple[str, ...]] = {
    "pooled": (),
    "dan": ATTENTION,
    "deviation": ("deviation_eps", "deviation_eps_when"),
    "two_branch": ("emotion", *ATTENTION, "logit_norm", "appearance_backbone", "trunk_width", "trunk_width_2"),
}
"""Of a design, what an encoder is built from, beside its kind and its stride."""


class ExpressionNetwork(nn.Module):
    """From faces to logits of expressions, and to whatever else it has heads for.

    Attributes:
        encoder: from images to embeddings.
        heads: on the embeddings.
        hand: the hand module, or None.
    """

    def __init__(
        self,
        backbone: str,
        *,
        n_classes: int,
        design: Design,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        encoder: AnyEncoder | None = None,
    ) -> None:
        """
        Args:
            backbone: timm's name, or torchvision/googlenet.
            n_classes: expressions that the logits are of.
            design: the parts.
            drop_rate: dropout before the heads.
            drop_path_rate: stochastic depth, where the backbone has it.
            encoder: another network's, of the same backbone and design, to share; one of its own when omitted.
        """
        super().__init__()
        self.encoder = _build_encoder(backbone, design, drop_path_rate=drop_path_rate) if encoder is None else encoder
        self.dropout = nn.Dropout(drop_rate)
        logit_norm = design.encoder == "dan" and design.logit_norm
        self.heads = Heads(self.encoder.width, n_classes, design, logit_norm=logit_norm)
        self.hand = HandModule(Backbone(design.hand_backbone)) if design.hand_backbone else None

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """[batch, 3, px, px] to logits [batch, classes]; no rule is applied."""
        return self.outputs(inputs)["logits"]

    def outputs(
        self, inputs: torch.Tensor, *, appearance: torch.Tensor | None = None, frozen: torch.Tensor | None = None
    ) -> Outputs:
        """All that the network says of some faces.

        Args:
            inputs: [batch, 3, px, px].
            appearance: for the appearance branch of two, the same faces not moved.
            frozen: for a deviation encoder, the frozen twin's embeddings where they are known.

        Returns:
            What the encoder and the heads give, and `hand` [batch, 2] of a hand module.
        """
        return self.outputs_of(self.encode(inputs, appearance=appearance, frozen=frozen), inputs)

    def encode(
        self, inputs: torch.Tensor, *, appearance: torch.Tensor | None = None, frozen: torch.Tensor | None = None
    ) -> Outputs:
        """What the encoder alone says: `embeddings` [batch, width], and what else it gives. Arguments of `outputs`."""
        match self.encoder:
            case TwoBranchEncoder():
                encoded: Outputs = self.encoder(inputs, appearance)
            case DeviationEncoder():
                encoded = self.encoder(inputs, frozen)
            case _:
                encoded = self.encoder(inputs)
        return encoded

    def outputs_of(self, encoded: Outputs, inputs: torch.Tensor) -> Outputs:
        """`outputs` of faces that the encoder has seen already.

        Args:
            encoded: what `encode` gave.
            inputs: [batch, 3, px, px], which a hand module looks at.
        """
        outputs: Outputs = {**encoded, **self._say(encoded["embeddings"])}
        if self.hand is not None:
            outputs["hand"] = self.hand(inputs)
        return outputs

    def _say(self, embeddings: torch.Tensor) -> Outputs:
        """The heads' words, in float32 under autocast too: some embeddings differ between faces in late digits only."""
        kind = embeddings.device.type
        if not torch.is_autocast_enabled(kind):
            return self.heads(self.dropout(embeddings))  # type: ignore[no-any-return]
        with torch.autocast(kind, enabled=False):
            return self.heads(self.dropout(embeddings.float()))  # type: ignore[no-any-return]


def encoder_design(design: Design) -> dict[str, Any]:
    """What of a design the encoder depends on, by name: networks that agree on it can share one."""
    names = ("encoder", "stride", *ENCODER_FIELDS[design.encoder])
    return {name: getattr(design, name) for name in names}


def _build_encoder(backbone: str, design: Design, *, drop_path_rate: float) -> AnyEncoder:
    own = Backbone(backbone, drop_path_rate=drop_path_rate, stride=design.stride)
    match design.encoder:
        case "pooled":
            return PooledEncoder(own)
        case "dan":
            return _build_dan(own, design)
        case "deviation":
            return DeviationEncoder(own, eps=design.deviation_eps, eps_when=design.deviation_eps_when)
        case "two_branch":
            emotion = _build_dan(own, design) if design.emotion == "dan" else PooledEncoder(own)
            appearance = Backbone(design.appearance_backbone)
            return TwoBranchEncoder(
                emotion,
                appearance,
                trunk=(design.trunk_width, design.trunk_width_2),
                norm=design.emotion == "dan" and design.logit_norm,
            )


def _build_dan(backbone: Backbone, design: Design) -> DanEncoder:
    return DanEncoder(
        backbone, n_heads=design.attention_heads, width=design.attention_width, fusion=design.attention_fusion
    )
