"""A network's encoder that stands still: what it says of faces, and how its entries in the cache are called."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from trainables.checkpoint import NetworkSpec
from trainables.data.table import DatasetInfo
from trainables.embeddings.identity import encoder_design, encoder_digest, split_key
from trainables.embeddings.key import EmbeddingKey
from trainables.models.architectures.network import ExpressionNetwork
from trainables.models.architectures.two_branch import TwoBranchEncoder
from trainables.models.inputs import to_inputs

Images = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Looks:
    """A batch of faces as an encoder shall see them.

    Attributes:
        images: [batch, height, width, channels], a copy.
        unmoved: the same faces with nothing moved, for an appearance branch; None where `images` serve.
        is_mirrored: whether the encoder sees the mirror images of both.
    """

    images: Images
    unmoved: Images | None = None
    is_mirrored: bool = False

    def __len__(self) -> int:
        return len(self.images)

    def part(self, faces: slice) -> "Looks":
        """Some of them."""
        return Looks(self.images[faces], None if self.unmoved is None else self.unmoved[faces], self.is_mirrored)


class FrozenEncoder:
    """The encoder of a network, which must not change as long as this is in use.

    Attributes:
        spec: of the network.
        width: of the embeddings.
        has_appearance: whether it takes an unmoved look at the faces beside the altered one.
    """

    def __init__(self, network: ExpressionNetwork, spec: NetworkSpec) -> None:
        """
        Args:
            network: on any device; its encoder is put into eval mode when it is used.
            spec: of the network.
        """
        self._encoder = network.encoder
        self.spec = spec
        self.width = network.encoder.width
        self.has_appearance = isinstance(network.encoder, TwoBranchEncoder)

    def key(
        self, info: DatasetInfo, split: Literal["train", "valid"], *, view: str = "plain", alterations: str = ""
    ) -> EmbeddingKey:
        """Of its embeddings of a table's split, in float16."""
        return split_key(
            self.spec, info, split,
            encoder=self._digest, design=encoder_design(self.spec.design), width=self.width,
            device=self._device.type, view=view, alterations=alterations,
        )  # fmt: skip

    @torch.no_grad()  # not inference mode: what a network remembers of its first pass must serve training later
    def embed(self, looks: Looks, part: slice = slice(None)) -> torch.Tensor:
        """What it says of some of the faces: float32 [part, width], on its device."""
        self._encoder.eval()
        looks = looks.part(part)
        inputs = self._inputs(looks.images, is_mirrored=looks.is_mirrored)
        if looks.unmoved is not None and isinstance(self._encoder, TwoBranchEncoder):
            encoded = self._encoder(inputs, self._inputs(looks.unmoved, is_mirrored=looks.is_mirrored))
        else:
            encoded = self._encoder(inputs)
        embeddings: torch.Tensor = encoded["embeddings"]
        return embeddings.float()

    @cached_property
    def _digest(self) -> str:
        return encoder_digest(self._encoder)

    @property
    def _device(self) -> torch.device:
        return next(self._encoder.parameters()).device

    def _inputs(self, images: Images, *, is_mirrored: bool) -> torch.Tensor:
        inputs = to_inputs(torch.from_numpy(images).to(self._device), self.spec)
        return inputs.flip(-1) if is_mirrored else inputs
