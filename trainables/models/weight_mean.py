"""The mean of several networks' weights as one network, with batch norm's statistics as that network has them."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from trainables.checkpoint import NetworkSpec
from trainables.models.architectures.network import ExpressionNetwork
from trainables.models.inputs import to_inputs

MEAN = "running_mean"
"""What batch norm's statistics are told by, among a network's tensors."""

Tensors = Mapping[str, torch.Tensor]


class WeightMean:
    """Sums up networks of one design.

    Args:
        first: the tensors of a network, on the CPU; what counts rather than weighs (integers) is taken from it.
    """

    def __init__(self, first: Tensors) -> None:
        self._first = first
        self._total = dict(first)
        self._n = 1
        self._drifted: frozenset[str] = frozenset()

    @property
    def drifted(self) -> frozenset[str]:
        """Batch norm modules whose statistics are not the same in all networks, and so not in their mean."""
        return self._drifted

    def with_one(self, other: Tensors) -> "WeightMean":
        """This with another network's tensors in it."""
        mean = WeightMean(self._first)
        mean._n = self._n + 1
        mean._total = {
            name: total + other[name] if total.is_floating_point() else total for name, total in self._total.items()
        }
        differing = {
            name.removesuffix(f".{MEAN}")
            for name, tensor in self._first.items()
            if name.endswith(f".{MEAN}") and not torch.equal(tensor, other[name])
        }
        mean._drifted = self._drifted | differing
        return mean

    def tensors(self) -> dict[str, torch.Tensor]:
        """The mean of each."""
        return {name: total / self._n if total.is_floating_point() else total for name, total in self._total.items()}


@torch.no_grad()
def refresh_batch_norm(
    network: ExpressionNetwork,
    spec: NetworkSpec,
    images: npt.NDArray[np.uint8],
    *,
    modules: frozenset[str],
    batches: list[npt.NDArray[np.int64]],
) -> None:
    """Measure batch norm's statistics anew, as the plain mean over some batches of faces; all else is in eval mode.

    Args:
        network: whose running statistics are replaced.
        spec: of the network.
        images: uint8 [samples, height, width, channels].
        modules: names of the batch norm modules; others keep what they have.
        batches: rows of the faces, at least two a batch.

    Source: Izmailov et al., Averaging Weights Leads to Wider Optima, UAI 2018, section 3.2.
    """
    device = next(network.parameters()).device
    network.eval()
    renewed = [module for name, module in network.named_modules() if name in modules]
    momenta = []
    for module in renewed:
        assert isinstance(module, _BatchNorm)
        momenta.append(module.momentum)
        module.reset_running_stats()
        module.momentum = None  # the plain mean
        module.train()
    for rows in batches if renewed else ():
        network.outputs(to_inputs(torch.from_numpy(images[rows]).to(device), spec))
    for module, momentum in zip(renewed, momenta, strict=True):
        assert isinstance(module, _BatchNorm)
        module.momentum = momentum
    network.eval()
