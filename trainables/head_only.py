"""The head-only epochs: a new classifier on a backbone that stands still.

The backbone is in eval mode and each face is embedded once, so that these epochs cost one forward pass of the data.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from spaces.config import TrialConfig
from spaces.errors import ModelError
from trainables.checkpoint import NetworkSpec
from trainables.models.backbones import head_modules
from trainables.models.inputs import to_inputs
from trainables.optimisers import build_head_optimiser, lr_factor, set_learning_rate


def train_head(
    network: nn.Module,
    spec: NetworkSpec,
    images: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.int8],
    *,
    rows: npt.NDArray[np.int64],
    loss: nn.Module,
    config: TrialConfig,
) -> None:
    """Train the classifier in place for `train.head_epochs` on embeddings of unaltered faces.

    Args:
        network: its classifier is trained, the rest is left as it is, running statistics included.
        spec: of the network.
        images: uint8 [samples, height, width, channels].
        labels: [samples].
        rows: [chosen], the samples to train on.
        loss: of logits [batch, classes] and labels [batch].
        config: epochs, batch size, rate and schedule.

    Raises:
        ModelError: the backbone does not end in one linear layer.
    """
    head = _linear_head(network, backbone=spec.backbone)
    embeddings = embed(network, spec, images, rows=rows)
    targets = torch.from_numpy(labels[rows].astype(np.int64)).to(embeddings.device)
    optimiser = build_head_optimiser(head.parameters(), config.optimiser)
    generator = torch.Generator().manual_seed(config.train.seed)
    n_batches = max(1, round(len(rows) / config.train.batch_size))
    n_steps, step = n_batches * config.train.head_epochs, 0
    for _ in range(config.train.head_epochs):
        for batch in torch.randperm(len(rows), generator=generator).tensor_split(n_batches):
            set_learning_rate(optimiser, lr_factor(step / n_steps, config.lr_schedule))
            optimiser.zero_grad(set_to_none=True)
            loss(head(embeddings[batch]), targets[batch]).backward()
            optimiser.step()
            step += 1


@torch.no_grad()
def embed(
    network: nn.Module,
    spec: NetworkSpec,
    images: npt.NDArray[np.uint8],
    *,
    rows: npt.NDArray[np.int64],
    batch_size: int = 128,
) -> torch.Tensor:
    """A backbone's pooled output for each chosen face, in eval mode; no more than a batch of pixels is copied at once.

    Returns:
        float32 [chosen, width].
    """
    network.eval()
    device = next(network.parameters()).device
    parts = []
    for i in range(0, len(rows), batch_size):
        batch = torch.from_numpy(images[rows[i : i + batch_size]]).to(device)
        maps = network.forward_features(to_inputs(batch, spec))  # type: ignore[operator]
        parts.append(network.forward_head(maps, pre_logits=True).float())  # type: ignore[operator]
    return torch.cat(parts)


def _linear_head(network: nn.Module, *, backbone: str) -> nn.Linear:
    heads = head_modules(network)
    if len(heads) == 1 and isinstance(heads[0], nn.Linear):
        return heads[0]
    got = ", ".join(type(head).__name__ for head in heads)
    raise ModelError(
        f"backbone must end in one linear layer for head-only epochs, got {got}: {backbone}; set train.head_epochs to 0"
    )
