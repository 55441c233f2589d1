"""The batches that the heads of a group see: embeddings gathered once for all of them, a block of batches at a time."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from spaces.config import TrialConfig
from trainables.data.sampling import Items, epoch_order
from trainables.embeddings.faces import EmbeddedFaces
from trainables.heads.dropout import Dropout
from trainables.heads.stacked import padded_width

HEAD_EPOCHS_FROM = 1_000_000
"""Head-only epochs draw other orders and augmentations than the full ones."""

BLOCK_FACES = 1024
"""Gathered at once, where a batch is no larger: so few that they stay in the processor's cache for all heads."""

FILLED_AT_ONCE = 256
"""Of these, gathered, widened and dropped out: what that makes on the way is then small enough for a nearer cache. In
one go it took two to three times as long."""


class HeadBatch(NamedTuple):
    """A step of a group.

    `number` counts the steps from 0; `inputs` is float32 [batch, padded width]: embeddings after dropout, a column of
    ones, zeros; `labels` is int64 [batch], the number of classes where unknown.
    """

    number: int
    inputs: torch.Tensor
    labels: torch.Tensor


def head_order(
    items: Items, expression: npt.NDArray[np.int8], config: TrialConfig, *, rows: npt.NDArray[np.int64], epoch: int
) -> npt.NDArray[np.int64]:
    """Which faces a head-only epoch takes, as often as the sampler has it.

    Args:
        items: of the trial.
        expression: [samples], of the whole split.
        config: of the trial; sampler and seed are used.
        rows: ascending, of the faces that places are counted in.
        epoch: 1 first.

    Returns:
        [items], places among the rows.
    """
    chosen = epoch_order(
        items, expression, sampler=config.data.sampler, power=config.data.sampler_power, seed=config.train.seed,
        epoch=HEAD_EPOCHS_FROM + epoch,
    )  # fmt: skip
    return np.searchsorted(rows, items.rows[chosen])


class Blocks:
    """All batches of all head-only epochs, the same for every trial of a group.

    Attributes:
        n_batches: of an epoch.
        n_steps: of all epochs.
        n_faces: in all of them.
        are_labels_known: whether no face is without one.
    """

    def __init__(
        self,
        faces: EmbeddedFaces,
        items: Items,
        expression: npt.NDArray[np.int8],
        *,
        config: TrialConfig,
        n_classes: int,
        device: torch.device,
    ) -> None:
        """
        Args:
            faces: among which all items are.
            items: at least 2.
            expression: [samples], labels of the whole split that the faces are of.
            config: of any trial of the group.
            n_classes: that labels are numbers of.
            device: where the batches shall be.
        """
        self._faces = faces
        self._items = items
        self._expression = expression
        self._config = config
        self._device = device
        own = expression[faces.rows].astype(np.int64)
        self.are_labels_known = bool((own >= 0).all())
        self._labels = torch.from_numpy(np.where(own < 0, n_classes, own)).to(device)
        self.n_batches = max(1, min(round(len(items) / config.train.batch_size), len(items) // 2))  # none is alone
        self.n_steps = self.n_batches * config.train.head_epochs
        self.n_faces = len(items) * config.train.head_epochs
        largest = -(-len(items) // self.n_batches)
        self._per_block = max(1, BLOCK_FACES // largest)
        self._inputs = torch.zeros(self._per_block * largest, padded_width(faces.width), device=device)
        self._inputs[:, faces.width] = 1.0

    def __iter__(self) -> Iterator[list[HeadBatch]]:
        """Blocks in order. A block's inputs are overwritten by the next one's."""
        number, seed, rate = 0, self._config.train.seed, self._config.model.drop_rate
        for epoch in range(1, self._config.train.head_epochs + 1):
            order = head_order(self._items, self._expression, self._config, rows=self._faces.rows, epoch=epoch)
            shown = self._faces.draw_views(seed=seed, epoch=epoch)
            dropout = Dropout(rate=rate, width=self._faces.width, seed=seed, epoch=epoch) if rate else None
            batches = np.array_split(order, self.n_batches)
            for first in range(0, len(batches), self._per_block):
                block = self._fill(number, batches[first : first + self._per_block], shown, dropout)
                yield block
                number += len(block)

    def _fill(
        self,
        number: int,
        batches: Sequence[npt.NDArray[np.int64]],
        shown: npt.NDArray[np.int64],
        dropout: Dropout | None,
    ) -> list[HeadBatch]:
        places = np.concatenate(batches)
        inputs = self._inputs[: len(places)]
        for first in range(0, len(places), FILLED_AT_ONCE):
            piece = slice(first, first + FILLED_AT_ONCE)
            taken = torch.from_numpy(self._faces.take(places[piece], shown))
            embeddings = inputs[piece, : self._faces.width]
            embeddings.copy_(taken)  # float16 becomes float32 on the device
            if dropout is not None:
                embeddings.mul_(dropout.draw(len(taken)).to(self._device))
        labels = self._labels[torch.from_numpy(places).to(self._device)]
        ends = np.cumsum([0, *map(len, batches)])
        parts = [slice(*bounds) for bounds in pairwise(ends.tolist())]
        return [HeadBatch(number + i, inputs[part], labels[part]) for i, part in enumerate(parts)]
