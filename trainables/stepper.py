"""One training step on a batch of faces, in the arithmetic that the device does best, in parts that fit into memory."""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch

from spaces.config import TrialConfig
from spaces.errors import AffectuneError, DeviceError
from trainables.checkpoint import NetworkSpec
from trainables.data.batches import Batch
from trainables.data.mixing import Mixing, draw_mixing
from trainables.frozen_memory import FrozenMemory
from trainables.losses.total import TrialLoss
from trainables.memory import free_memory, is_out_of_memory
from trainables.models.architectures.network import ExpressionNetwork
from trainables.models.averaging import WeightAverage
from trainables.models.inputs import to_inputs
from trainables.moment import Moment
from trainables.optimisers import build_optimiser, lr_factor, set_learning_rate
from trainables.pulse import beat
from trainables.update import Part, Terms, Update

logger = logging.getLogger(__name__)

FEWEST_FACES = 2
"""Batch norm needs two faces at once."""


class Stepper:
    """A network with what moves it: loss, optimiser, scaler, average of weights.

    A step for which memory does not suffice is taken again on the same batch, in parts of half the size, whose
    gradients add up; so are all steps after it.

    Attributes:
        network: that is trained.
        spec: of the network.
        average: of its weights, over the steps.
        micro_batch: faces that go through the network at once; None for a whole batch.
        n_oom: how often memory ran out.
        is_compiled: whether the network's part of a step is compiled.
    """

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
        compiles: bool = False,
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
            compiles: whether the network's part of a step is compiled at the first one; where that fails, the steps
                are taken without, and the log says so.
        """
        self.network = network
        self.average = WeightAverage(network, decay=config.train.ema_decay)
        self.spec = spec
        self._loss = loss
        self._config = config
        self._memory = memory
        self._epochs = config.train.epochs if epochs is None else epochs
        self._device = next(network.parameters()).device
        self._dtype = arithmetic(config, self._device)
        scaler = torch.amp.GradScaler(self._device.type) if self._dtype is torch.float16 else None
        optimiser = optimiser or build_optimiser(network, config.optimiser, loss=loss)
        self._update = Update(optimiser, network, config.optimiser, scaler=scaler)
        self.micro_batch = config.train.micro_batch
        self.n_oom = 0
        self._moment = Moment(network, self._device)
        self._outputs = network.outputs
        self.is_compiled = self._was_compiled = compiles
        if compiles:
            torch.compiler.reset()  # else the networks of earlier trials count against what may be compiled
            self._outputs = torch.compile(network.outputs)

    def step(self, batch: Batch, *, progress: float) -> Terms:
        """Update on one batch.

        Args:
            batch: of training faces.
            progress: share of the trial's steps done, which sets the learning rate.

        Returns:
            The loss's terms and their sum `loss`, detached scalars on the device.
        """
        beat()
        factor = lr_factor(progress, self._config.lr_schedule, epochs=self._epochs)
        set_learning_rate(self._update.optimiser, factor)
        while (terms := self._try_step(batch)) is None:
            free_memory()
        self.average.update(self.network)
        return terms

    def notes(self) -> dict[str, float]:
        """What a report should say of how the steps are taken, by the names of a report."""
        found: dict[str, float] = {}
        if self.n_oom:
            found |= {"train/micro_batch": float(self.micro_batch or 0), "train/n_oom": float(self.n_oom)}
        if self.is_compiled or self._config.train.compile == "on":
            found["train/compiled"] = float(self.is_compiled)
        return found

    def close(self) -> None:
        """Let go of what was compiled, which would hold on to memory; no other step is taken."""
        self._outputs = self.network.outputs
        if self._was_compiled:
            torch.compiler.reset()

    def state_dict(self) -> dict[str, Any]:
        """For a run that goes on later."""
        return {
            "network": self.network.state_dict(),
            "loss": self._loss.state_dict(),
            "average": self.average.state_dict(),
            "update": self._update.state_dict(),
            "micro_batch": self.micro_batch,
            "n_oom": self.n_oom,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state."""
        self.network.load_state_dict(state["network"])
        self._loss.load_state_dict(state["loss"])
        self.average.load_state_dict(state["average"])
        self._update.load_state_dict(state["update"])
        self.micro_batch, self.n_oom = state["micro_batch"], state["n_oom"]

    def _try_step(self, batch: Batch) -> Terms | None:
        """A step, or None where it was taken back to be tried in another way; then all is as it was before.

        Raises:
            DeviceError: memory does not suffice for the smallest part either.
        """
        self._moment.keep()
        try:
            return self._update.step(list(self._passes(batch)))
        except AffectuneError:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                self._halve(len(batch.positions), error)
            elif self.is_compiled:
                self._stop_compiling(error)
            else:
                raise
        self._update.drop_gradients()
        self._moment.restore()
        return None

    def spare_memory(self, n_faces: int | None = None) -> None:
        """From here on, half as many faces go through the network at once.

        Args:
            n_faces: as many as now; what the config or an earlier lack of memory says if None.
        """
        size = n_faces or self.micro_batch or self._config.train.batch_size
        self.micro_batch = max(FEWEST_FACES, size // 2)
        self.n_oom += 1

    def _halve(self, n_faces: int, error: Exception) -> None:
        size = min(self.micro_batch or self._config.train.batch_size, n_faces)
        if size <= FEWEST_FACES:
            raise DeviceError(
                f"a step on {size} faces must fit into memory, got out of memory: {self._device}; choose a smaller "
                "backbone or model.image_px, or let fewer trials share the device"
            ) from error
        self.spare_memory(size)
        logger.warning("out of memory on %s: from here on %d faces at once", self._device, self.micro_batch)

    def _stop_compiling(self, error: Exception) -> None:
        self.is_compiled = False
        self._outputs = self.network.outputs
        reason = str(error).strip().splitlines() or [""]
        logger.warning("steps are taken without torch.compile, which failed: %s: %s", type(error).__name__, reason[0])

    def _parts(self, batch: Batch) -> list[Batch]:
        """The batch, dealt out in parts where it is not to go through the network at once; no part is a face alone.

        A batch stands in the order of its table, often class by class. Dealt out like cards, each part has the classes
        of the whole; cut in pieces, batch norm would see parts of one class.
        """
        micro, n_faces = self.micro_batch, len(batch.positions)
        if micro is None or n_faces <= micro:
            return [batch]
        n_parts = min(-(-n_faces // micro), n_faces // 2)
        return [_every(batch, slice(first, None, n_parts)) for first in range(n_parts)]

    def _passes(self, batch: Batch) -> Iterator[Part]:
        """Forward passes over real faces, mixed ones or both, as the config says; both of SAM's see the same.

        Each is a pass of its own and makes its inputs itself, so that no more than one of them is held in memory.
        """
        how, alpha = self._config.augment.mix, self._config.augment.mix_alpha
        for part in self._parts(batch):
            n_faces = len(part.positions)
            share = n_faces / len(batch.positions)
            if how != "mixup":
                yield share, partial(self._terms_of_real, part)
            if how != "none":
                yield share, partial(self._terms_of_mixed, part, draw_mixing(n_faces, alpha=alpha))

    def _terms_of_real(self, part: Batch) -> Terms:
        inputs, looks, frozen = self._inputs(part.images), self._looks(part), None
        targets = {name: labels.to(self._device, non_blocking=True) for name, labels in part.targets.items()}
        with self._autocast():
            if self._memory is not None:
                frozen = self._memory.recall(part.positions, inputs)
            outputs = self._outputs(inputs, appearance=looks, frozen=frozen)
            terms: Terms = self._loss(outputs, targets)
        return terms

    def _terms_of_mixed(self, part: Batch, mixing: Mixing) -> Terms:
        inputs = mixing.apply(self._inputs(part.images))
        labels = part.targets["expression"].to(self._device, non_blocking=True)
        partners = mixing.partners.to(self._device, non_blocking=True)
        with self._autocast():
            outputs = self._outputs(inputs, appearance=self._looks(part))  # Jeong et al. 2022 mix one branch alone
            return {"mixed": self._loss.mixed(outputs, labels, labels[partners], mixing.share)}

    def _inputs(self, images: torch.Tensor) -> torch.Tensor:
        return to_inputs(images.to(self._device, non_blocking=True), self.spec)

    def _looks(self, part: Batch) -> torch.Tensor | None:
        return None if part.appearance is None else self._inputs(part.appearance)

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
