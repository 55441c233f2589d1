"""A feature extractor without its classifier: any of timm's, or one that timm lacks and that stands in a file here."""

from collections.abc import Callable
from typing import Any

import timm
import torch
from torch import nn

from .googlenet import GoogLeNet

OTHER_BACKBONES: dict[str, Callable[[], nn.Module]] = {
    "torchvision/googlenet": GoogLeNet,
}
"""Names outside timm to what builds them, without a classifier and with the few methods that timm's networks have:
`forward_features`, `forward_head`, `group_matcher`, `num_features`, `pretrained_cfg`."""


class Backbone(nn.Module):
    """From images to maps, and from maps to one embedding an image.

    Attributes:
        net: timm's (or torchvision's) own module, without classifier; its weights keep their published names.
        n_channels: of the maps.
        width: of the embeddings; more than `n_channels` where a network widens after pooling.
        is_cut: whether the last stages are left out.
    """

    def __init__(self, name: str, *, drop_path_rate: float = 0.0, stride: int = 0) -> None:
        """
        Args:
            name: timm's, or one of `OTHER_BACKBONES`.
            drop_path_rate: stochastic depth, where the network has it.
            stride: of the last stage that is kept, one of those in timm's `feature_info`; 0 keeps all.
        """
        super().__init__()
        net = _create(name, drop_path_rate)
        self.is_cut = stride > 0
        self.net = net
        if self.is_cut:
            self.n_channels = self.width = _cut(net, stride)
            return
        self.n_channels = int(net.num_features)  # type: ignore[arg-type]
        self.width = int(getattr(net, "head_hidden_size", None) or self.n_channels)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """[batch, 3, px, px] to embeddings [batch, width]."""
        return self.pool(self.features(inputs))

    def features(self, inputs: torch.Tensor) -> torch.Tensor:
        """[batch, 3, px, px] to what the network has before pooling, in its own layout."""
        features: torch.Tensor = self.net.forward_features(inputs)  # type: ignore[operator]
        return features

    def pool(self, features: torch.Tensor) -> torch.Tensor:
        """What `features` gives to embeddings [batch, width]."""
        if self.is_cut:
            return self._laid_out(features).mean(dim=(2, 3))
        pooled: torch.Tensor = self.net.forward_head(features, pre_logits=True)  # type: ignore[operator]
        return pooled

    def maps(self, inputs: torch.Tensor) -> torch.Tensor:
        """[batch, 3, px, px] to maps [batch, channels, height, width], a transformer's tokens put back in place."""
        return self._laid_out(self.features(inputs))

    def _laid_out(self, features: torch.Tensor) -> torch.Tensor:
        if features.ndim == 3:
            n_prefix = int(getattr(self.net, "num_prefix_tokens", 0))
            tokens = features[:, n_prefix:].transpose(1, 2)  # [batch, channels, tokens]
            side = round(tokens.shape[-1] ** 0.5)
            return tokens.reshape(*tokens.shape[:2], side, side)
        return features.permute(0, 3, 1, 2) if _is_channels_last(self.net) else features


def _create(name: str, drop_path_rate: float) -> nn.Module:
    if name in OTHER_BACKBONES:
        return OTHER_BACKBONES[name]()
    options: dict[str, Any] = {"drop_path_rate": drop_path_rate} if drop_path_rate else {}
    try:
        net: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, **options)
    except TypeError as error:
        if "'drop_path_rate'" not in str(error):
            raise
        return _create(name, 0.0)  # a network without stochastic depth goes without
    return net


def _cut(net: nn.Module, stride: int) -> int:
    """Leave out the stages after the last one of a stride; the channels of its maps."""
    stages = [(int(stage["reduction"]), int(stage["num_chs"])) for stage in net.feature_info]  # type: ignore[union-attr]
    last = max(place for place, (reduction, _) in enumerate(stages) if reduction == stride)
    net.prune_intermediate_layers([last], prune_norm=True, prune_head=True)  # type: ignore[operator]
    return stages[last][1]


def _is_channels_last(net: nn.Module) -> bool:
    return str(getattr(net, "output_fmt", "NCHW")) in ("NHWC", "Format.NHWC")
