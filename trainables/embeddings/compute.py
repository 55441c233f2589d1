"""From faces to embeddings of an encoder that stands still: out of the cache, or computed a batch at a time.

What is kept is always of a whole split, so that one entry serves every subsample. Without a cache only the faces that
are asked for are computed, in float32.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray

from spaces.config import TrialConfig
from trainables.budget import check_time
from trainables.data.augment import Augmenter
from trainables.data.table import FaceTable, Split
from trainables.embeddings.cache import EmbeddingCache
from trainables.embeddings.encoder import FrozenEncoder, Looks
from trainables.embeddings.faces import EmbeddedFaces, View
from trainables.embeddings.identity import alterations_digest
from trainables.embeddings.key import EmbeddingKey
from trainables.memory import in_pieces
from trainables.models.architectures.answers import ANSWERS
from trainables.models.architectures.network import ExpressionNetwork

Rows = NDArray[np.int64]
SplitName = Literal["train", "valid"]

BATCH = 128
"""Faces at once, as when a network is scored. What alters faces is drawn anew for each so many rows of a split."""

FINEST_SHARE = 2.0**-10
"""Of a face's largest number: the most that float16 may round off. It rounds numbers worse that are beyond its own or
below them; such embeddings are kept in float32."""


@dataclass(frozen=True)
class _View:
    """A way to look at a split: its name and what alters it, as in a key, and the batches of the chosen rows."""

    name: str
    looks: Callable[[Rows], Iterator[Looks]]
    alterations: str = ""

    def key(self, encoder: FrozenEncoder, table: FaceTable, split: SplitName) -> EmbeddingKey:
        return encoder.key(table.info, split, view=self.name, alterations=self.alterations)


def embed_faces(
    encoder: FrozenEncoder,
    table: FaceTable,
    *,
    rows: Rows,
    config: TrialConfig,
    cache: EmbeddingCache | None,
    until_s: float | None = None,
) -> EmbeddedFaces:
    """Embeddings of training faces, in as many views as `train.head_views` says.

    Args:
        encoder: of a network of this config.
        table: whose train split the faces are of.
        rows: ascending, those that are needed.
        config: of the trial. Views after the first are altered as `augment` says, the same in all trials that say the
            same, whatever their seeds.
        cache: where embeddings are kept; None computes those of `rows` alone.
        until_s: Unix time at which computing, or waiting for who computes, is given up; None for no end.

    Returns:
        All faces of the split where the cache keeps them, in float16 and mapped; else those of `rows`, in float32.

    Raises:
        OutOfTime: the time was up before.
    """
    train, n_views = table.split("train"), config.train.head_views
    views = _training_views(train, config, has_appearance=encoder.has_appearance)
    if cache is not None and _keeps_all(cache, [view.key(encoder, table, "train") for view in views]):
        rows = np.arange(len(train))
        embedded = [_fetch(cache, encoder, table, view, split="train", until_s=until_s) for view in views]
    else:
        embedded = [_compute(encoder, view, rows, dtype=np.float32, until_s=until_s) for view in views]
    return EmbeddedFaces(views=tuple(embedded) * (n_views // len(views)), rows=rows)


def valid_embeddings(
    encoder: FrozenEncoder, table: FaceTable, *, cache: EmbeddingCache | None, until_s: float | None = None
) -> tuple[View, ...]:
    """Embeddings of all valid faces, and of their mirror images where the network's answer is the mean of both.

    Args:
        encoder: whose embeddings.
        table: whose valid split.
        cache: where they are kept, if anywhere.
        until_s: as for `embed_faces`.

    Returns:
        One or two arrays [valid faces, width], in float16 and mapped; in float32 without a cache.

    Raises:
        OutOfTime: the time was up before.
    """
    valid = table.split("valid")
    views = [_View("plain", partial(_iter_plain, valid))]
    if encoder.spec.mirror:
        views.append(_View("mirror", partial(_iter_plain, valid, is_mirrored=True)))
    return tuple(_fetch(cache, encoder, table, view, split="valid", until_s=until_s) for view in views)


@torch.inference_mode()
def predict_embedded(
    network: ExpressionNetwork, views: Sequence[View], *, batch_size: int = 4096
) -> dict[str, NDArray[np.float32]]:
    """What `predict_outputs` says of faces, from their embeddings; of a network without a hand module.

    Args:
        network: its heads are put into eval mode.
        views: of `valid_embeddings`, whose answers are averaged.
        batch_size: faces at once.

    Returns:
        `logits` [faces, classes], and `valence_arousal`, `action_units` where there are such heads.
    """
    assert network.hand is None, "a hand module reads the faces themselves"
    network.heads.eval()
    device = next(network.heads.parameters()).device
    batches: list[dict[str, torch.Tensor]] = []
    for first in range(0, len(views[0]), batch_size):
        said = [network.heads(to_floats(view[first : first + batch_size], device)) for view in views]
        names = [name for name in ANSWERS if name in said[0]]
        batches.append({name: (sum(outputs[name] for outputs in said) / len(said)).cpu() for name in names})
    return {name: torch.cat([batch[name] for batch in batches]).numpy() for name in batches[0]}


def to_floats(embeddings: View, device: torch.device) -> torch.Tensor:
    """A copy in float32 on a device."""
    return torch.from_numpy(np.array(embeddings)).to(device).float()  # from read-only memory torch would warn


def _keeps_all(cache: EmbeddingCache, keys: Sequence[EmbeddingKey]) -> bool:
    """Whether one trial's views have room beside each other: else each would throw out another, in every trial anew."""
    fit_together = len(keys) == 1 or sum(key.n_bytes for key in keys) <= cache.max_bytes
    return fit_together and all(cache.serves(key) for key in keys)


def _training_views(train: Split, config: TrialConfig, *, has_appearance: bool) -> list[_View]:
    """The face as it is, then the altered views; none of them where nothing alters a face."""
    views = [_View("plain", partial(_iter_plain, train))]
    if config.train.head_views == 1:
        return views
    augmenter = Augmenter(config.augment)
    if augmenter.is_idle:
        return views
    alterations = alterations_digest(config.augment)
    for number in range(1, config.train.head_views):
        looks = partial(_iter_altered, train, augmenter=augmenter, number=number, has_appearance=has_appearance)
        views.append(_View(f"altered {number}", looks, alterations))
    return views


def _iter_plain(split: Split, rows: Rows, *, is_mirrored: bool = False) -> Iterator[Looks]:
    for first in range(0, len(rows), BATCH):
        yield Looks(split.images[rows[first : first + BATCH]], is_mirrored=is_mirrored)


def _iter_altered(
    split: Split, rows: Rows, *, augmenter: Augmenter, number: int, has_appearance: bool
) -> Iterator[Looks]:
    """Altered in batches of the whole split, so that a face looks the same whichever others are chosen."""
    for first in range(0, len(split), BATCH):
        chosen = rows[(rows >= first) & (rows < first + BATCH)] - first
        if not len(chosen):
            continue
        seed = int(np.random.SeedSequence([number, first // BATCH, 0x71E3]).generate_state(1)[0]) % 2**31
        faces = split.images[first : first + BATCH].copy()
        unmoved = augmenter.appearance(faces, seed=seed)[chosen] if has_appearance else None
        yield Looks(augmenter.alter(faces, seed=seed)[chosen], unmoved)


def _fetch(
    cache: EmbeddingCache | None,
    encoder: FrozenEncoder,
    table: FaceTable,
    view: _View,
    *,
    split: SplitName,
    until_s: float | None,
) -> View:
    rows = np.arange(table.info.rows[split])
    if cache is None:
        return _compute(encoder, view, rows, dtype=np.float32, until_s=until_s)
    compute = partial(_compute_narrow, encoder, view, rows, until_s=until_s)
    return cache.fetch(view.key(encoder, table, split), compute, until_s=until_s)


def _compute_narrow(encoder: FrozenEncoder, view: _View, rows: Rows, *, until_s: float | None) -> View:
    """In float16, or in float32 where that can't hold the numbers."""
    try:
        return _compute(encoder, view, rows, dtype=np.float16, until_s=until_s)
    except FloatingPointError:
        return _compute(encoder, view, rows, dtype=np.float32, until_s=until_s)


def _compute(encoder: FrozenEncoder, view: _View, rows: Rows, *, dtype: DTypeLike, until_s: float | None) -> View:
    """[rows, width]; raises FloatingPointError where float16 is asked for and can't hold the numbers."""
    found: View = np.empty((len(rows), encoder.width), dtype)
    done = 0
    for looks in view.looks(rows):
        check_time(until_s)
        for part in in_pieces(partial(encoder.embed, looks), len(looks), size=BATCH):
            if dtype is np.float16 and not _fits_float16(part):
                raise FloatingPointError("float16 rounds these embeddings too much")
            found[done : done + len(part)] = (part.half() if dtype is np.float16 else part).cpu().numpy()
            done += len(part)
    return found


def _fits_float16(embeddings: torch.Tensor) -> bool:
    """Whether no face loses more than its share; what is not a number to begin with can lose nothing."""
    rounded_off = (embeddings.half().float() - embeddings).abs().amax(dim=1)
    is_fine = rounded_off <= FINEST_SHARE * embeddings.abs().amax(dim=1)
    return bool((is_fine | ~embeddings.isfinite().all(dim=1)).all())
