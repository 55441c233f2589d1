"""The head-only epochs: new heads on a network that stands still.

With batch norm in eval mode they see embeddings, so that they cost one forward pass of the data, or none where the
embeddings are in the cache; a sampler's copy of a face is that face once more. With `train.head_batch_norm` at train
they run the whole network on augmented faces, and its running statistics drift (as in the code of Savchenko 2022).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch

from spaces.config import TrialConfig
from trainables.budget import check_time
from trainables.checkpoint import NetworkSpec
from trainables.data.batches import Batch
from trainables.embeddings.faces import EmbeddedFaces
from trainables.losses.total import TrialLoss
from trainables.models.architectures.network import ExpressionNetwork
from trainables.optimisers import build_head_optimiser, lr_factor, set_learning_rate
from trainables.stepper import Stepper
from trainables.update import Terms, Update

Batches = Callable[[int], Iterable[Batch]]
"""From the number of a head-only epoch, 1 first, to its batches."""

Order = Callable[[int], npt.NDArray[np.int64]]
"""From the number of a head-only epoch, 1 first, to places among the chosen rows: [faces of an epoch], at least 2."""


def train_heads(
    network: ExpressionNetwork,
    faces: EmbeddedFaces,
    targets: Mapping[str, torch.Tensor],
    *,
    order: Order,
    loss: TrialLoss,
    config: TrialConfig,
    until_s: float | None = None,
) -> None:
    """Train the heads in place for `train.head_epochs` on embeddings.

    Args:
        network: its heads are trained, the rest is left as it is, running statistics included.
        faces: embedded by its encoder.
        targets: labels of these faces, as in a batch.
        order: of the faces in each epoch; they are as many in all.
        loss: of the trial.
        config: epochs, batch size, rate and schedule.
        until_s: Unix time at which it is given up; None for no end.

    Raises:
        OutOfTime: the time was up before.
    """
    device = next(network.heads.parameters()).device
    labels = {name: numbers.to(device) for name, numbers in targets.items()}
    network.heads.train()
    network.dropout.train()
    update = Update(build_head_optimiser(network.heads.parameters(), config.optimiser), network, config.optimiser)
    epochs, step = config.train.head_epochs, 0
    for epoch in range(1, epochs + 1):
        places = torch.from_numpy(order(epoch))
        shown = faces.draw_views(seed=config.train.seed, epoch=epoch)
        n_batches = max(1, min(round(len(places) / config.train.batch_size), len(places) // 2))
        for chosen in places.tensor_split(n_batches):
            check_time(until_s)
            batch = chosen.to(device)
            embeddings = torch.from_numpy(faces.take(chosen.numpy(), shown)).to(device).float()
            answers = {name: numbers[batch] for name, numbers in labels.items()}
            factor = lr_factor(step / (n_batches * epochs), config.lr_schedule, epochs=epochs)
            set_learning_rate(update.optimiser, factor)

            def terms(embeddings: torch.Tensor = embeddings, answers: Terms = answers) -> Terms:
                return loss(network.heads(network.dropout(embeddings)), answers)  # type: ignore[no-any-return]

            update.step([(1.0, terms)])
            step += 1


def train_heads_drifting(
    network: ExpressionNetwork,
    spec: NetworkSpec,
    batches: Batches,
    *,
    n_batches: int,
    loss: TrialLoss,
    config: TrialConfig,
    until_s: float | None = None,
) -> None:
    """Train the heads in place for `train.head_epochs` on augmented faces, the network in training mode.

    Args:
        network: its heads are trained, and the running statistics of its batch norm drift.
        spec: of the network.
        batches: of each epoch.
        n_batches: of an epoch.
        loss: of the trial.
        config: epochs, rate and schedule.
        until_s: Unix time at which it is given up; None for no end.

    Raises:
        OutOfTime: the time was up before.
    """
    with _only_heads(network):
        network.train()
        optimiser = build_head_optimiser(network.heads.parameters(), config.optimiser)
        epochs, step = config.train.head_epochs, 0
        stepper = Stepper(network, spec, loss=loss, config=config, optimiser=optimiser, epochs=epochs)
        for epoch in range(1, epochs + 1):
            for batch in batches(epoch):
                check_time(until_s)
                stepper.step(batch, progress=step / (n_batches * epochs))
                step += 1


@contextmanager
def _only_heads(network: ExpressionNetwork) -> Iterator[None]:
    """All but the heads stand still while it lasts."""
    in_heads = {id(parameter) for parameter in network.heads.parameters()}
    moving = [p for p in network.parameters() if p.requires_grad and id(p) not in in_heads]
    for parameter in moving:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in moving:
            parameter.requires_grad_(True)
