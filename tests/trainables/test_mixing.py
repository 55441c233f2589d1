"""Mixed batches: every face with a partner, in one share, repeatable by torch's seed."""

import pytest
import torch

from trainables.data.mixing import Mixing, draw_mixing


@pytest.mark.parametrize("shape", [(6, 3, 8, 8), (6, 5)], ids=["images", "vectors"])
def test_mixed_face_is_its_share_of_itself_and_the_rest_of_its_partner(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(shape)

    mixing = draw_mixing(6, alpha=1.0)
    mixed = mixing.apply(inputs)

    partners, share = mixing
    assert 0 <= share <= 1
    assert partners.dtype == torch.int64
    assert sorted(partners.tolist()) == list(range(6))
    torch.testing.assert_close(mixed, share * inputs + (1 - share) * inputs[partners])


def test_mixing_repeats_itself_by_torchs_seed() -> None:
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(draw_mixing(8, alpha=0.4))

    first, again, other = drawn
    assert torch.equal(first.partners, again.partners)
    assert first.share == again.share != other.share


def test_mixing_mixes_alike_however_often_it_is_applied() -> None:
    inputs, mixing = torch.arange(40.0).reshape(8, 5), draw_mixing(8, alpha=0.4)

    assert torch.equal(mixing.apply(inputs), mixing.apply(inputs))


@pytest.mark.parametrize("alpha", [0.2, 1.0, 8.0])
def test_shares_have_the_spread_of_their_beta_distribution(alpha: float) -> None:
    torch.manual_seed(0)

    shares = torch.tensor([draw_mixing(2, alpha=alpha).share for _ in range(2000)])

    assert float(shares.mean()) == pytest.approx(0.5, abs=0.04)
    assert float(shares.var()) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.15)


def test_faces_stay_nearly_as_they_are_when_alpha_is_tiny() -> None:
    torch.manual_seed(0)

    shares = [draw_mixing(2, alpha=1e-4).share for _ in range(200)]

    assert all(0 <= share <= 1 for share in shares)
    assert sum(min(share, 1 - share) < 1e-6 for share in shares) > 180


def test_mixing_leaves_its_inputs_and_their_layout_as_they_were() -> None:
    inputs = torch.randn(4, 3, 8, 8).to(memory_format=torch.channels_last)
    before = inputs.clone()

    mixed = draw_mixing(4, alpha=1.0).apply(inputs)

    assert torch.equal(inputs, before)
    assert mixed.is_contiguous(memory_format=torch.channels_last)


def test_mixing_keeps_half_precision() -> None:
    mixing = Mixing(torch.tensor([1, 0]), 0.3)

    assert mixing.apply(torch.ones(2, 3, dtype=torch.bfloat16)).dtype == torch.bfloat16
