"""Trains the expression heads of many configs together, on embeddings that all of them share.

Trials that see the same faces in the same order form a group: a block of batches is gathered once, and all heads of the
group are rows of one matrix. What a trial learns does not depend on its group, up to the rounding of sums.
"""

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from spaces.config import TrialConfig
from trainables.budget import check_time
from trainables.data.sampling import Items
from trainables.embeddings.faces import EmbeddedFaces
from trainables.heads.batched_loss import BatchedLoss
from trainables.heads.batched_update import BatchedUpdate
from trainables.heads.blocks import Blocks, HeadBatch
from trainables.heads.stacked import StackedHeads, Tensors, chunks_of
from trainables.optimisers import lr_factor


@dataclass(frozen=True, eq=False)
class HeadTask:
    """A head to be trained.

    Attributes:
        config: of its trial; what acts is named by `HEAD_SETTINGS`.
        items: of the trial, all among the embedded faces; at least 2.
        weights: [classes], of the loss.
        start: the head's tensors to begin with.
    """

    config: TrialConfig
    items: Items
    weights: npt.NDArray[np.float64]
    start: Tensors


@dataclass(frozen=True, eq=False)
class TrainedHead:
    """What became of a task.

    Attributes:
        tensors: as `HeadTask.start`, on the CPU.
        loss: mean training loss of the last epoch, dropout included.
        n_seen: faces in all its epochs.
    """

    tensors: Tensors
    loss: float
    n_seen: int

    @property
    def diverged(self) -> bool:
        """Whether a number in it is not finite."""
        finite = all(bool(tensor.isfinite().all()) for tensor in self.tensors.values())
        return not (finite and math.isfinite(self.loss))


def group_key(config: TrialConfig) -> str:
    """What decides which batches a head sees, and is the same for all trials of a group."""
    data, train = config.data, config.train
    power = data.sampler_power if data.sampler == "weighted" else None
    return json.dumps(
        [
            train.seed, train.batch_size, train.head_epochs, config.model.drop_rate,
            data.subsample_ratio, data.subsample_by, data.sampler, power,
        ]
    )  # fmt: skip


def train_together(
    faces: EmbeddedFaces,
    expression: npt.NDArray[np.int8],
    tasks: Sequence[HeadTask],
    *,
    device: torch.device,
    until_s: float | None = None,
) -> list[TrainedHead]:
    """Train every task's head for its `train.head_epochs`.

    A head whose numbers are no longer finite leaves the others alone.

    Args:
        faces: embedded by the tasks' common encoder.
        expression: [samples], labels of the whole split that the faces are of.
        tasks: in any order; those of one `group_key` are trained together.
        device: where the heads are trained.
        until_s: Unix time at which all are given up; None for no end.

    Returns:
        One a task, in their order.

    Raises:
        OutOfTime: the time was up before.
    """
    groups: dict[str, list[int]] = {}
    for place, task in enumerate(tasks):
        groups.setdefault(group_key(task.config), []).append(place)
    found: dict[int, TrainedHead] = {}
    for places in groups.values():
        group = [tasks[place] for place in places]
        with _one_thread():
            heads = _train_group(faces, expression, group, device=device, until_s=until_s)
        found |= dict(zip(places, heads, strict=True))
    return [found[place] for place in range(len(tasks))]


@torch.no_grad()
def _train_group(
    faces: EmbeddedFaces,
    expression: npt.NDArray[np.int8],
    tasks: Sequence[HeadTask],
    *,
    device: torch.device,
    until_s: float | None,
) -> list[TrainedHead]:
    first = tasks[0]
    blocks = Blocks(
        faces, first.items, expression, config=first.config, n_classes=len(first.weights), device=device
    )  # fmt: skip
    kinds = ["momentum" if task.config.optimiser.name == "sgd" else "adam" for task in tasks]
    stackable = chunks_of([task.start for task in tasks], kinds)
    chunks = [_Chunk(tasks, places, blocks=blocks, device=device) for places in stackable]
    last_epoch = blocks.n_steps - blocks.n_batches
    for block in blocks:
        check_time(until_s)
        for chunk in chunks:  # its numbers stay in the processor's cache for a block
            for batch in block:
                chunk.step(batch, is_measured=batch.number >= last_epoch)
    found = {place: head for chunk in chunks for place, head in chunk.trained(blocks).items()}
    return [found[place] for place in range(len(tasks))]


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread of the processor while it lasts: two gain a third where both have a core to themselves.

    Where they have not, each small product waits for the other's turn, and a head takes six to thirteen times as long.
    Two workers with a thread each train nearly twice as many heads as one with two.
    """
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


class _Chunk:
    """Some of the tasks' heads with what moves them."""

    def __init__(
        self, tasks: Sequence[HeadTask], places: Sequence[int], *, blocks: Blocks, device: torch.device
    ) -> None:
        own = [tasks[place] for place in places]
        configs = [task.config for task in own]
        self._places = places
        self._heads = StackedHeads([task.start for task in own], device)
        weights = torch.from_numpy(np.stack([task.weights for task in own])).to(device, torch.float32)
        losses = [config.loss for config in configs]
        self._loss = BatchedLoss(losses, weights, are_labels_known=blocks.are_labels_known)
        optimisers = [config.optimiser for config in configs]
        self._update = BatchedUpdate(self._heads.parameters, self._heads.gradients, optimisers)
        self._rates = _learning_rates(configs, blocks.n_steps)  # [trials][steps]
        self._total = torch.zeros(len(own), device=device)

    def step(self, batch: HeadBatch, *, is_measured: bool) -> None:
        logits = self._heads.forward(batch.inputs)
        if is_measured:
            self._total += self._loss.losses(logits, batch.labels)
        self._heads.backward(batch.inputs, self._loss.slopes(logits, batch.labels))
        self._update.step([rates[batch.number] for rates in self._rates])

    def trained(self, blocks: Blocks) -> dict[int, TrainedHead]:
        """By their places among the tasks."""
        means = (self._total / blocks.n_batches).tolist()
        heads = (TrainedHead(self._heads.of(i), mean, blocks.n_faces) for i, mean in enumerate(means))
        return dict(zip(self._places, heads, strict=True))


def _learning_rates(configs: Sequence[TrialConfig], n_steps: int) -> list[npt.NDArray[np.float64]]:
    """[trials][steps]."""
    factors: dict[str, npt.NDArray[np.float64]] = {}
    rates = []
    for config in configs:
        schedule, epochs = config.lr_schedule, config.train.head_epochs
        key = schedule.model_dump_json()
        if key not in factors:
            factors[key] = np.array([lr_factor(step / n_steps, schedule, epochs=epochs) for step in range(n_steps)])
        rates.append(config.optimiser.head_only_lr * factors[key])
    return rates
