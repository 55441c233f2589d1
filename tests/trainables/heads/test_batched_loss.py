"""The loss of many configs at once, against the loss of each."""

import numpy as np
import pytest
import torch

from spaces.training_sections import LossConfig
from trainables.heads.batched_loss import BatchedLoss
from trainables.losses.expression import ExpressionLoss

CONFIGS = [
    LossConfig(label_smoothing=0.0),
    LossConfig(label_smoothing=0.3),
    LossConfig(label_smoothing=0.3, smoothing_by="class"),
    LossConfig(label_smoothing=0.2, reduction="weights"),
    LossConfig(name="focal", label_smoothing=0.0, gamma=2.0),
    LossConfig(name="focal", label_smoothing=0.0, gamma=0.5, reduction="weights"),
    LossConfig(name="focal", label_smoothing=0.0, gamma=0.0),
]


def batch(*, labels: list[int]) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    generator = torch.Generator().manual_seed(3)
    logits = 3 * torch.randn(len(labels), 4, len(CONFIGS), generator=generator, dtype=torch.float64)
    weights = np.random.default_rng(3).uniform(0.2, 3.0, (len(CONFIGS), 4)).astype(np.float32).astype(np.float64)
    return logits, torch.tensor(labels), weights


@pytest.mark.parametrize(
    "labels", [[0, 1, 2, 3, 3, 0], [1, -1, 2, -1], [-1, -1]], ids=["known", "some unknown", "none known"]
)
@pytest.mark.parametrize("together", [range(len(CONFIGS)), [0, 1], [4, 5]], ids=["all", "plain", "focal"])
def test_each_config_gets_its_own_loss_and_gradient(labels: list[int], together: list[int]) -> None:
    logits, truth, weights = batch(labels=labels)
    chosen = list(together)

    losses, slopes = BatchedLoss([CONFIGS[i] for i in chosen], weights[chosen], torch.device("cpu")).gradient(
        logits[:, :, chosen], truth
    )

    for place, i in enumerate(chosen):
        own = logits[:, :, i].clone().requires_grad_()
        expected = ExpressionLoss(torch.from_numpy(weights[i]), CONFIGS[i])(own, truth)
        (gradient,) = torch.autograd.grad(expected, own)
        assert losses[place].item() == pytest.approx(expected.item(), rel=1e-6, abs=1e-12)
        torch.testing.assert_close(slopes[:, :, place], gradient, rtol=1e-6, atol=1e-9)


def test_face_that_is_certain_has_a_finite_focal_gradient() -> None:
    logits = torch.tensor([[200.0, 0.0]])[:, :, None]

    loss = BatchedLoss([LossConfig(name="focal", label_smoothing=0.0, gamma=0.5)], np.ones((1, 2)), torch.device("cpu"))

    assert bool(loss.gradient(logits, torch.tensor([0]))[1].isfinite().all())
