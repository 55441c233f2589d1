"""The mean of networks' weights, and batch norm's statistics after it."""

import numpy as np
import pytest
import torch
from torch import nn

from trainables.checkpoint import NetworkSpec
from trainables.models.architectures.network import ExpressionNetwork
from trainables.models.backbones import build_network
from trainables.models.weight_mean import WeightMean, refresh_batch_norm

SPEC = NetworkSpec("test_efficientnet", ("fear", "joy"), 32, 32, 1, (0.5,) * 3, (0.25,) * 3)
FIRST_NORM = "encoder.backbone.net.bn1"


def network_of(seed: int) -> ExpressionNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_network(SPEC.backbone, n_classes=2)


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (64, 32, 32, 1), dtype=np.uint8)


def test_mean_is_of_all_weights_and_counts_are_the_first_networks() -> None:
    states = [network_of(seed).state_dict() for seed in (1, 2, 3)]
    states[1][f"{FIRST_NORM}.num_batches_tracked"] += 7

    mean = WeightMean(states[0]).with_one(states[1]).with_one(states[2])

    tensors = mean.tensors()
    for name, tensor in tensors.items():
        expected = sum(state[name] for state in states) / 3 if tensor.is_floating_point() else states[0][name]
        torch.testing.assert_close(tensor, expected)
    network_of(4).load_state_dict(tensors)


def test_mean_with_another_network_leaves_the_mean_before_it_alone() -> None:
    states = [network_of(seed).state_dict() for seed in (1, 2)]
    mean = WeightMean(states[0])

    mean.with_one(states[1])

    for name, tensor in mean.tensors().items():
        torch.testing.assert_close(tensor, states[0][name])


def test_batch_norm_has_drifted_where_networks_have_other_statistics() -> None:
    states = [network_of(seed).state_dict() for seed in (1, 2, 3)]
    for state in states[1:]:
        state[f"{FIRST_NORM}.running_mean"] = torch.full_like(state[f"{FIRST_NORM}.running_mean"], 0.5)

    mean = WeightMean(states[0])

    assert mean.drifted == frozenset()
    assert mean.with_one(states[1]).with_one(states[2]).drifted == {FIRST_NORM}


def test_statistics_are_the_mean_over_the_batches(images: np.ndarray) -> None:
    network = network_of(1)
    norms = {name: module for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)}
    seen: list[torch.Tensor] = []
    norms[FIRST_NORM].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].mean(dim=(0, 2, 3))))
    momentum = norms[FIRST_NORM].momentum
    batches = [np.arange(0, 20), np.arange(20, 64)]

    refresh_batch_norm(network, SPEC, images, modules=frozenset(norms), batches=batches)

    torch.testing.assert_close(norms[FIRST_NORM].running_mean, torch.stack(seen).mean(dim=0))
    assert norms[FIRST_NORM].momentum == momentum
    assert not any(module.training for module in network.modules())


def test_only_the_named_statistics_are_measured_anew(images: np.ndarray) -> None:
    network = network_of(1)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    refresh_batch_norm(network, SPEC, images, modules=frozenset({FIRST_NORM}), batches=[np.arange(64)])

    after = network.state_dict()
    changed = {name.rpartition(".")[0] for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert changed == {FIRST_NORM}


def test_nothing_is_computed_when_no_statistics_have_drifted(images: np.ndarray) -> None:
    network = network_of(1)
    network.register_forward_pre_hook(lambda *_: pytest.fail("the network was asked"))

    refresh_batch_norm(network, SPEC, images, modules=frozenset(), batches=[np.arange(64)])


def test_dropout_stays_out_while_statistics_are_measured(images: np.ndarray) -> None:
    network = network_of(1)
    network.dropout = nn.Dropout(0.9)
    torch.manual_seed(0)
    state = torch.random.get_rng_state()

    refresh_batch_norm(network, SPEC, images, modules=frozenset({FIRST_NORM}), batches=[np.arange(64)])

    assert torch.equal(torch.random.get_rng_state(), state)
