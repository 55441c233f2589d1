"""Networks by the name of their backbone: built, and checked against the images they shall see."""

from functools import cache
from typing import Any

import timm
import torch

from spaces.errors import BackboneError, ModelError, near_miss
from trainables.models.architectures.backbone import OTHER_BACKBONES, Backbone
from trainables.models.architectures.design import Design
from trainables.models.architectures.network import ExpressionNetwork

DEEP_STRIDE = 16
"""Stages up to this stride are always kept: earlier ones know edges and textures, not yet faces."""


def check_backbone(name: str, *, setting: str = "") -> None:
    """Raise BackboneError with the near miss where there is no such backbone.

    Args:
        name: timm's, or torchvision/googlenet.
        setting: dotted name of the setting it stands under, for the error.
    """
    architecture = name.split(".")[0]
    if name not in OTHER_BACKBONES and not timm.is_model(architecture):
        hint = near_miss(architecture, [*timm.list_models(), *OTHER_BACKBONES])
        what = setting or "backbone"
        raise BackboneError(f"{what} must be a timm model, got {name!r}" + (hint if len(hint) < 200 else ""))


def build_network(
    backbone: str,
    *,
    n_classes: int,
    design: Design | None = None,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> ExpressionNetwork:
    """A network with random weights throughout.

    Raises:
        ModelError: there is no such backbone, or it does not go with this design.
    """
    design = design or Design()
    for name in filter(None, (backbone, design.appearance_backbone, design.hand_backbone)):
        check_backbone(name)
    try:
        return ExpressionNetwork(
            backbone, n_classes=n_classes, design=design, drop_rate=drop_rate, drop_path_rate=drop_path_rate
        )
    except (TypeError, RuntimeError, AssertionError, AttributeError) as error:
        raise ModelError(f"network on backbone {backbone!r} can't be built as {design.encoder}: {error}") from error


def stride_to_keep(backbone: str, *, image_px: int, min_map: int) -> int:
    """The stride of the last stage whose maps are large enough, or of the last one up to `DEEP_STRIDE`; 0 for all.

    Args:
        backbone: timm's name, or torchvision/googlenet. One that timm can't cut keeps all stages.
        image_px: side that the network sees.
        min_map: least side of the maps, in cells; 0 keeps all stages.

    Raises:
        BackboneError: there is no such backbone.
    """
    strides = _stage_strides(backbone) if min_map else ()
    kept = [stride for stride in strides if stride <= DEEP_STRIDE or -(-image_px // stride) >= min_map]
    if not kept or max(kept) == max(strides) or not _can_be_cut(backbone, max(kept), image_px):
        return 0
    return max(kept)


@cache
def _stage_strides(backbone: str) -> tuple[int, ...]:
    """Strides of the stages that timm can cut a network after, in order; none where it can't."""
    check_backbone(backbone)
    if backbone in OTHER_BACKBONES:
        return ()
    with torch.device("meta"):
        net: Any = timm.create_model(backbone, pretrained=False, num_classes=0)
    if not hasattr(net, "prune_intermediate_layers") or not getattr(net, "feature_info", None):
        return ()
    return tuple(int(stage["reduction"]) for stage in net.feature_info)


@cache
def _can_be_cut(backbone: str, stride: int, image_px: int) -> bool:
    """Whether what timm leaves of a network gives maps; of a few families it gives something else, or fails."""
    try:
        with torch.device("meta"), torch.no_grad():
            cut = Backbone(backbone, stride=stride).eval()
            return tuple(cut(torch.empty(2, 3, image_px, image_px)).shape) == (2, cut.width)
    except Exception:  # timm's networks fail in their own ways
        return False


def build_backbone(name: str) -> Backbone:
    """A backbone alone. Raises BackboneError."""
    check_backbone(name)
    return Backbone(name)


def check_image_px(backbone: Backbone, *, name: str, image_px: int, setting: str = "") -> None:
    """Raise ModelError where a backbone, such as most transformers, takes one size of image and this is another."""
    settings = _published(backbone)
    if settings.get("fixed_input_size") and image_px != settings["input_size"][-1]:
        wanted = settings["input_size"][-1]
        where = f": {setting}" if setting else ""
        raise ModelError(f"model.image_px must be {wanted} for backbone {name!r}, got {image_px}{where}")


def check_size(*, backbone: str, image_px: int, setting: str = "") -> None:
    """Raise ModelError before a search starts where a backbone does not take images of this side.

    Args:
        backbone: timm's name, or torchvision/googlenet.
        image_px: side that the network sees.
        setting: dotted name of the setting that names the backbone, for the error.
    """
    with torch.device("meta"):
        built = build_backbone(backbone)
    check_image_px(built, name=backbone, image_px=image_px, setting=setting)


def backbone_normalisation(backbone: Backbone) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std, per colour, that the backbone's published weights were trained with."""
    settings = _published(backbone)
    mean = tuple(float(v) for v in settings.get("mean", (0.5, 0.5, 0.5)))
    std = tuple(float(v) for v in settings.get("std", (0.5, 0.5, 0.5)))
    return mean, std


def _published(backbone: Backbone) -> dict[str, Any]:
    settings: dict[str, Any] = getattr(backbone.net, "pretrained_cfg", {}) or {}
    return settings
