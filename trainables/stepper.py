"""One optimiser update, in the arithmetic that the device does best."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from spaces.config import TrialConfig
from trainables.checkpoint import NetworkSpec
from trainables.models.averaging import WeightAverage
from trainables.models.inputs import to_inputs
from trainables.optimisers import build_optimiser, lr_factor, set_learning_rate


class Stepper:
    """A network with what moves it: loss, optimiser, scaler, average of weights."""

    def __init__(self, network: nn.Module, spec: NetworkSpec, *, loss: nn.Module, config: TrialConfig) -> None:
        self.network = network
        self.average = WeightAverage(network, decay=config.train.ema_decay)
        self._spec = spec
        self._loss = loss
        self._config = config
        self._optimiser = build_optimiser(network, config.optimiser)
        self._device = next(network.parameters()).device
        self._dtype = arithmetic(config, self._device)
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=self._dtype is torch.float16)

    def step(self, images: torch.Tensor, labels: torch.Tensor, *, progress: float) -> torch.Tensor:
        """Update on one batch.

        Args:
            images: uint8 [batch, height, width, channels].
            labels: int64 [batch].
            progress: share of the trial's steps done, which sets the learning rate.

        Returns:
            The batch's loss, a detached scalar on the device.
        """
        set_learning_rate(self._optimiser, lr_factor(progress, self._config.lr_schedule))
        images = images.to(self._device, non_blocking=True)
        labels = labels.to(self._device, non_blocking=True)
        with self._autocast():
            loss: torch.Tensor = self._loss(self.network(to_inputs(images, self._spec)), labels)
        self._optimiser.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        if self._config.optimiser.grad_clip:
            self._scaler.unscale_(self._optimiser)
            nn.utils.clip_grad_norm_(self.network.parameters(), self._config.optimiser.grad_clip)
        self._scaler.step(self._optimiser)
        self._scaler.update()
        self.average.update(self.network)
        return loss.detach()

    def state_dict(self) -> dict[str, Any]:
        """For a run that goes on later."""
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "scaler": self._scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state."""
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self._optimiser.load_state_dict(state["optimiser"])
        if state["scaler"]:  # empty where the run began on a device that needs none
            self._scaler.load_state_dict(state["scaler"])

    def _autocast(self) -> AbstractContextManager[Any]:
        if self._dtype is torch.float32:
            return nullcontext()
        return torch.autocast(self._device.type, dtype=self._dtype)


def arithmetic(config: TrialConfig, device: torch.device) -> torch.dtype:
    """The type that forward passes compute in: a CPU's is float32, whatever the config says."""
    if device.type != "cuda":
        return torch.float32
    precision = config.train.precision
    if precision == "auto":
        has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)  # emulated, it is slower than float32
        return torch.bfloat16 if has_bfloat16 else torch.float16
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[precision]
