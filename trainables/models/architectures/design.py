"""What a network is made of, as plain values that are written beside its weights."""

from dataclasses import dataclass
from typing import Literal

Encoder = Literal["pooled", "dan", "deviation", "two_branch"]
Fusion = Literal["logsoftmax_sum", "sum", "concat"]
Inputs = Literal["embeddings", "logits", "both"]


@dataclass(frozen=True)
class Design:
    """The parts of a network, beside the name of its backbone and the number of its classes.

    Attributes:
        encoder: from image to embedding.
        stride: of the last stage that the backbone keeps; 0 for all of them.
        attention_heads: of DAN's cross attention.
        attention_width: channels of a head.
        attention_fusion: how heads become one embedding.
        logit_norm: batch norm on the logits of a DAN, or on its embedding where it is one branch of two.
        deviation_eps: added to trained minus frozen embedding.
        deviation_eps_when: in training alone, or always.
        emotion: encoder of the emotion branch of two.
        appearance_backbone: timm name of the other branch's backbone.
        trunk_width: outputs of the first layer of the trunk that two branches share.
        trunk_width_2: outputs of its second layer.
        head_width: hidden units of the expression's head; 0 for a linear one.
        landmarks: whether there is a head for landmarks.
        affect: heads for valence, arousal and action units.
        expression_inputs: what a separate expression head reads.
        va_inputs: what a separate valence-arousal head reads.
        unit_inputs: what the action-unit head reads.
        unit_width: hidden units of the action-unit head.
        hand_backbone: timm name of the hand module's backbone; empty for none.
    """

    encoder: Encoder = "pooled"
    stride: int = 0
    attention_heads: int = 4
    attention_width: int = 512
    attention_fusion: Fusion = "logsoftmax_sum"
    logit_norm: bool = True
    deviation_eps: float = 1e-6
    deviation_eps_when: Literal["training", "always"] = "training"
    emotion: Literal["pooled", "dan"] = "dan"
    appearance_backbone: str = ""
    trunk_width: int = 512
    trunk_width_2: int = 256
    head_width: int = 0
    landmarks: bool = False
    affect: Literal["none", "joint", "separate"] = "none"
    expression_inputs: Inputs = "both"
    va_inputs: Inputs = "logits"
    unit_inputs: Inputs = "both"
    unit_width: int = 128
    hand_backbone: str = ""
