"""Trains the expression heads of many configs together, on embeddings that all of them share.

Trials that see the same faces in the same order form a group: a batch is gathered once, and all heads of the group are
one matrix product. What a trial learns does not depend on its group, up to the rounding of sums. A profile on one core
(10,000 faces of width 1,280, 6 classes, batch 64) is in the header of `benchmarks/bench_heads.py`.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from spaces.config import TrialConfig
from trainables.data.sampling import Items, epoch_order
from trainables.embeddings.faces import EmbeddedFaces
from trainables.heads.batched_loss import BatchedLoss
from trainables.heads.batched_update import BatchedUpdate
from trainables.optimisers import lr_factor

HEAD_EPOCHS_FROM = 1_000_000
"""Head-only epochs draw other orders and augmentations than the full ones."""

DROPOUT_STRIP = 2**21

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, eq=False)
class HeadTask:
    """A head to be trained.

    Attributes:
        config: of its trial; what acts is named by `HEAD_SETTINGS`.
        items: of the trial, all among the embedded faces.
        weights: [classes], of the loss.
        start: the head's tensors to begin with, by their names in `Heads`: `linear.weight` [classes, width],
            `linear.bias` [classes]; with a hidden layer also `hidden.0.weight` and `hidden.0.bias`.
    """

    config: TrialConfig
    items: Items
    weights: npt.NDArray[np.float64]
    start: Tensors


@dataclass(frozen=True, eq=False)
class TrainedHead:
    """What became of a task.

    Attributes:
        tensors: as `HeadTask.start`.
        loss: mean training loss of the last epoch.
        n_seen: faces in all its epochs.
    """

    tensors: Tensors
    loss: float
    n_seen: int

    @property
    def diverged(self) -> bool:
        """Whether a number in it is not finite."""
        finite = all(bool(tensor.isfinite().all()) for tensor in self.tensors.values())
        return not (finite and np.isfinite(self.loss))


@dataclass(frozen=True, eq=False)
class _Step:
    """A batch of a group: [batch] places among the faces, and which views they show."""

    number: int
    epoch: int
    places: npt.NDArray[np.int64]
    shown: npt.NDArray[np.int64]


def train_together(
    faces: EmbeddedFaces,
    expression: npt.NDArray[np.int8],
    tasks: Sequence[HeadTask],
    *,
    device: torch.device,
) -> list[TrainedHead]:
    """Train every task's head for its `train.head_epochs`.

    Args:
        faces: embedded by the tasks' common encoder.
        expression: [samples], labels of the whole split that the faces are of.
        tasks: in any order.
        device: where the heads are trained.

    Returns:
        One a task, in their order, on the CPU.
    """
    groups: dict[str, list[int]] = {}
    for i, task in enumerate(tasks):
        groups.setdefault(_order_key(task), []).append(i)
    trained: dict[int, TrainedHead] = {}
    for members in groups.values():
        heads = _train_group(faces, expression, [tasks[i] for i in members], device=device)
        trained |= dict(zip(members, heads, strict=True))
    return [trained[i] for i in range(len(tasks))]


def _order_key(task: HeadTask) -> str:
    """What decides in which order a head sees which faces, and what its group must have in common."""
    config = task.config
    return json.dumps(
        [
            config.train.seed, config.train.batch_size, config.train.head_epochs, config.data.subsample_ratio,
            config.data.sampler, config.data.sampler_power if config.data.sampler == "weighted" else 0,
            config.model.drop_rate, config.model.head_width, config.optimiser.name, len(task.items),
        ]
    )  # fmt: skip


@torch.no_grad()
def _train_group(
    faces: EmbeddedFaces,
    expression: npt.NDArray[np.int8],
    tasks: Sequence[HeadTask],
    *,
    device: torch.device,
) -> list[TrainedHead]:
    first = tasks[0].config
    heads = _StackedHeads([task.start for task in tasks], device)
    weights = np.stack([task.weights for task in tasks])
    loss = BatchedLoss([task.config.loss for task in tasks], weights, device)
    update = BatchedUpdate(heads.parameters, heads.trial_dims, [task.config.optimiser for task in tasks])
    rates = _learning_rates([task.config for task in tasks], n_batches=_n_batches(tasks[0])).to(device)
    labels = torch.from_numpy(expression[faces.rows].astype(np.int64)).to(device)
    whole = _on_device(faces, device)
    n_largest = -(-len(tasks[0].items) // _n_batches(tasks[0])) * faces.width
    dropout = _Dropout(first.model.drop_rate, numbers=n_largest, seed=first.train.seed, device=device)
    total, n_last, n_seen = torch.zeros(len(tasks), device=device), 0, 0
    for step in _iter_steps(faces, expression, tasks[0]):
        chosen = torch.from_numpy(step.places).to(device)
        inputs = torch.from_numpy(faces.take(step.places, step.shown)) if whole is None else whole[chosen]
        inputs = dropout(inputs.to(torch.float32, copy=True))  # [batch, width]
        logits = heads.forward(inputs)
        losses, slopes = loss.gradient(logits, labels[chosen])
        update.step(heads.backward(inputs, slopes), rates[step.number])
        n_seen += len(chosen)
        if step.epoch == first.train.head_epochs:
            total += losses
            n_last += 1
    means = (total / max(n_last, 1)).tolist()
    return [TrainedHead(heads.of(i), mean, n_seen) for i, mean in enumerate(means)]


def _iter_steps(faces: EmbeddedFaces, expression: npt.NDArray[np.int8], task: HeadTask) -> Iterator[_Step]:
    """All batches of all epochs, the same for every trial of a group."""
    config, number = task.config, 0
    for epoch in range(1, config.train.head_epochs + 1):
        order = epoch_order(
            task.items, expression, sampler=config.data.sampler, power=config.data.sampler_power,
            seed=config.train.seed, epoch=HEAD_EPOCHS_FROM + epoch,
        )  # fmt: skip
        places = np.searchsorted(faces.rows, task.items.rows[order])
        shown = faces.draw_views(seed=config.train.seed, epoch=epoch)
        for chosen in np.array_split(places, _n_batches(task)):
            yield _Step(number, epoch, chosen, shown)
            number += 1


def _n_batches(task: HeadTask) -> int:
    n = len(task.items)
    return max(1, min(round(n / task.config.train.batch_size), n // 2))


def _learning_rates(configs: Sequence[TrialConfig], *, n_batches: int) -> torch.Tensor:
    """[steps, trials]."""
    epochs = configs[0].train.head_epochs
    n_steps = epochs * n_batches
    known: dict[str, list[float]] = {}
    for config in configs:
        schedule = config.lr_schedule.model_dump_json()
        if schedule not in known:
            known[schedule] = [lr_factor(i / n_steps, config.lr_schedule, epochs=epochs) for i in range(n_steps)]
    factors = torch.tensor([known[config.lr_schedule.model_dump_json()] for config in configs]).T
    return (factors * torch.tensor([config.optimiser.head_only_lr for config in configs])).contiguous()


def _on_device(faces: EmbeddedFaces, device: torch.device) -> torch.Tensor | None:
    """All embeddings on a GPU; None on a CPU, which gathers from the map, and where faces show several views."""
    if device.type == "cpu" or len(faces.views) > 1:
        return None
    return torch.from_numpy(np.array(faces.views[0])).to(device)


class _Dropout:
    """Dropout that depends on the seed and the step alone, not on what else draws random numbers.

    The masks are cut from one long random strip, each from a place of its own: to draw every mask anew would take as
    long as all the rest of a step.
    """

    def __init__(self, rate: float, *, numbers: int, seed: int, device: torch.device) -> None:
        """
        Args:
            rate: share of the numbers that are set to 0.
            numbers: in the largest batch.
            seed: of the trial.
            device: of the batches.
        """
        self._rate = rate
        self._places = np.random.default_rng([seed, 0xD809])
        strip = self._places.random(max(DROPOUT_STRIP, 4 * numbers), dtype=np.float32) if rate else np.empty(0)
        self._strip = torch.from_numpy((strip >= rate).astype(np.float32) / (1.0 - rate)).to(device)

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """The same tensor, some of its numbers 0 and the others larger by as much."""
        if not self._rate:
            return inputs
        first = int(self._places.integers(len(self._strip) - inputs.numel() + 1))
        return inputs.mul_(self._strip[first : first + inputs.numel()].view(inputs.shape))


class _StackedHeads:
    """The heads of a group in common tensors: linear, or with one hidden layer of rectified units."""

    def __init__(self, starts: Sequence[Tensors], device: torch.device) -> None:
        def stacked(name: str, *, dim: int) -> torch.Tensor:
            return torch.stack([start[name].to(device).float() for start in starts], dim=dim)

        self._is_deep = "hidden.0.weight" in starts[0]
        if self._is_deep:
            self.parameters = [
                stacked("hidden.0.weight", dim=1),  # [hidden, trials, width]
                stacked("hidden.0.bias", dim=1),  # [hidden, trials]
                stacked("linear.weight", dim=0),  # [trials, classes, hidden]
                stacked("linear.bias", dim=0),  # [trials, classes]
            ]
            self.trial_dims = [1, 1, 0, 0]
        else:
            self.parameters = [stacked("linear.weight", dim=1), stacked("linear.bias", dim=1)]
            self.trial_dims = [1, 1]
        self._hidden = torch.empty(0)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """[batch, width] to logits [batch, classes, trials]."""
        first = _product(inputs, self.parameters[0]).add_(self.parameters[1])
        if not self._is_deep:
            return first
        self._hidden = first.relu_().permute(2, 0, 1).contiguous()  # [trials, batch, hidden]
        logits = torch.baddbmm(self.parameters[3][:, None], self._hidden, self.parameters[2].transpose(1, 2))
        return logits.permute(1, 2, 0).contiguous()

    def backward(self, inputs: torch.Tensor, slopes: torch.Tensor) -> list[torch.Tensor]:
        """Gradients of the parameters, after `forward` of the same inputs.

        Args:
            inputs: [batch, width].
            slopes: [batch, classes, trials], of the loss by the logits.
        """
        if not self._is_deep:
            return [_back_product(inputs, slopes, self.parameters[0]), slopes.sum(dim=0)]
        by_trial = slopes.permute(2, 0, 1).contiguous()  # [trials, batch, classes]
        below = torch.bmm(by_trial, self.parameters[2]).mul_(self._hidden > 0)
        below = below.permute(1, 2, 0).contiguous()  # [batch, hidden, trials]
        return [
            _back_product(inputs, below, self.parameters[0]),
            below.sum(dim=0),
            torch.bmm(by_trial.transpose(1, 2), self._hidden),
            by_trial.sum(dim=1),
        ]

    def of(self, i: int) -> Tensors:
        """One trial's tensors, by their names in `Heads`, on the CPU."""
        found = [
            tensor.select(dim, i).cpu().contiguous().clone()
            for tensor, dim in zip(self.parameters, self.trial_dims, strict=True)
        ]
        if not self._is_deep:
            return {"linear.weight": found[0], "linear.bias": found[1]}
        names = ("hidden.0.weight", "hidden.0.bias", "linear.weight", "linear.bias")
        return dict(zip(names, found, strict=True))


def _product(inputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """[batch, width] times [n, trials, width] to [batch, n, trials], as one product of matrices."""
    return (inputs @ weights.flatten(0, 1).T).view(len(inputs), *weights.shape[:2])


def _back_product(inputs: torch.Tensor, slopes: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return (slopes.reshape(len(slopes), -1).T @ inputs).view(like.shape)
