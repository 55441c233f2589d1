"""The loss on landmarks: squared errors of the coordinates that are known."""

import numpy as np
import pytest
import torch

from trainables.losses.landmarks import landmark_loss


def draw(n: int = 3, *, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 136, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def draw_truth() -> torch.Tensor:
    truth = draw(seed=1)
    truth[1] = float("nan")  # no landmarks found
    truth[2, 5:9] = float("nan")  # two points out of the picture
    return truth


def test_landmark_loss_equals_a_slow_reference() -> None:
    pred, truth = draw(), draw_truth()

    errors = [(p - t) ** 2 for p, t in zip(pred.flatten().tolist(), truth.flatten().tolist(), strict=True) if t == t]

    assert len(errors) == 2 * 136 - 4
    assert float(landmark_loss(pred, truth)) == pytest.approx(np.mean(errors), rel=1e-9)


def test_landmark_loss_has_the_gradient_of_its_value() -> None:
    truth = draw_truth()

    assert torch.autograd.gradcheck(lambda pred: landmark_loss(pred, truth), draw().requires_grad_())


def test_landmark_loss_does_not_move_coordinates_that_are_unknown() -> None:
    pred, truth = draw().requires_grad_(), draw_truth()

    landmark_loss(pred, truth).backward()  # type: ignore[no-untyped-call]

    assert pred.grad is not None and torch.equal(pred.grad.eq(0), truth.isnan())


def test_landmark_loss_is_zero_and_has_a_graph_when_nothing_is_known() -> None:
    pred = draw().requires_grad_()

    loss = landmark_loss(pred, torch.full((3, 136), float("nan")))
    loss.backward()  # type: ignore[no-untyped-call]

    assert float(loss.detach()) == 0
    assert pred.grad is not None and pred.grad.eq(0).all()


def test_landmark_loss_is_computed_in_float32_when_predictions_are_half() -> None:
    assert landmark_loss(draw().half() * 300, draw_truth().float()).isfinite()
    assert landmark_loss(draw().half(), draw_truth().float()).dtype is torch.float32
