"""Training faces in shuffled, augmented batches, with what is known of them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainables.data.augment import Augmenter, Image
from trainables.data.labels import LABEL_COLUMNS
from trainables.data.sampling import Indices, Items, epoch_order
from trainables.data.table import Split


class Batch(NamedTuple):
    """Some items of an epoch.

    `images` is uint8 [batch, height, width, channels], and so is `appearance`, the view that no change has moved;
    it is None where nobody asked for it. `targets` are those of `split_targets`; `positions` is int64 [batch], where
    in the trial's items these stand.
    """

    images: Tensor
    appearance: Tensor | None
    targets: dict[str, Tensor]
    positions: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The batch on a device, but for its positions, which index what stays on the CPU."""
        looks = None if self.appearance is None else self.appearance.to(device, non_blocking=True)
        targets = {name: labels.to(device, non_blocking=True) for name, labels in self.targets.items()}
        return Batch(self.images.to(device, non_blocking=True), looks, targets, self.positions)


class EpochBatches:
    """One epoch, cut into batches; item i is a whole batch, the same in whichever process it is made."""

    def __init__(
        self,
        split: Split,
        items: Items,
        augmenter: Augmenter,
        *,
        sampler: str,
        sampler_power: float,
        batch_size: int,
        seed: int,
        epoch: int,
        labels: Sequence[str] = (),
        two_views: bool = False,
    ) -> None:
        """
        Args:
            split: whose faces the items are.
            items: at least 2.
            augmenter: alters copies, then everything anew each epoch.
            sampler: how the epoch is drawn from the items; `sampler_power` is that of the weighted one.
            batch_size: about so many items a batch; no batch holds an item alone.
            seed: of the trial.
            epoch: another epoch has another order and other changes.
            labels: targets besides `expression`, by the names of `split_targets`.
            two_views: whether batches hold the appearance view; it is made of the face as it is, copy or not, so that
                landmarks lie where the table says.
        """
        self._split = split
        self._items = items
        self._augmenter = augmenter
        self._labels = tuple(labels)
        self._two_views = two_views
        self._seed = (seed, epoch)
        order = epoch_order(items, split.expression, sampler=sampler, power=sampler_power, seed=seed, epoch=epoch)
        n_batches = max(1, min(round(len(order) / batch_size), len(order) // 2))  # batch norm needs two faces
        self._batches = np.array_split(order, n_batches)

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> Batch:
        """The batch of this number."""
        positions = np.sort(self._batches[index])
        rows, copies = self._items.rows[positions], self._items.copies[positions]
        seed = int(np.random.SeedSequence([*self._seed, index]).generate_state(1)[0]) % 2**31
        faces = self._split.images[rows]
        images = self._augmenter.alter(self._augmenter.alter_copies(faces, rows, copies), seed=seed)
        appearance = _to_tensor(self._augmenter.appearance(faces, seed=seed)) if self._two_views else None
        targets = split_targets(self._split, rows, self._labels)
        return Batch(_to_tensor(images), appearance, targets, torch.from_numpy(positions))


def split_targets(split: Split, rows: Indices, labels: Sequence[str]) -> dict[str, Tensor]:
    """What is known of some faces; a label that the split has nowhere is unknown of all.

    Args:
        split: of a face table.
        rows: [n].
        labels: names of targets besides `expression`, which is always there.

    Returns:
        By name: `expression` int64 [n], -1 = not known; `valence_arousal` float32 [n, 2], NaN; `action_units` int64
        [n, 12], 1 where the unit is there in any intensity, -1; `landmarks` float32 [n, 136], NaN; `hand` int64 [n],
        -1.

    Raises:
        KeyError: there is no target of such a name.
    """
    expression = torch.from_numpy(split.expression[rows].astype(np.int64))
    return {"expression": expression, **{name: torch.from_numpy(_TARGETS[name](split, rows)) for name in labels}}


def _valence_arousal(split: Split, rows: Indices) -> npt.NDArray[np.float32]:
    return np.stack([_column(split, rows, "valence"), _column(split, rows, "arousal")], axis=1)


def _action_units(split: Split, rows: Indices) -> npt.NDArray[np.int64]:
    intensities = _column(split, rows, "action_units").astype(np.int64)
    return np.minimum(intensities, 1)


def _landmarks(split: Split, rows: Indices) -> npt.NDArray[np.float32]:
    landmarks: npt.NDArray[np.float32] = _column(split, rows, "landmarks")
    return landmarks


def _hand(split: Split, rows: Indices) -> npt.NDArray[np.int64]:
    return _column(split, rows, "hand").astype(np.int64)


_TARGETS: Mapping[str, Callable[[Split, Indices], npt.NDArray[np.float32] | npt.NDArray[np.int64]]] = {
    "valence_arousal": _valence_arousal,
    "action_units": _action_units,
    "landmarks": _landmarks,
    "hand": _hand,
}


def _column(split: Split, rows: Indices, name: str) -> npt.NDArray[Any]:
    column = split.column(name)
    return LABEL_COLUMNS[name].empty(len(rows)) if column is None else column[rows]


def _to_tensor(images: Image) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(images))
