"""The loss of many configs at once, against the loss of each."""

import numpy as np
import pytest
import torch

from spaces.training_sections import LossConfig
from trainables.heads.batched_loss import BatchedLoss
from trainables.losses.class_weights import class_weights
from trainables.losses.expression import ExpressionLoss

COUNTS = np.array([40, 7, 19, 3])
CONFIGS = [
    LossConfig(label_smoothing=0.0),
    LossConfig(label_smoothing=0.3, class_weight_exponent=1.1),
    LossConfig(label_smoothing=0.3, smoothing_by="class", class_weight_form="max_ratio"),
    LossConfig(label_smoothing=0.2, reduction="weights", class_weight_form="mean_ratio"),
    LossConfig(label_smoothing=0.2, smoothing_by="class", reduction="weights", class_weight_form="effective_number"),
    LossConfig(label_smoothing=0.1, class_weights=(0.0, 1.0, 3.0, 2.0), class_weight_form="max_ratio"),
    LossConfig(name="focal", label_smoothing=0.0, gamma=2.0),
    LossConfig(name="focal", label_smoothing=0.0, gamma=0.5, reduction="weights"),
    LossConfig(name="focal", label_smoothing=0.0, gamma=0.0),
]
BATCHES = {
    "known": [0, 1, 2, 3, 3, 0],
    "some unknown": [1, -1, 2, -1],
    "none known": [-1, -1],
    "weightless": [0, 0],
}


@pytest.mark.parametrize("labels", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("together", [range(len(CONFIGS)), [0, 1], [6, 7]], ids=["all", "plain", "focal"])
def test_each_config_gets_its_own_loss_and_slope(labels: list[int], together: list[int]) -> None:
    generator = torch.Generator().manual_seed(3)
    logits = 3 * torch.randn(len(CONFIGS), 4, len(labels), generator=generator, dtype=torch.float64)
    chosen = list(together)
    # Each in float32, as `ExpressionLoss` keeps its weights.
    weights = torch.stack([torch.from_numpy(class_weights(COUNTS, CONFIGS[i])).float().double() for i in chosen])
    truth = torch.tensor(labels)
    known = torch.where(truth < 0, 4, truth)
    loss = BatchedLoss([CONFIGS[i] for i in chosen], weights)

    losses, slopes = loss.losses(logits[chosen], known), loss.slopes(logits[chosen], known)

    for place, i in enumerate(chosen):
        own = logits[i].T.clone().requires_grad_()
        expected = ExpressionLoss(weights[place], CONFIGS[i])(own, truth)
        (gradient,) = torch.autograd.grad(expected, own)
        assert losses[place].item() == pytest.approx(expected.item(), rel=1e-12, abs=1e-15)
        torch.testing.assert_close(slopes[place].T, gradient, rtol=1e-10, atol=1e-14)


def test_loss_of_one_config_does_not_hear_of_anothers_infinite_logits() -> None:
    logits = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(1))
    logits[0] = float("inf")
    labels = torch.tensor(BATCHES["known"])

    slopes = BatchedLoss(CONFIGS[1:3], torch.ones(2, 4)).slopes(logits, labels)

    assert not bool(slopes[0].isfinite().any())
    assert torch.equal(slopes[1:], BatchedLoss(CONFIGS[2:3], torch.ones(1, 4)).slopes(logits[1:], labels))


@pytest.mark.parametrize("logit", [200.0, -200.0], ids=["certain", "quite wrong"])
def test_focal_slope_is_finite_where_a_face_is(logit: float) -> None:
    loss = BatchedLoss([LossConfig(name="focal", label_smoothing=0.0, gamma=0.5)], torch.ones(1, 2))

    slopes = loss.slopes(torch.tensor([[[logit], [0.0]]]), torch.tensor([0]))

    assert bool(slopes.isfinite().all())
