"""A moment of a training run that one can go back to: what a step moves before the optimiser does."""

from collections import defaultdict

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


class Moment:
    """Running statistics of batch norm and torch's random numbers, as they were when last asked to be kept.

    Weights are not among them: a forward and a backward pass leave them alone.
    """

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        """
        Args:
            network: on its device, where it stays.
            device: whose random numbers count besides the CPU's.
        """
        by_type: dict[torch.dtype, list[torch.Tensor]] = defaultdict(list)
        for module in network.modules():
            if isinstance(module, _BatchNorm):
                for statistic in module.buffers(recurse=False):
                    by_type[statistic.dtype].append(statistic)
        self._live = list(by_type.values())
        self._kept = [[statistic.clone() for statistic in group] for group in self._live]
        self._device = device
        self.keep()

    def keep(self) -> None:
        """Note how things stand now."""
        for kept, live in zip(self._kept, self._live, strict=True):
            torch._foreach_copy_(kept, live)
        self._numbers = torch.get_rng_state()
        self._gpu_numbers = torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else None

    def restore(self) -> None:
        """Go back to where things stood."""
        for kept, live in zip(self._kept, self._live, strict=True):
            torch._foreach_copy_(live, kept)
        torch.set_rng_state(self._numbers)
        if self._gpu_numbers is not None:
            torch.cuda.set_rng_state(self._gpu_numbers, self._device)
