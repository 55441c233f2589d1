"""What an embedding depends on, and nothing else: the key under which it is kept.

Keys come from content. Whoever has the same weights, however he came by them, finds the same entry; a file of weights
that has changed finds none.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Literal

VERSION = 1
"""Of the file format and of how embeddings are computed. Raise it with either."""

Dtype = Literal["float16", "float32"]


@dataclass(frozen=True)
class EmbeddingKey:
    """All that one entry of the cache depends on.

    Attributes:
        encoder: digest of the tensors that compute it.
        backbone: name.
        design: the encoder's part of the network's design, as JSON.
        image_px: side that the network sees.
        channels: of the images that it was made for.
        mean: per channel.
        std: per channel.
        table: content hash of the face table.
        split: of the table; all of its rows.
        view: `plain`, `mirror`, or `altered K`.
        alterations: digest of the settings that altered the faces; empty where nothing did.
        rows: faces.
        width: numbers in an embedding.
        dtype: that is asked for.
        device: kind of processor, whose arithmetic rounds in its own way.
        libraries: versions of what computes.
        version: of file format and computation.
    """

    encoder: str
    backbone: str
    design: str
    image_px: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    table: str
    split: str
    view: str
    alterations: str
    rows: int
    width: int
    dtype: Dtype
    device: str
    libraries: str
    version: int = VERSION

    @property
    def n_bytes(self) -> int:
        """Of the embeddings, in the dtype that is asked for."""
        return self.rows * self.width * (2 if self.dtype == "float16" else 4)

    def to_json(self) -> str:
        """All of it, the same text for the same key."""
        return json.dumps(asdict(self), sort_keys=True)

    @property
    def name(self) -> str:
        """Of the entry's file, without its ending."""
        return hashlib.blake2b(self.to_json().encode(), digest_size=16).hexdigest()
