"""What of a network stands still while the rest is trained, and in which mode its batch norm is."""

import math
from collections.abc import Iterator
from typing import Any

from timm.models._manipulate import group_parameters
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from spaces.training_sections import TrainConfig
from trainables.models.architectures.backbone import Backbone
from trainables.models.architectures.network import ExpressionNetwork


def freeze(network: ExpressionNetwork, config: TrainConfig) -> None:
    """Let the first blocks or stages of the encoder's backbone stand still, by `requires_grad`.

    The share is of the blocks (ResNet-50 has 16 bottlenecks, so that 0.8 are the stem and the first 12), rounded down;
    stages are timm's coarse groups, the stem being the first. Blocks are those that timm itself groups weights by.
    """
    net = network.encoder.backbone.net
    names = frozen_names(network.encoder.backbone, share=config.frozen_share, n_stages=config.frozen_stages)
    for name, parameter in net.named_parameters():
        if name in names:
            parameter.requires_grad_(False)


def frozen_names(backbone: Backbone, *, share: float = 0.0, n_stages: int = 0) -> set[str]:
    """Names, within the backbone's own module, of the weights that stand still."""
    net: Any = backbone.net
    groups: dict[int, list[str]] = group_parameters(net, net.group_matcher(coarse=n_stages > 0), reverse=False)
    order = sorted(groups)
    n_blocks = len(order) - 1
    n_frozen = math.floor(share * n_blocks + 1e-9)
    first = order[:n_stages] if n_stages else order[: n_frozen + 1] if n_frozen else []
    return {name for number in first for name in groups[number]}


def set_training_mode(network: ExpressionNetwork, config: TrainConfig) -> None:
    """Training mode for what is trained; eval mode for what stands still, and for batch norm where it is asked for."""
    network.train()
    for module in _standing(network):
        module.eval()
    if config.batch_norm == "eval":
        for module in _batch_norms(network.encoder):
            module.eval()


def _standing(network: ExpressionNetwork) -> Iterator[nn.Module]:
    """Modules of the encoder that hold weights and whose weights all stand still."""
    if all(weight.requires_grad for weight in network.encoder.parameters()):  # a look at every module takes long
        return
    for module in network.encoder.modules():
        weights = list(module.parameters())
        if weights and not any(weight.requires_grad for weight in weights):
            yield module


def _batch_norms(encoder: nn.Module) -> Iterator[nn.Module]:
    """Those of the backbones; a head of DAN's attention keeps its own in training mode."""
    for part in encoder.modules():
        if isinstance(part, Backbone):
            yield from (module for module in part.modules() if isinstance(module, _BatchNorm))
