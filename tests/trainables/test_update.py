"""One update of weights: the terms it hands back, the norm it clips to, the state it goes on from."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from spaces.training_sections import OptimiserConfig
from trainables.update import Terms, Update


def build_update(*, scaled: bool = False, seed: int = 0, **settings: Any) -> tuple[nn.Linear, Update]:
    torch.manual_seed(seed)
    network = nn.Linear(3, 2)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2) if scaled else None
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.1)
    return network, Update(optimiser, network, OptimiserConfig(**settings), scaler=scaler)


def terms_of(network: nn.Linear, *, scale: float = 1.0) -> Terms:
    outputs = network(torch.arange(12.0).reshape(4, 3) / 12)
    return {"expression": scale * outputs.square().mean(), "partition": scale * outputs.abs().mean()}


def weights_after(network: nn.Linear, update: Update, *, n_steps: int) -> torch.Tensor:
    for _ in range(n_steps):
        update.step([(1.0, lambda: terms_of(network))])
    return network.weight.detach().clone()


def test_step_hands_back_the_terms_and_their_sum_detached() -> None:
    network, update = build_update()
    expected = {name: float(term.detach()) for name, term in terms_of(network).items()}

    terms = update.step([(1.0, lambda: terms_of(network))])

    assert not any(term.requires_grad for term in terms.values())
    found = {name: float(term) for name, term in terms.items()}
    assert found == pytest.approx({**expected, "loss": sum(expected.values())})


def test_sharpness_aware_step_hands_back_the_terms_of_its_first_pass() -> None:
    network, update = build_update(sam_rho=0.5)
    expected = float(terms_of(network)["expression"].detach())

    assert float(update.step([(1.0, lambda: terms_of(network))])["expression"]) == expected


@pytest.mark.parametrize(("clip", "norm"), [(0.5, 0.5), (1e9, None), (0.0, None)], ids=["clipped", "small", "off"])
def test_gradient_is_clipped_to_the_norm(clip: float, norm: float | None) -> None:
    network, update = build_update(grad_clip=clip)
    whole = torch.autograd.grad(sum(terms_of(network, scale=100).values()), list(network.parameters()))  # type: ignore[arg-type]

    update.step([(1.0, lambda: terms_of(network, scale=100))])

    found = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    length = float(nn.utils.get_total_norm(found))
    assert length == pytest.approx(norm or float(nn.utils.get_total_norm(whole)), rel=1e-4)
    assert float(nn.utils.get_total_norm(whole)) > 0.5


@pytest.mark.parametrize(
    ("scaled", "rho"), [(False, 0.0), (True, 0.0), (False, 0.1)], ids=["plain", "scaled", "sharpness-aware"]
)
def test_update_goes_on_bit_by_bit_from_its_state(scaled: bool, rho: float) -> None:
    network, whole = build_update(scaled=scaled, sam_rho=rho)
    expected = weights_after(network, whole, n_steps=7)

    first, cut = build_update(scaled=scaled, sam_rho=rho)
    weights_after(first, cut, n_steps=3)
    second, resumed = build_update(scaled=scaled, sam_rho=rho, seed=9)
    second.load_state_dict(first.state_dict())
    resumed.load_state_dict(cut.state_dict())

    assert torch.equal(weights_after(second, resumed, n_steps=4), expected)


def test_scaler_leaves_the_step_as_it_is_and_its_scale_is_part_of_the_state() -> None:
    (network, plain), (other, scaled) = build_update(), build_update(scaled=True)

    torch.testing.assert_close(weights_after(other, scaled, n_steps=4), weights_after(network, plain, n_steps=4))

    state = scaled.state_dict()
    assert state["scaler"]["scale"] == 32.0  # doubled twice
    assert plain.state_dict()["scaler"] == {}
    _, resumed = build_update(scaled=True)
    resumed.load_state_dict({**state, "scaler": plain.state_dict()["scaler"]})  # from a device that needed none
    resumed.load_state_dict(state)
    assert resumed.state_dict()["scaler"] == state["scaler"]


def test_scaled_step_is_left_out_where_the_gradient_overflows() -> None:
    network, update = build_update(scaled=True)
    before = network.weight.detach().clone()

    update.step([(1.0, lambda: terms_of(network, scale=float("inf")))])

    assert torch.equal(network.weight, before)
    assert update.state_dict()["scaler"]["scale"] == 4.0


def test_parts_of_a_batch_add_up_to_the_whole_batch() -> None:
    faces, labels = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0, 1, 2])

    def pass_over(network: nn.Linear, rows: slice) -> Callable[[], dict[str, torch.Tensor]]:
        return lambda: {"expression": nn.functional.cross_entropy(network(faces[rows]), labels[rows])}

    def moved_by(shares: dict[float, slice]) -> tuple[torch.Tensor, float]:
        torch.manual_seed(0)
        network = nn.Linear(4, 3)
        update = Update(torch.optim.SGD(network.parameters(), lr=0.5), network, OptimiserConfig(grad_clip=0.1))
        terms = update.step([(share, pass_over(network, rows)) for share, rows in shares.items()])
        return network.weight.detach(), float(terms["loss"])

    (whole, loss), (parted, parted_loss) = (
        moved_by({1.0: slice(0, 6)}), moved_by({1 / 3: slice(0, 2), 2 / 3: slice(2, 6)})
    )  # fmt: skip

    torch.testing.assert_close(parted, whole)
    assert parted_loss == pytest.approx(loss)
