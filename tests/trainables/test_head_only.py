"""Head-only epochs: the head learns, the backbone stands still."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from spaces.config import TrialConfig
from spaces.errors import ModelError
from trainables.data.table import FaceTable
from trainables.head_only import embed, train_head
from trainables.losses import SmoothedCrossEntropy
from trainables.models.backbones import head_layers
from trainables.models.build import build_trial_network

LOSS = SmoothedCrossEntropy(torch.ones(3), label_smoothing=0.0)


def train(table: FaceTable, config: TrialConfig, rows: np.ndarray) -> tuple[dict[str, torch.Tensor], torch.nn.Module]:
    torch.manual_seed(0)
    network, spec = build_trial_network(config, table.info)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    split = table.split("train")
    train_head(network.train(), spec, split.images, split.expression, rows=rows, loss=LOSS, config=config)
    return before, network


def test_head_only_epochs_change_the_classifier_alone(
    toy_table: FaceTable, make_config: Callable[..., TrialConfig]
) -> None:
    before, network = train(toy_table, make_config({"train.head_epochs": 2}), np.arange(48))

    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"classifier.weight", "classifier.bias"}


def test_head_only_epochs_lower_the_loss_on_their_rows(
    toy_table: FaceTable, make_config: Callable[..., TrialConfig]
) -> None:
    rows = np.arange(5, 41)
    _, network = train(toy_table, make_config({"train.head_epochs": 20, "optimiser.head_only_lr": 0.1}), rows)

    split = toy_table.split("train")
    _, spec = build_trial_network(make_config(), toy_table.info)
    with torch.no_grad():
        logits = head_layers(network)[0](embed(network, spec, split.images, rows=rows))
        loss = LOSS(logits, torch.from_numpy(split.expression[rows].astype(np.int64)))
    assert float(loss) < 0.9 * np.log(3)


def test_embeddings_are_of_the_chosen_rows_whatever_the_batches(
    toy_table: FaceTable, make_config: Callable[..., TrialConfig]
) -> None:
    network, spec = build_trial_network(make_config(), toy_table.info)
    images, rows = toy_table.split("train").images, np.array([40, 3, 7])

    whole = embed(network, spec, images, rows=np.arange(48))
    chosen = embed(network, spec, images, rows=rows, batch_size=2)

    torch.testing.assert_close(chosen, whole[rows], rtol=1e-4, atol=1e-5)


def test_head_only_epochs_are_refused_when_the_head_is_no_linear_layer(
    toy_table: FaceTable, make_config: Callable[..., TrialConfig]
) -> None:
    config = make_config({"model.backbone": "resnetv2_18", "train.head_epochs": 1})

    with pytest.raises(
        ModelError, match=r"one linear layer for head-only epochs, got Conv2d: resnetv2_18; set train\."
    ):
        train(toy_table, config, np.arange(48))
