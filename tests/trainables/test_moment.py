"""A moment that one can go back to: running statistics and random numbers, however often it was left."""

import torch
from torch import nn

from trainables.moment import Moment


def build_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Dropout(0.5))


def test_moment_brings_back_statistics_and_random_numbers_as_they_were_last_kept() -> None:
    network, inputs = build_network(), torch.randn(8, 4)
    moment = Moment(network, torch.device("cpu"))
    network(inputs)
    moment.keep()
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    first = network(inputs)
    moment.restore()
    restored = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    again = network(inputs)
    moment.restore()

    assert all(torch.equal(tensor, state[name]) for name, tensor in restored.items())
    assert torch.equal(first, again)
    assert torch.equal(network(inputs), first)


def test_moment_leaves_weights_alone() -> None:
    network = build_network()
    moment = Moment(network, torch.device("cpu"))

    with torch.no_grad():
        network[0].weight.fill_(3.0)  # type: ignore[operator]
    moment.restore()

    assert float(network[0].weight.detach().min()) == 3.0  # type: ignore[operator,union-attr]
