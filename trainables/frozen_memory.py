"""What the frozen twin of a deviation module says of each training face, computed once.

It only pays where a face looks the same in every epoch: where nothing random is done to it on the fly. What it says of
faces as they are, no copies, is kept in the cache of embeddings too, for all trials with the same twin.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from trainables.budget import OutOfTime, check_time
from trainables.checkpoint import NetworkSpec
from trainables.data.sampling import Items
from trainables.data.table import FaceTable
from trainables.embeddings.cache import EmbeddingCache
from trainables.embeddings.identity import encoder_digest, split_key
from trainables.embeddings.key import EmbeddingKey
from trainables.models.architectures.deviation import DeviationEncoder
from trainables.models.inputs import to_inputs

MOST_BYTES = 4 * 1024**3
"""Beyond this the twin is asked every time. Float32, since trained minus frozen is a difference of near equals."""

GROUP = 16
"""The twin is asked about so many faces at once, never fewer."""

BATCH = 8 * GROUP
"""Faces of a split that become inputs at once."""


@dataclass(frozen=True, eq=False)
class KeptTwin:
    """Where a twin's embeddings of a train split are kept for all trials that have the same twin.

    Attributes:
        cache: of embeddings.
        table: of which the split is.
        spec: of the network.
        items: of the trial.
        until_s: Unix time at which embedding the split is given up; None for no end.
    """

    cache: EmbeddingCache
    table: FaceTable
    spec: NetworkSpec
    items: Items
    until_s: float | None = None


class FrozenMemory:
    """Embeddings of the frozen twin by a face's position among the trial's items.

    Arithmetic rounds by the size of a batch. Groups of one size make a face's embedding the same to the last bit in
    whichever batch it first stands, so that a run which goes on, its memory empty, goes on as it would have.
    """

    def __init__(self, encoder: DeviationEncoder, n_items: int, *, kept: KeptTwin | None = None) -> None:
        """
        Args:
            encoder: whose frozen twin is asked.
            n_items: of the trial.
            kept: where what the twin says is kept beyond the trial; None where it is not.
        """
        self._encoder = encoder
        self._kept = kept
        self._embeddings = torch.zeros(n_items, encoder.width)
        self._is_known = torch.zeros(n_items, dtype=torch.bool)

    @classmethod
    def fits(cls, encoder: DeviationEncoder, n_items: int) -> bool:
        """Whether so many embeddings are worth keeping in memory."""
        return 4 * n_items * encoder.width <= MOST_BYTES

    def learn(self) -> None:
        """Take what the twin says of faces as they are from the cache, or compute it for it, before the first step.

        It changes no bit of what is recalled. Copies that a sampler has altered are computed when they are first seen,
        and so is every face where time was too short.
        """
        kept, self._kept = self._kept, None
        if kept is None:
            return
        key = self._key(kept)
        if not kept.cache.serves(key):
            return
        try:
            known = kept.cache.fetch(key, lambda: self._embed_split(kept), until_s=kept.until_s)
        except OutOfTime:
            return
        plain = np.flatnonzero(kept.items.copies == 0)
        for first in range(0, len(plain), BATCH):
            positions = plain[first : first + BATCH]
            self._embeddings[positions] = torch.from_numpy(known[kept.items.rows[positions]])
            self._is_known[positions] = True

    def recall(self, positions: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """The twin's embeddings of a batch, remembered or computed.

        Args:
            positions: int64 [batch], on the CPU.
            inputs: [batch, 3, px, px], the faces there.

        Returns:
            [batch, width] on the inputs' device.
        """
        unknown = ~self._is_known[positions]
        if unknown.any():
            new = self._embed(inputs[unknown.to(inputs.device)])
            self._embeddings[positions[unknown]] = new.float().cpu()
            self._is_known[positions[unknown]] = True
        return self._embeddings[positions].to(inputs.device, non_blocking=True)

    def _key(self, kept: KeptTwin) -> EmbeddingKey:
        """Of float32: trained minus frozen embedding is a difference of near equals, which float16 would round away."""
        twin = self._encoder.frozen
        return split_key(
            kept.spec, kept.table.info, "train",
            encoder=encoder_digest(twin), design="frozen twin", width=self._encoder.width, dtype="float32",
            device=next(twin.parameters()).device.type,
        )  # fmt: skip

    def _embed_split(self, kept: KeptTwin) -> NDArray[np.float32]:
        """[train faces, width], each to the bit what a batch of the trial would give."""
        images = kept.table.split("train").images
        device = next(self._encoder.parameters()).device
        found = np.empty((len(images), self._encoder.width), np.float32)
        for first in range(0, len(images), BATCH):
            check_time(kept.until_s)
            faces = torch.from_numpy(images[first : first + BATCH].copy()).to(device)
            found[first : first + len(faces)] = self._embed(to_inputs(faces, kept.spec)).float().cpu().numpy()
        return found

    def _embed(self, inputs: torch.Tensor) -> torch.Tensor:
        """[n, 3, px, px] to [n, width], in whole groups: the last one is filled up with faces from the front."""
        n_wanted = -(-len(inputs) // GROUP) * GROUP
        rows = torch.arange(n_wanted, device=inputs.device) % len(inputs)
        groups = [self._encoder.embed_frozen(inputs[group]) for group in rows.view(-1, GROUP)]
        return torch.cat(groups)[: len(inputs)]
