"""Optimisers by parts of the network, and the learning rate over a trial."""

import math

import pytest
import torch
from torch import nn

from spaces.training_sections import LrScheduleConfig, OptimiserConfig
from trainables.losses.attention import AffinityLoss
from trainables.models.architectures.network import ExpressionNetwork
from trainables.models.backbones import build_network
from trainables.optimisers import build_head_optimiser, build_optimiser, lr_factor, set_learning_rate


@pytest.fixture(scope="module")
def network() -> ExpressionNetwork:
    return build_network("test_efficientnet", n_classes=3)


def group_of(optimiser: torch.optim.Optimizer, parameter: nn.Parameter) -> dict[str, float]:
    return next(g for g in optimiser.param_groups if any(p is parameter for p in g["params"]))


def test_optimiser_moves_every_weight_once(network: ExpressionNetwork) -> None:
    optimiser = build_optimiser(network, OptimiserConfig(head_lr_ratio=3.0))

    moved = [id(p) for group in optimiser.param_groups for p in group["params"]]

    assert sorted(moved) == sorted(id(p) for p in network.parameters())


def test_optimiser_gives_the_head_its_own_rate_and_vectors_no_decay(network: ExpressionNetwork) -> None:
    optimiser = build_optimiser(network, OptimiserConfig(lr=1e-3, head_lr_ratio=10.0, weight_decay=0.1))
    head = network.heads.linear
    first = next(network.parameters())

    assert group_of(optimiser, head.weight)["lr"] == pytest.approx(1e-2)
    assert group_of(optimiser, head.weight)["weight_decay"] == 0.1
    assert group_of(optimiser, head.bias)["weight_decay"] == 0.0
    assert group_of(optimiser, first)["lr"] == pytest.approx(1e-3)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_optimiser_moves_weights_as_torchs_plain_loop_does(name: str) -> None:
    config = OptimiserConfig(name=name, lr=1e-2, weight_decay=0.05)  # type: ignore[arg-type]
    plain = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
    ours, theirs = (build_network("test_efficientnet", n_classes=3) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    matrices = [p for p in theirs.parameters() if p.ndim > 1]
    vectors = [p for p in theirs.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}]
    optimisers = build_optimiser(ours, config), plain(groups, lr=1e-2, foreach=False)

    for step in range(3):
        for net, optimiser in zip((ours, theirs), optimisers, strict=True):
            for p in net.parameters():
                p.grad = torch.full_like(p, 0.1 * (step + 1)) * p.detach().sign()
            optimiser.step()

    for mine, its in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, its)


def test_head_optimiser_has_its_own_rate_and_no_decay(network: ExpressionNetwork) -> None:
    optimiser = build_head_optimiser(network.heads.linear.parameters(), OptimiserConfig(head_only_lr=0.5))

    assert [(g["lr"], g["weight_decay"]) for g in optimiser.param_groups] == [(0.5, 0.0)]


def test_optimiser_leaves_what_stands_still(network: ExpressionNetwork) -> None:
    still = build_network("test_efficientnet", n_classes=3)
    still.encoder.requires_grad_(False)

    optimiser = build_optimiser(still, OptimiserConfig())

    moved = [p for group in optimiser.param_groups for p in group["params"]]
    assert {id(p) for p in moved} == {id(p) for p in still.heads.parameters()}


def test_optimiser_lets_vectors_decay_where_all_do_and_centres_never(network: ExpressionNetwork) -> None:
    loss = AffinityLoss(3, 8)

    optimiser = build_optimiser(network, OptimiserConfig(weight_decay=0.1, decay_on="all"), loss=loss)

    assert group_of(optimiser, network.heads.linear.bias)["weight_decay"] == 0.1
    assert group_of(optimiser, loss.centres)["weight_decay"] == 0.0


def test_sgd_has_momentum(network: ExpressionNetwork) -> None:
    assert {g["momentum"] for g in build_optimiser(network, OptimiserConfig(name="sgd")).param_groups} == {0.9}


def test_learning_rate_is_a_share_of_each_groups_peak(network: ExpressionNetwork) -> None:
    optimiser = build_optimiser(network, OptimiserConfig(lr=1e-3, head_lr_ratio=10.0))

    set_learning_rate(optimiser, 0.5)
    set_learning_rate(optimiser, 0.25)

    assert {round(g["lr"], 9) for g in optimiser.param_groups} == {0.25e-3, 2.5e-3}


@pytest.mark.parametrize("name", ["cosine", "linear", "exponential"])
def test_lr_factor_rises_to_one_then_falls_to_the_final_ratio(name: str) -> None:
    config = LrScheduleConfig(name=name, warmup_ratio=0.1, final_ratio=0.01)  # type: ignore[arg-type]

    factors = [lr_factor(i / 100, config) for i in range(101)]

    assert factors[0] == pytest.approx(1e-3)
    assert factors[10] == pytest.approx(1.0)
    assert factors[100] == pytest.approx(0.01)
    assert factors[:11] == sorted(factors[:11])
    assert factors[10:] == sorted(factors[10:], reverse=True)


def test_lr_factor_follows_the_cosine() -> None:
    config = LrScheduleConfig(name="cosine", warmup_ratio=0.0, final_ratio=0.2)

    assert lr_factor(0.25, config) == pytest.approx(0.2 + 0.8 * 0.5 * (1 + math.cos(math.pi / 4)))


def test_lr_factor_stays_at_one_when_constant() -> None:
    config = LrScheduleConfig(name="constant", warmup_ratio=0.0)

    assert [lr_factor(p, config) for p in (0.0, 0.5, 1.0)] == [1.0, 1.0, 1.0]


def test_lr_factor_is_positive_when_the_final_ratio_is_zero() -> None:
    assert lr_factor(0.5, LrScheduleConfig(name="exponential", final_ratio=0.0)) > 0


def test_lr_factor_falls_by_gamma_at_the_end_of_each_epoch() -> None:
    config = LrScheduleConfig(name="exponential", warmup_ratio=0.0, epoch_gamma=0.6)

    factors = [lr_factor(p, config, epochs=4) for p in (0.0, 0.24, 0.25, 0.5, 0.99, 1.0)]

    assert factors == pytest.approx([1.0, 1.0, 0.6, 0.36, 0.216, 0.216])
