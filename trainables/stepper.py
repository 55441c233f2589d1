"""One training step on a batch of faces, in the arithmetic that the device does best."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from spaces.config import TrialConfig
from trainables.checkpoint import NetworkSpec
from trainables.data.batches import Batch
from trainables.data.mixing import Mixed, mix
from trainables.frozen_memory import FrozenMemory
from trainables.losses.total import TrialLoss
from trainables.models.architectures.network import ExpressionNetwork
from trainables.models.averaging import WeightAverage
from trainables.models.inputs import to_inputs
from trainables.optimisers import build_optimiser, lr_factor, set_learning_rate
from trainables.update import Terms, Update


class Stepper:
    """A network with what moves it: loss, optimiser, scaler, average of weights."""

    def __init__(
        self,
        network: ExpressionNetwork,
        spec: NetworkSpec,
        *,
        loss: TrialLoss,
        config: TrialConfig,
        memory: FrozenMemory | None = None,
        optimiser: torch.optim.Optimizer | None = None,
        epochs: int | None = None,
    ) -> None:
        """
        Args:
            network: on the device where it is trained.
            spec: of the network.
            loss: on the same device; its centres are trained along.
            config: of the trial.
            memory: of a deviation module's frozen twin, where faces look the same in every epoch.
            optimiser: over all that is trained when omitted.
            epochs: that the steps are of; `train.epochs` when omitted.
        """
        self.network = network
        self.average = WeightAverage(network, decay=config.train.ema_decay)
        self._spec = spec
        self._loss = loss
        self._config = config
        self._memory = memory
        self._epochs = config.train.epochs if epochs is None else epochs
        self._device = next(network.parameters()).device
        self._dtype = arithmetic(config, self._device)
        scaler = torch.amp.GradScaler(self._device.type) if self._dtype is torch.float16 else None
        optimiser = optimiser or build_optimiser(network, config.optimiser, loss=loss)
        self._update = Update(optimiser, network, config.optimiser, scaler=scaler)

    def step(self, batch: Batch, *, progress: float) -> Terms:
        """Update on one batch.

        Args:
            batch: of training faces.
            progress: share of the trial's steps done, which sets the learning rate.

        Returns:
            The loss's terms and their sum `loss`, detached scalars on the device.
        """
        factor = lr_factor(progress, self._config.lr_schedule, epochs=self._epochs)
        set_learning_rate(self._update.optimiser, factor)
        n_faces = len(batch.positions)
        terms = self._update.step(
            [
                (len(part.positions) / n_faces, one_pass)
                for part in self._parts(batch)
                for one_pass in self._passes(part)
            ]
        )
        self.average.update(self.network)
        return terms

    def state_dict(self) -> dict[str, Any]:
        """For a run that goes on later."""
        return {
            "network": self.network.state_dict(),
            "loss": self._loss.state_dict(),
            "average": self.average.state_dict(),
            "update": self._update.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state."""
        self.network.load_state_dict(state["network"])
        self._loss.load_state_dict(state["loss"])
        self.average.load_state_dict(state["average"])
        self._update.load_state_dict(state["update"])

    def _parts(self, batch: Batch) -> list[Batch]:
        """The batch, dealt out in parts where it is not to go through the network at once; no part is a face alone.

        A batch stands in the order of its table, often class by class. Dealt out like cards, each part has the classes
        of the whole; cut in pieces, batch norm would see parts of one class.
        """
        micro, n_faces = self._config.train.micro_batch, len(batch.positions)
        if micro is None or n_faces <= micro:
            return [batch]
        n_parts = min(-(-n_faces // micro), n_faces // 2)
        return [_every(batch, slice(first, None, n_parts)) for first in range(n_parts)]

    def _passes(self, batch: Batch) -> list[Callable[[], Terms]]:
        """Forward passes over real faces, mixed ones or both, as the config says; both of SAM's see the same.

        Each is a pass of its own, so that no more than one of them is held in memory for its gradient.
        """
        inputs = to_inputs(batch.images.to(self._device, non_blocking=True), self._spec)
        looks = None
        if batch.appearance is not None:
            looks = to_inputs(batch.appearance.to(self._device, non_blocking=True), self._spec)
        targets = {name: labels.to(self._device, non_blocking=True) for name, labels in batch.targets.items()}
        frozen = None
        if self._memory is not None:
            with self._autocast():
                frozen = self._memory.recall(batch.positions, inputs)
        how = self._config.augment.mix
        passes: list[Callable[[], Terms]] = []
        if how != "mixup":
            passes.append(lambda: self._terms_of_real(inputs, looks, frozen, targets))
        if how != "none":
            mixed = mix(inputs, alpha=self._config.augment.mix_alpha)
            passes.append(lambda: self._terms_of_mixed(mixed, looks, targets["expression"]))
        return passes

    def _terms_of_real(
        self, inputs: torch.Tensor, looks: torch.Tensor | None, frozen: torch.Tensor | None, targets: Terms
    ) -> Terms:
        with self._autocast():
            outputs = self.network.outputs(inputs, appearance=looks, frozen=frozen)
            terms: Terms = self._loss(outputs, targets)
        return terms

    def _terms_of_mixed(self, mixed: Mixed, looks: torch.Tensor | None, labels: torch.Tensor) -> Terms:
        with self._autocast():
            outputs = self.network.outputs(mixed.inputs, appearance=looks)  # Jeong et al. 2022 mix one branch alone
            return {"mixed": self._loss.mixed(outputs, labels, labels[mixed.partners], mixed.share)}

    def _autocast(self) -> AbstractContextManager[Any]:
        if self._dtype is torch.float32:
            return nullcontext()
        return torch.autocast(self._device.type, dtype=self._dtype)


def _every(batch: Batch, places: slice) -> Batch:
    """The faces of a batch at these places."""
    looks = None if batch.appearance is None else batch.appearance[places]
    targets = {name: labels[places] for name, labels in batch.targets.items()}
    return Batch(batch.images[places], looks, targets, batch.positions[places])


def arithmetic(config: TrialConfig, device: torch.device) -> torch.dtype:
    """The type that forward passes compute in: a CPU's is float32, whatever the config says.

    Chosen by itself, it is float32 for a deviation module, whose difference of near equals half precision rounds away.
    """
    if device.type != "cuda":
        return torch.float32
    precision = config.train.precision
    if precision == "auto":
        if config.model.encoder == "deviation":
            return torch.float32
        has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)  # emulated, it is slower than float32
        if not has_bfloat16 and config.optimiser.sam_rho:
            return torch.float32  # SAM compares gradients of two passes, which a scaler would blur
        return torch.bfloat16 if has_bfloat16 else torch.float16
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[precision]
