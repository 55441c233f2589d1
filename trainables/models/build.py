"""From a config and a table's facts to the network a trial trains."""

from torch import nn

from spaces.config import TrialConfig
from trainables.checkpoint import NetworkSpec
from trainables.data.table import DatasetInfo
from trainables.models.backbones import (
    backbone_normalisation,
    build_network,
    check_image_px,
    load_backbone_weights,
)
from trainables.models.depthwise import use_quick_depthwise


def build_trial_network(config: TrialConfig, info: DatasetInfo) -> tuple[nn.Module, NetworkSpec]:
    """A network with its weights filled in, and how it is fed.

    Raises:
        ModelError: the backbone is unknown, or its weights or the size of its images do not fit.
    """
    model = config.model
    network = build_network(
        model.backbone,
        n_classes=len(info.classes),
        drop_rate=model.drop_rate,
        drop_path_rate=model.drop_path_rate,
    )
    image_px = model.image_px or info.image_px
    check_image_px(network, backbone=model.backbone, image_px=image_px)
    load_backbone_weights(network, backbone=model.backbone, weights=model.weights)
    mean, std = _normalisation(config, info, network)
    spec = NetworkSpec(
        backbone=model.backbone,
        classes=tuple(info.classes),
        image_px=image_px,
        table_px=info.image_px,
        channels=info.channels,
        mean=mean,
        std=std,
        mirror=model.mirror,
    )
    return use_quick_depthwise(network), spec


def _normalisation(
    config: TrialConfig, info: DatasetInfo, network: nn.Module
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    whose = config.data.normalise
    if whose == "backbone" or (whose == "auto" and config.model.weights != "none"):
        return backbone_normalisation(network)
    repeats = 3 // info.channels
    return tuple(info.mean) * repeats, tuple(max(s, 1e-3) for s in info.std) * repeats
