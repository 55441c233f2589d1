"""What makes two encoders say the same of the same faces, as the words of a key."""

import hashlib
import json
from dataclasses import asdict
from functools import cache
from importlib import metadata
from typing import Literal

import torch

from spaces.training_sections import AugmentConfig
from trainables.checkpoint import NetworkSpec
from trainables.data.table import DatasetInfo
from trainables.embeddings.key import Dtype, EmbeddingKey
from trainables.models.architectures.design import Design

_LIBRARIES = ("albumentations", "timm", "torch", "torchvision")
"""Another version of one of them may answer otherwise."""

_NOT_OF_ENCODERS = frozenset({
    "landmarks", "affect", "expression_inputs", "va_inputs", "unit_inputs", "unit_width", "hand_backbone", "head_width"
})  # fmt: skip
"""Parts of a design that stand on the embedding or beside it. A part that is not named here counts as the encoder's."""


def encoder_digest(encoder: torch.nn.Module) -> str:
    """A digest of a module's tensors and their names; as quick as they can be read."""
    digest = hashlib.sha256()  # of the good ones the quickest, where the processor has instructions for it
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(repr((name, tensor.dtype, tuple(tensor.shape))).encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def split_key(
    spec: NetworkSpec,
    info: DatasetInfo,
    split: Literal["train", "valid"],
    *,
    encoder: str,
    design: str,
    width: int,
    device: str,
    dtype: Dtype = "float16",
    view: str = "plain",
    alterations: str = "",
) -> EmbeddingKey:
    """The key of all faces of a split; the words are those of `EmbeddingKey`.

    Args:
        spec: of the network that the encoder is of.
        info: of the face table.
        split: of the table.
    """
    return EmbeddingKey(
        encoder=encoder,
        backbone=spec.backbone,
        design=design,
        image_px=spec.image_px,
        channels=spec.channels,
        mean=spec.mean,
        std=spec.std,
        table=info.content_hash,
        split=split,
        view=view,
        alterations=alterations,
        rows=info.rows[split],
        width=width,
        dtype=dtype,
        device=device,
        libraries=library_versions(),
    )


def encoder_design(design: Design) -> str:
    """What of a network's design shapes its embeddings, as JSON."""
    parts = {name: value for name, value in asdict(design).items() if name not in _NOT_OF_ENCODERS}
    return json.dumps(parts, sort_keys=True)


def alterations_digest(config: AugmentConfig) -> str:
    """A digest of what may happen to a face; mixing, which happens to inputs, is no part of it."""
    settings = config.model_dump(exclude={"mix", "mix_alpha"})
    return hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=16).hexdigest()


@cache
def library_versions() -> str:
    """Of the libraries that compute embeddings."""
    return ", ".join(f"{name} {metadata.version(name)}" for name in _LIBRARIES)
