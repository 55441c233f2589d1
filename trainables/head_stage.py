"""The head-only stage of a trial: from a network as it was built to what it says of the valid split after its epochs.

How an epoch is trained stands in `head_only.py`, and in `heads/` for a head that packs can train too.
"""

import logging
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from spaces.config import TrialConfig
from trainables.checkpoint import NetworkSpec
from trainables.data.batches import split_targets
from trainables.data.loader import BatchLoader
from trainables.data.needs import needed_labels
from trainables.data.sampling import Items
from trainables.data.table import FaceTable
from trainables.embeddings.cache import EmbeddingCache
from trainables.embeddings.compute import embed_faces, predict_embedded, valid_embeddings
from trainables.embeddings.encoder import FrozenEncoder
from trainables.embeddings.faces import EmbeddedFaces
from trainables.head_only import train_heads, train_heads_drifting
from trainables.heads.blocks import HEAD_EPOCHS_FROM, head_order
from trainables.heads.engine import HeadTask, train_together
from trainables.heads.settings import why_stage_not_packable
from trainables.losses.total import TrialLoss
from trainables.models.architectures.network import ExpressionNetwork
from trainables.models.inputs import predict_outputs

logger = logging.getLogger(__name__)

Outputs = dict[str, npt.NDArray[np.float32]]
"""As `predict_outputs` gives them."""


class StageEnd(NamedTuple):
    """What the network says of the valid split, and whether a number of its head is no longer finite."""

    outputs: Outputs
    diverged: bool


@dataclass(frozen=True, eq=False)
class HeadStage:
    """What the head-only epochs of a trial work on.

    Attributes:
        network: its heads are trained in place.
        spec: of the network.
        loss: of the trial, on the network's device.
        config: of the trial.
        table: its train and valid splits are used.
        items: of the trial.
        embeddings: where those of encoders that stand still are kept; None computes them anew.
        until_s: Unix time at which it is given up; None for no end.
    """

    network: ExpressionNetwork
    spec: NetworkSpec
    loss: TrialLoss
    config: TrialConfig
    table: FaceTable
    items: Items
    embeddings: EmbeddingCache | None
    until_s: float | None

    def run(self, loader: BatchLoader) -> StageEnd:
        """Train the heads for `train.head_epochs`.

        Args:
            loader: of the trial's batches, for epochs that run the whole network.

        Raises:
            OutOfTime: the time was up before.
        """
        if self.config.train.head_batch_norm == "train":
            return self._run_drifting(loader)
        return self._run_embedded()

    def _run_embedded(self) -> StageEnd:
        """On embeddings, since the encoder stands still."""
        cache, until_s = self.embeddings, self.until_s
        encoder = FrozenEncoder(self.network, self.spec)
        rows = np.unique(self.items.rows)
        faces = embed_faces(encoder, self.table, rows=rows, config=self.config, cache=cache, until_s=until_s)
        diverged = False
        if why_stage_not_packable(self.config) == "":
            diverged = self._train_as_a_pack(faces)
        else:
            self._train_alone(faces)
        if cache is None or self.network.hand is not None:
            return StageEnd(self._look_at_valid(), diverged)
        valid = valid_embeddings(encoder, self.table, cache=cache, until_s=until_s)
        return StageEnd(predict_embedded(self.network, valid), diverged)

    def _run_drifting(self, loader: BatchLoader) -> StageEnd:
        """On faces, since batch norm's statistics move."""
        if self.embeddings is not None:
            logger.info("head-only epochs embed no face ahead, since train.head_batch_norm is 'train'")
        train_heads_drifting(
            self.network, self.spec, lambda epoch: loader.epoch(HEAD_EPOCHS_FROM + epoch),
            n_batches=len(loader.batches(epoch=1)), loss=self.loss, config=self.config, until_s=self.until_s,
        )  # fmt: skip
        return StageEnd(self._look_at_valid(), diverged=False)

    def _train_as_a_pack(self, faces: EmbeddedFaces) -> bool:
        """A pack of one, so that a head learns the same alone and beside others; returns whether it diverged."""
        heads = self.network.heads
        weights = self.loss.expression.weights.double().cpu().numpy()
        task = HeadTask(self.config, self.items, weights, start=heads.state_dict())
        device = next(heads.parameters()).device
        expression = self.table.split("train").expression
        (head,) = train_together(faces, expression, [task], device=device, until_s=self.until_s)
        heads.load_state_dict(head.tensors)
        return head.diverged

    def _train_alone(self, faces: EmbeddedFaces) -> None:
        """What no pack can train."""
        train = self.table.split("train")

        def order(epoch: int) -> npt.NDArray[np.int64]:
            return head_order(self.items, train.expression, self.config, rows=faces.rows, epoch=epoch)

        targets = split_targets(train, faces.rows, tuple(needed_labels(self.config)))
        train_heads(self.network, faces, targets, order=order, loss=self.loss, config=self.config, until_s=self.until_s)

    def _look_at_valid(self) -> Outputs:
        return predict_outputs(self.network, self.table.split("valid").images, self.spec)
