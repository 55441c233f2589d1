"""The moving average of weights."""

import pytest
import torch
from torch import nn

from trainables.models.averaging import WeightAverage


def make_network() -> nn.Module:
    return nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))


def set_weight(network: nn.Module, value: float) -> None:
    with torch.no_grad():
        network[0].weight.fill_(value)  # type: ignore[index]
        network[1].running_mean.fill_(value)  # type: ignore[index]


def weight_of(network: nn.Module) -> float:
    return float(network[0].weight.detach())  # type: ignore[index]


def test_average_is_the_network_itself_when_the_decay_is_zero() -> None:
    network = make_network()

    average = WeightAverage(network, decay=0.0)
    average.update(network)

    assert average.network is network


def test_average_follows_its_formula_in_weights_and_statistics() -> None:
    network = make_network()
    average = WeightAverage(network, decay=0.25)

    expected = 0.0
    for step, value in enumerate((1.0, 3.0, -2.0, 5.0), start=1):
        set_weight(network, value)
        average.update(network)
        decay = 0.0 if step == 1 else min(0.25, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value

    assert weight_of(average.network) == pytest.approx(expected)
    assert float(average.network[1].running_mean) == pytest.approx(expected)  # type: ignore[index]
    assert weight_of(network) == 5.0


def test_average_begins_anew_after_a_restart() -> None:
    network = make_network()
    average = WeightAverage(network, decay=0.9)
    set_weight(network, 7.0)

    average.restart(network)

    assert weight_of(average.network) == 7.0


def test_average_goes_on_from_its_state() -> None:
    networks, averages = [make_network() for _ in range(2)], []
    for network in networks:
        set_weight(network, 1.0)
        averages.append(WeightAverage(network, decay=0.5))
    averages[0].update(networks[0])
    set_weight(networks[0], 2.0)
    averages[0].update(networks[0])

    averages[1].load_state_dict(averages[0].state_dict())
    for network, average in zip(networks, averages, strict=True):
        set_weight(network, 9.0)
        average.update(network)

    assert weight_of(averages[1].network) == weight_of(averages[0].network)
