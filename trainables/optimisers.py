"""Optimisers with a learning rate for each part of the network, and what the rates do over a trial."""

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import torch
from torch import nn

from spaces.training_sections import LrScheduleConfig, OptimiserConfig
from trainables.models.architectures.network import ExpressionNetwork

OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": partial(torch.optim.SGD, momentum=0.9),
}


def build_optimiser(
    network: ExpressionNetwork, config: OptimiserConfig, *, loss: nn.Module | None = None
) -> torch.optim.Optimizer:
    """An optimiser over all that does not stand still: the heads by their own rate.

    Vectors (biases, norms) decay only where `decay_on` is all; centres of a loss never do. Each group carries its peak
    rate as `peak_lr`; `set_learning_rate` moves the rates. The update is torch's fused one: on a CPU it takes a quarter
    of the time of its loop over tensors.

    Args:
        network: whose weights move.
        config: of the optimiser.
        loss: whose own weights, such as centres, move along at the backbone's rate.
    """
    in_heads = {id(parameter) for parameter in network.heads.parameters()}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in network.parameters():
        if not parameter.requires_grad:
            continue
        peak = config.lr * (config.head_lr_ratio if id(parameter) in in_heads else 1.0)
        decay = config.weight_decay if parameter.ndim > 1 or config.decay_on == "all" else 0.0
        groups.setdefault((peak, decay), []).append(parameter)
    for parameter in loss.parameters() if loss is not None else ():
        groups.setdefault((config.lr, 0.0), []).append(parameter)
    return OPTIMISERS[config.name](list(_peaked(groups)), lr=config.lr, fused=True)


def build_head_optimiser(parameters: Iterable[nn.Parameter], config: OptimiserConfig) -> torch.optim.Optimizer:
    """An optimiser for the head-only epochs."""
    groups = {(config.head_only_lr, 0.0): list(parameters)}
    return OPTIMISERS[config.name](list(_peaked(groups)), lr=config.head_only_lr)


def _peaked(groups: dict[tuple[float, float], list[nn.Parameter]]) -> Iterator[dict[str, object]]:
    for (peak, decay), parameters in groups.items():
        yield {"params": parameters, "lr": peak, "peak_lr": peak, "weight_decay": decay}


def lr_factor(progress: float, config: LrScheduleConfig, *, epochs: int = 1) -> float:
    """The share of the peak learning rate at a point of the trial.

    Args:
        progress: share of the trial's steps that are done, 0 to 1.
        config: warm-up is linear from near 0; then cosine, linear, exponential or constant to `final_ratio`. With
            `epoch_gamma` the exponential one falls by that factor at the end of each epoch.
        epochs: that the config asks for, over which the steps of `epoch_gamma` are laid.

    Returns:
        0 to 1.
    """
    if progress < config.warmup_ratio:
        return max(progress / config.warmup_ratio, 1e-3)
    left = (progress - config.warmup_ratio) / max(1.0 - config.warmup_ratio, 1e-9)
    left = min(max(left, 0.0), 1.0)
    low = config.final_ratio
    if config.name == "cosine":
        return low + (1.0 - low) * 0.5 * (1.0 + math.cos(math.pi * left))
    if config.name == "linear":
        return low + (1.0 - low) * (1.0 - left)
    if config.name == "exponential":
        if config.epoch_gamma is not None:
            return float(config.epoch_gamma ** min(math.floor(left * epochs + 1e-9), max(epochs - 1, 0)))
        return float(max(low, 1e-6) ** left)
    return 1.0


def set_learning_rate(optimiser: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's rate to a share of its peak."""
    for group in optimiser.param_groups:
        group["lr"] = group["peak_lr"] * factor
