"""The settings that say which network a trial trains: encoder, branches, heads, hand module, partner."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Inputs = Literal["embeddings", "logits", "both"]


class Section(BaseModel):
    """One group of settings: frozen, and deaf to unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModelConfig(Section):
    """Which network is trained, and from what."""

    encoder: Literal["pooled", "dan", "deviation", "two_branch"] = Field(
        default="pooled",
        description="from image to embedding: the backbone's pooled maps, DAN's cross attention over them, the "
        "deviation of a trained twin from a frozen one, or two branches with a shared trunk",
    )
    backbone: str = Field(
        default="tf_efficientnet_lite0", description="timm name of the feature extractor, or torchvision/googlenet"
    )
    weights: str = Field(
        default="none",
        min_length=1,
        description="where its weights come from: none (random), hub (timm's own), or a safetensors file",
    )
    start: str = Field(
        default="none",
        min_length=1,
        description="none, or a saved model to go on from: every part of the same name and shape is taken over",
    )
    image_px: int | None = Field(
        default=None, ge=16, le=1024, description="side the network sees, pixels; table's own if empty"
    )
    min_map: int = Field(
        default=0,
        ge=0,
        le=64,
        description="the backbone's last stages are left out where their maps have fewer cells a side than this, those "
        "of a stride above 16 at most; 0 keeps all. 48 pixels and a stride of 32 leave 2 x 2",
    )
    mirror: bool = Field(default=True, description="answer with the mean of a face's logits and its mirror image's")
    shift: float = Field(
        default=0.0,
        ge=0,
        le=0.25,
        description="the mean is also over the face moved up, down, left and right by this share of its side; 0 leaves "
        "it where it is. From a completed trial's last scoring on, so that epochs stay quick; not of heads alone",
    )
    head_width: int = Field(
        default=0, ge=0, le=4096, description="hidden units of the head on the embedding; 0 is a linear head"
    )
    drop_rate: float = Field(default=0.2, ge=0, lt=1, description="dropout before the classifier")
    drop_path_rate: float = Field(default=0.0, ge=0, lt=1, description="stochastic depth, where the backbone has it")


class AttentionConfig(Section):
    """DAN's multi-head cross attention; used where an encoder or branch is dan."""

    heads: int = Field(default=4, ge=1, le=8, description="attention heads")
    width: int = Field(
        default=512, ge=16, le=2048, description="channels of a head; maps of another width are projected to it"
    )
    fusion: Literal["logsoftmax_sum", "sum", "concat"] = Field(
        default="logsoftmax_sum", description="how heads become one embedding; the first is the original's"
    )
    logit_norm: bool = Field(
        default=True, description="batch norm on the logits, as in the original; on the embedding in two_branch"
    )


class DeviationConfig(Section):
    """The deviation module; used where the encoder is deviation."""

    eps: float = Field(default=1e-6, ge=0, le=1, description="added to trained minus frozen embedding")
    eps_when: Literal["training", "always"] = Field(
        default="training", description="when eps is added: in training alone (the published code), or always"
    )


class BranchesConfig(Section):
    """The two-branch network; used where the encoder is two_branch."""

    emotion: Literal["pooled", "dan"] = Field(default="dan", description="encoder of the emotion branch")
    appearance_backbone: str = Field(default="resnet18", description="timm name of the appearance branch's backbone")
    appearance_weights: str = Field(
        default="none", min_length=1, description="its weights: none (random), hub (timm's own), or a safetensors file"
    )
    trunk_width: int = Field(default=512, ge=4, le=4096, description="outputs of the shared trunk's first layer")
    trunk_width_2: int = Field(default=256, ge=4, le=4096, description="outputs of the shared trunk's second layer")


class AffectConfig(Section):
    """Heads for valence, arousal and action units beside the expression's."""

    heads: Literal["none", "joint", "separate"] = Field(
        default="none",
        description="none; joint: one linear layer for expression, valence and arousal; separate: heads for "
        "expression, valence and arousal, and action units on what such a joint network puts out",
    )
    expression_inputs: Inputs = Field(default="both", description="what the separate expression head reads")
    va_inputs: Inputs = Field(default="logits", description="what the separate valence-arousal head reads")
    unit_inputs: Inputs = Field(default="both", description="what the separate action-unit head reads")
    unit_width: int = Field(default=128, ge=4, le=4096, description="hidden units of the action-unit head")


class HandConfig(Section):
    """The hand module: a second network that sees edges and says whether a hand is in the picture."""

    backbone: str = Field(default="none", description="none (no hand module), or timm name of its backbone")
    weights: str = Field(
        default="none", min_length=1, description="its weights: none (random), hub (timm's own), or a safetensors file"
    )
    rule: Literal["none", "fixed", "tune_threshold", "tune_all"] = Field(
        default="none",
        description="a face with a hand is called hand.target unless its class is an exception: never; at "
        "hand.threshold; at the exact best threshold on valid; with the best exceptions too",
    )
    threshold: float = Field(default=0.5, ge=0, le=1, description="probability from which on a hand counts as seen")
    target: str = Field(default="fear", description="class that a face with a hand is called")
    exceptions: str = Field(
        default="happiness", description="classes that the rule leaves alone, between commas; none for no exception"
    )

    @property
    def exception_names(self) -> tuple[str, ...]:
        """The exceptions as class names."""
        names = tuple(name.strip() for name in self.exceptions.split(",") if name.strip())
        return () if names == ("none",) else names


class BlendConfig(Section):
    """Mixing the fine-tuned network's answer with a partner's."""

    partner: str = Field(
        default="none",
        description="none, head (the trial's own network after its head-only epochs), or a saved model's path",
    )
    weight: float = Field(default=0.5, ge=0, le=1, description="w in w * partner + (1 - w) * fine-tuned")
    space: Literal["probs", "logits"] = Field(default="probs", description="what is mixed: probabilities or logits")
