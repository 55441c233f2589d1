"""Head-only epochs: the heads learn, the backbone stands still; its statistics drift only where that is asked for."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from spaces.config import TrialConfig
from trainables.data.batches import split_targets
from trainables.data.table import FaceTable
from trainables.embeddings.compute import embed_faces
from trainables.embeddings.encoder import FrozenEncoder
from trainables.head_only import train_heads
from trainables.heads.blocks import head_order
from trainables.losses.total import TrialLoss
from trainables.models.architectures.network import ExpressionNetwork
from trainables.models.build import build_trial_network
from trainables.preparation import choose_items
from trainables.stepper import Stepper
from trainables.trainer import Trainer

PLAIN = {"loss.label_smoothing": 0.0, "loss.class_weight_exponent": 0.0}


def train(
    table: FaceTable, config: TrialConfig, rows: np.ndarray[Any, Any]
) -> tuple[dict[str, torch.Tensor], ExpressionNetwork, TrialLoss]:
    torch.manual_seed(0)
    network, spec = build_trial_network(config, table.info)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    split = table.split("train")
    loss = TrialLoss(config, class_counts=np.array([16, 16, 16]), feature_width=network.encoder.feature_width)
    targets = split_targets(split, rows, ())

    def order(epoch: int) -> np.ndarray[Any, Any]:
        return np.random.default_rng(epoch).permutation(len(rows))

    faces = embed_faces(FrozenEncoder(network, spec), table, rows=rows, config=config, cache=None)
    train_heads(network.train(), faces, targets, order=order, loss=loss, config=config)
    return before, network, loss


def changed_names(before: dict[str, torch.Tensor], network: ExpressionNetwork) -> set[str]:
    return {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}


def test_head_only_epochs_change_the_heads_alone(toy_table: FaceTable, make_config: Callable[..., TrialConfig]) -> None:
    before, network, _ = train(toy_table, make_config({"train.head_epochs": 2}), np.arange(48))

    assert changed_names(before, network) == {"heads.linear.weight", "heads.linear.bias"}


@pytest.mark.parametrize("rho", [0.0, 0.05], ids=["plain", "sharpness-aware"])
def test_head_only_epochs_lower_the_loss_on_their_rows(
    toy_table: FaceTable, make_config: Callable[..., TrialConfig], rho: float
) -> None:
    rows = np.arange(5, 41)
    settings = {**PLAIN, "train.head_epochs": 20, "optimiser.head_only_lr": 0.1, "optimiser.sam_rho": rho}
    _, network, loss = train(toy_table, make_config(settings), rows)

    config = make_config(settings)
    _, spec = build_trial_network(config, toy_table.info)
    faces = embed_faces(FrozenEncoder(network, spec), toy_table, rows=rows, config=config, cache=None)
    labels = torch.from_numpy(toy_table.split("train").expression[rows].astype(np.int64))
    with torch.no_grad():
        found = loss.expression(network.heads(torch.from_numpy(faces.views[0]))["logits"], labels)
    assert float(found) < 0.9 * np.log(3)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_running_statistics_drift_in_head_only_epochs_where_batch_norm_trains(
    toy_table: FaceTable, make_config: Callable[..., TrialConfig], mode: str
) -> None:
    settings = {"train.epochs": 0, "train.head_epochs": 2, "train.head_batch_norm": mode}
    trainer = Trainer(make_config(settings), toy_table)
    network = trainer._stepper.network
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    trainer.run_epoch()

    elsewhere = {name for name in changed_names(before, network) if not name.startswith("heads.")}
    statistics = {"running_mean", "running_var", "num_batches_tracked"}
    assert {name.rpartition(".")[2] for name in elsewhere} == (statistics if mode == "train" else set())
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_drifting_head_only_epochs_warm_up_step_by_step(
    toy_table: FaceTable, make_config: Callable[..., TrialConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    progress: list[float] = []
    step = Stepper.step

    def watched(self: Stepper, batch: Any, *, progress: float, seen: list[float] = progress) -> Any:
        seen.append(progress)
        return step(self, batch, progress=progress)

    monkeypatch.setattr(Stepper, "step", watched)
    settings = {"train.epochs": 0, "train.head_epochs": 2, "train.head_batch_norm": "train", "train.batch_size": 12}

    Trainer(make_config(settings), toy_table).run_epoch()

    assert progress == [step / 8 for step in range(8)]  # four batches an epoch


@pytest.mark.parametrize("sampler", ["shuffle", "weighted", "upsample"])
def test_sampler_decides_how_often_a_class_is_seen_in_head_only_epochs(
    make_table: Callable[..., FaceTable], make_config: Callable[..., TrialConfig], sampler: str
) -> None:
    table = make_table(train=[0] * 40 + [1] * 4 + [2] * 4, valid=[0, 1, 2] * 2)
    config = make_config({"data.sampler": sampler, "data.sampler_power": 1.0, "train.head_epochs": 1})
    train = table.split("train")
    items = choose_items(train, config)
    rows = np.unique(items.rows)

    orders = [head_order(items, train.expression, config, rows=rows, epoch=epoch) for epoch in range(1, 21)]

    places = np.concatenate(orders)
    shares = np.bincount(train.expression[rows[places]]) / len(places)
    assert shares == pytest.approx([40 / 48, 4 / 48, 4 / 48] if sampler == "shuffle" else [1 / 3] * 3, abs=0.08)


def test_dropout_stands_before_the_heads_in_head_only_epochs_too(
    toy_table: FaceTable, make_config: Callable[..., TrialConfig]
) -> None:
    rows = np.arange(48)

    found = [
        train(toy_table, make_config({"model.drop_rate": rate, "train.head_epochs": 1}), rows) for rate in (0, 0.5)
    ]

    plain, dropped = (network.state_dict()["heads.linear.weight"] for _, network, _ in found)
    assert not torch.allclose(plain, dropped)
