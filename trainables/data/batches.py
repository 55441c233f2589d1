"""Training faces in shuffled, augmented batches."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

from trainables.data.augment import Augmenter
from trainables.data.table import Split

Batch = tuple[torch.Tensor, torch.Tensor]


class EpochBatches(Dataset[Batch]):
    """One epoch, cut into batches; item i is a whole batch, the same in whichever process it is made."""

    def __init__(
        self, split: Split, rows: npt.NDArray[np.int64], augmenter: Augmenter, *, batch_size: int, seed: int, epoch: int
    ) -> None:
        self._split = split
        self._augmenter = augmenter
        self._seed = (seed, epoch)
        order = np.random.default_rng([seed, epoch, 0x0DE2]).permutation(rows)
        n_batches = max(1, min(round(len(order) / batch_size), len(order) // 2))  # batch norm needs two faces
        self._batches = np.array_split(order, n_batches)

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> Batch:
        """Images uint8 [batch, height, width, channels] and labels int64 [batch]."""
        rows = np.sort(self._batches[index])
        seed = int(np.random.SeedSequence([*self._seed, index]).generate_state(1)[0]) % 2**31
        images = self._augmenter.alter(self._split.images[rows], seed=seed)
        labels = self._split.expression[rows].astype(np.int64)
        return torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(labels)


def iter_batches(batches: EpochBatches, *, n_workers: int, pin_memory: bool) -> Iterator[Batch]:
    """All batches of an epoch in order, made by worker processes where there are any."""
    if n_workers == 0:
        return (batches[i] for i in range(len(batches)))
    return iter(
        DataLoader(
            batches,
            batch_size=None,
            num_workers=n_workers,
            pin_memory=pin_memory,
            prefetch_factor=4,
            generator=torch.Generator(),  # without it the loader draws from the numbers that dropout is about to draw
        )
    )
