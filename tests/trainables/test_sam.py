"""Sharpness-aware steps: as in a slow reference, weights put back to the last bit, statistics moved once or twice."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from spaces.training_sections import OptimiserConfig
from trainables.sam import perturbed, still_statistics
from trainables.update import Terms, Update


def build_network(*, norm: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    middle: list[nn.Module] = [nn.BatchNorm1d(5)] if norm else []
    return nn.Sequential(nn.Linear(4, 5), *middle, nn.Tanh(), nn.Linear(5, 3))


def draw_batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(8, 4, generator=generator), torch.arange(8) % 3


def loss_of(network: nn.Module) -> Callable[[], Terms]:
    inputs, labels = draw_batch()
    return lambda: {"expression": nn.functional.cross_entropy(network(inputs), labels)}


def build_update(network: nn.Module, *, rho: float, clip: float = 0.0, batch_norm: str = "first") -> Update:
    config = OptimiserConfig(sam_rho=rho, grad_clip=clip, sam_batch_norm=batch_norm)  # type: ignore[arg-type]
    return Update(torch.optim.SGD(network.parameters(), lr=0.5, momentum=0.9), network, config)


def reference_step(network: nn.Module, *, rho: float, clip: float, lr: float = 0.5) -> list[torch.Tensor]:
    """Foret et al. 2021, algorithm 1, written out in float64: the gradient at w + rho * g / |g|, stepped from w."""
    inputs, labels = draw_batch()
    weights = [parameter.detach().double() for parameter in network.parameters()]

    def gradient(at: list[torch.Tensor]) -> list[torch.Tensor]:
        w1, b1, w2, b2 = (each.clone().requires_grad_() for each in at)
        logits = torch.tanh(inputs.double() @ w1.T + b1) @ w2.T + b2
        loss = -torch.log_softmax(logits, dim=1)[range(8), labels].mean()
        return list(torch.autograd.grad(loss, [w1, b1, w2, b2]))

    def length(of: list[torch.Tensor]) -> float:
        return float(sum(float((each**2).sum()) for each in of) ** 0.5)

    here = gradient(weights)
    there = gradient([w + rho * g / length(here) for w, g in zip(weights, here, strict=True)])
    share = min(1.0, clip / length(there)) if clip else 1.0
    return [w - lr * share * g for w, g in zip(weights, there, strict=True)]


@pytest.mark.parametrize("clip", [0.0, 0.05], ids=["free", "clipped"])
def test_sharpness_aware_step_is_that_of_the_paper(clip: float) -> None:
    network = build_network()
    expected = reference_step(network, rho=0.3, clip=clip)
    plain = reference_step(network, rho=0.0, clip=clip)

    build_update(network, rho=0.3, clip=clip).step([(1.0, loss_of(network))])

    for found, wanted, other in zip(network.parameters(), expected, plain, strict=True):
        torch.testing.assert_close(found.detach().double(), wanted, rtol=1e-5, atol=1e-6)
        assert not torch.allclose(found.detach().double(), other, rtol=1e-5, atol=1e-6)


def test_radius_0_takes_a_plain_step() -> None:
    network, plain = build_network(), build_network()
    optimiser = torch.optim.SGD(plain.parameters(), lr=0.5)

    build_update(network, rho=0.0).step([(1.0, loss_of(network))])
    loss_of(plain)()["expression"].backward()  # type: ignore[no-untyped-call]
    optimiser.step()

    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), plain.parameters(), strict=True))


def test_weights_are_moved_by_the_radius_and_put_back_to_the_last_bit() -> None:
    network = build_network()
    loss_of(network)()["expression"].backward()  # type: ignore[no-untyped-call]
    weights = list(network.parameters())
    before = [weight.detach().clone() for weight in weights]

    with perturbed(weights, rho=0.3):
        moves = [weight.detach() - old for weight, old in zip(weights, before, strict=True)]

    assert float(torch.cat([move.flatten() for move in moves]).norm()) == pytest.approx(0.3, rel=1e-4)
    assert all(torch.equal(weight, old) for weight, old in zip(weights, before, strict=True))


def test_weights_are_put_back_when_the_second_pass_fails() -> None:
    network = build_network(norm=True)
    before = {name: tensor.clone() for name, tensor in network.named_parameters()}
    compute, passes = loss_of(network), iter([True, False])

    def fail_at_second() -> Terms:
        if not next(passes):
            raise RuntimeError("no memory left")
        return compute()

    with pytest.raises(RuntimeError, match="no memory left"):
        build_update(network, rho=0.3).step([(1.0, fail_at_second)])

    assert all(torch.equal(tensor, before[name]) for name, tensor in network.named_parameters())
    assert all(module.track_running_stats for module in network.modules() if isinstance(module, nn.BatchNorm1d))


def test_weights_without_a_gradient_stay_where_they_are() -> None:
    network = build_network()
    first = network[0].requires_grad_(False)
    assert isinstance(first, nn.Linear)
    loss_of(network)()["expression"].backward()  # type: ignore[no-untyped-call]
    before = first.weight.clone()

    with perturbed(list(network.parameters()), rho=0.3):
        assert torch.equal(first.weight, before)
    with perturbed([nn.Parameter(torch.ones(2))], rho=0.3):
        pass


@pytest.mark.parametrize(("batch_norm", "n_moves"), [("first", 1), ("both", 2)])
def test_running_statistics_move_with_the_first_pass_or_with_both(batch_norm: str, n_moves: int) -> None:
    network, by_hand = build_network(norm=True), build_network(norm=True)
    update = build_update(network, rho=0.3, batch_norm=batch_norm)

    update.step([(1.0, loss_of(network))])
    loss_of(by_hand)()["expression"].backward()  # type: ignore[no-untyped-call]
    if n_moves == 2:
        with perturbed(list(by_hand.parameters()), rho=0.3):
            loss_of(by_hand)()

    found, expected = dict(network.named_buffers()), dict(by_hand.named_buffers())
    assert int(found["1.num_batches_tracked"]) == n_moves
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())


def test_still_statistics_normalise_by_the_batch_and_leave_eval_mode_alone() -> None:
    norm, other = nn.BatchNorm1d(4), nn.BatchNorm1d(4).eval()
    network = nn.ModuleList([norm, other])
    inputs, _ = draw_batch()
    expected = nn.BatchNorm1d(4)(inputs)

    with still_statistics(network):
        found, elsewhere = norm(inputs), other(inputs)

    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(elsewhere, inputs / (1 + other.eps) ** 0.5)
    assert float(norm.running_mean.abs().max()) == 0.0  # type: ignore[union-attr]
    norm(inputs)
    assert float(norm.running_mean.abs().max()) > 0.0  # type: ignore[union-attr]
