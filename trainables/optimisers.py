"""Optimisers with a learning rate for each part of the network, and what the rates do over a trial."""

import math
from collections.abc import Callable, Iterable

import torch
from torch import nn

from spaces.training_sections import LrScheduleConfig, OptimiserConfig
from trainables.models.backbones import head_layers

OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


def build_optimiser(network: nn.Module, config: OptimiserConfig) -> torch.optim.Optimizer:
    """An optimiser over all weights: the head by its own rate, vectors (biases, norms) without decay.

    Each group carries its peak rate as `peak_lr`; `set_learning_rate` moves the rates. The update is torch's fused one:
    on a CPU it takes a quarter of the time of its loop over tensors.
    """
    in_head = {id(p) for layer in head_layers(network) for p in layer.parameters()}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in network.parameters():
        peak = config.lr * (config.head_lr_ratio if id(parameter) in in_head else 1.0)
        decay = config.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((peak, decay), []).append(parameter)
    return OPTIMISERS[config.name](
        [
            {"params": parameters, "lr": peak, "peak_lr": peak, "weight_decay": decay}
            for (peak, decay), parameters in groups.items()
        ],
        fused=True,
    )


def build_head_optimiser(parameters: Iterable[nn.Parameter], config: OptimiserConfig) -> torch.optim.Optimizer:
    """An optimiser for the head-only epochs."""
    return OPTIMISERS[config.name](
        [{"params": list(parameters), "lr": config.head_only_lr, "peak_lr": config.head_only_lr, "weight_decay": 0.0}]
    )


def lr_factor(progress: float, config: LrScheduleConfig) -> float:
    """The share of the peak learning rate at a point of the trial.

    Args:
        progress: share of the trial's steps that are done, 0 to 1.
        config: warm-up is linear from near 0; then cosine, linear, exponential or constant to `final_ratio`.

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
        return float(max(low, 1e-6) ** left)
    return 1.0


def set_learning_rate(optimiser: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's rate to a share of its peak."""
    for group in optimiser.param_groups:
        group["lr"] = group["peak_lr"] * factor
