"""Sharpness-aware minimisation: the gradient is taken where the loss is worst nearby, and the step made from here.

Source: Foret et al., ICLR 2021, plain (not adaptive); Savchenko 2022 uses it around Adam with rho = 0.05.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def perturbed(parameters: Sequence[nn.Parameter], *, rho: float) -> Iterator[None]:
    """Weights moved by rho along their gradient while it lasts; those without a gradient stay where they are.

    Args:
        parameters: with the gradients of the first pass.
        rho: length of the move, over all weights together.
    """
    moved: list[torch.Tensor] = [parameter for parameter in parameters if parameter.grad is not None]
    if not moved:
        yield
        return
    with torch.no_grad():
        gradients = [parameter.grad for parameter in moved if parameter.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        before = [parameter.detach().clone() for parameter in moved]
        moves = torch._foreach_mul(gradients, rho / (norm + 1e-12))
    try:
        with torch.no_grad():
            torch._foreach_add_(moved, list(moves))
        del gradients, moves  # as large as the weights: the second pass has better use for the room
        yield
    finally:
        with torch.no_grad():
            torch._foreach_copy_(moved, before)


@contextmanager
def still_statistics(network: nn.Module) -> Iterator[None]:
    """Batch norm normalises as in training, but its running statistics do not move."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm) and module.training]
    tracked = [norm.track_running_stats for norm in norms]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm, was_tracked in zip(norms, tracked, strict=True):
            norm.track_running_stats = was_tracked
